"""Run the observed app in an environment, and write what was measured into docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Finished", "markdown_table", "run_observed", "versions_line", "write_section"]

ROOT = Path(__file__).parents[1]
APP = ROOT / "benchmarks/observed_app.py"
PAGE = ROOT / "docs/benchmarks.md"
QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TESTING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OPENAI_API_KEY": "sk-bench",
}


@dataclass(frozen=True)
class Finished:
    """An app that ended: what it printed last, when it ended (unix seconds), and how."""

    result: object
    ended: float
    exit_code: int
    stderr: str


def run_observed(
    *arguments: str,
    home: Path,
    provider: str,
    sink: str,
    python: str = sys.executable,
    timeout: float = 600,
    **variables: str,
) -> Finished:
    """Run ``observed_app.py ARGUMENTS…`` to its end.

    An app that does not end within `timeout` is killed, and has the exit code -9.
    """
    environment = {name: value for name, value in os.environ.items() if "OTEL_" not in name}
    environment |= QUIET | {
        "HOME": str(home),
        "CREWAI_STORAGE_DIR": str(home / "crewai"),
        "CREWMETER_LEDGER": str(home / "ledger.db"),
        "BENCH_PROVIDER": provider,
        "BENCH_SINK": sink,
        "PROVIDER_URL": provider.removesuffix("/v1"),
    }
    environment |= variables
    process = subprocess.Popen(
        [python, str(APP), *arguments],
        env=environment,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    ended = time.time()
    results = [line for line in out.splitlines() if line.startswith("RESULT ")]
    result = json.loads(results[-1].removeprefix("RESULT ")) if results else None
    return Finished(result, ended, process.returncode, err)


def markdown_table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table with its first column left and the others right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def versions_line(python: str, distributions: list[str]) -> str:
    """Return the date, the machine, and the versions installed for an interpreter."""
    code = (
        "import importlib.metadata as m, sys\n"
        "for name in sys.argv[1:]: print(name, m.version(name))"
    )
    printed = subprocess.run(
        [python, "-c", code, *distributions], capture_output=True, text=True, check=True
    ).stdout
    parts = [time.strftime("%Y-%m-%d"), f"Python {platform.python_version()}"]
    parts += [f"{os.cpu_count()} cores", *printed.splitlines()]
    return ", ".join(parts)


def write_section(name: str, text: str) -> None:
    """Replace a generated section of docs/benchmarks.md."""
    page = PAGE.read_text("utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if pattern.search(page) is None:
        sys.exit(f"error: no section {name!r} in {PAGE}")
    PAGE.write_text(pattern.sub(lambda found: found[1] + text + "\n" + found[2], page), "utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}, section {name}")
