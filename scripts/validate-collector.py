#!/usr/bin/env python3
"""Let the real collector check a configuration, and say in which line the mistake is (the
collector itself doesn't).

    scripts/validate-collector.py path/to/crewmeter-otelcol base.yaml gateway.yaml

Exit code 0: valid. 1: not; the collector's message follows the position, as ``file:line: text``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DEFAULTS = {
    "CREWMETER_APPS_TOKEN": "validate",
    "CREWMETER_LANGFUSE_KEYS": "validate",
    "CREWMETER_TOKEN": "validate",
    "CREWMETER_GATEWAY_A": "http://127.0.0.1:4318",
    "CREWMETER_GATEWAY_B": "http://127.0.0.1:4318",
}
"""Variables without a default; what they hold doesn't matter here."""


def complaint(binary: str, files: list[Path]) -> str:
    """Return what the collector has against these files, merged in order, or ""."""
    done = subprocess.run(
        [binary, "validate", *(f"--config={file}" for file in files)],
        env=DEFAULTS | os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return (
        ""
        if done.returncode == 0
        else (done.stderr + done.stdout).strip() or f"{binary} exited with {done.returncode}"
    )


def culprits(message: str) -> list[str]:
    """Words of the message that may occur in the file, the most telling first."""
    invalid = [
        word.strip(" '\"")
        for found in re.findall(r"invalid keys?: ([^\n]+)", message)
        for word in found.split(",")
    ]
    quoted = re.findall(r"['\"]([^'\"\s\[\]]+)['\"]", message)
    return invalid + quoted[::-1]


def position(message: str, files: list[Path]) -> str | None:
    """Return ``file:line: text`` of the first culprit found, None without one.

    It is looked for inside the component that the message names before anywhere else.
    """
    if line := re.search(r"yaml: line (\d+)", message):
        number, file = int(line[1]), files[-1]
        return f"{file}:{number}: {file.read_text().splitlines()[number - 1].strip()}"
    component = re.search(r"(?:for |::)\"?([a-z_]+/[\w-]+)", message)
    named = [span for file in files if component and (span := block(file, component[1]))]
    for lines in (named, [(file, 0, len(file.read_text().splitlines())) for file in files]):
        for word in culprits(message):
            pattern = re.compile(rf"(?<![\w/]){re.escape(word)}(?![\w/])")
            for file, first, end in lines:
                for number, text in enumerate(
                    file.read_text().splitlines()[first:end], start=first + 1
                ):
                    if pattern.search(text.split(" #")[0]):
                        return f"{file}:{number}: {text.strip()}"
    return None


def block(file: Path, component: str) -> tuple[Path, int, int] | None:
    """Return the lines (first, end) in which `file` configures `component`.

    Its key and everything indented deeper.
    """
    lines = file.read_text().splitlines()
    first = next((i for i, text in enumerate(lines) if text.strip() == f"{component}:"), None)
    if first is None:
        return None
    depth = len(lines[first]) - len(lines[first].lstrip())
    end = next(
        (
            i
            for i in range(first + 1, len(lines))
            if lines[i].strip() and len(lines[i]) - len(lines[i].lstrip()) <= depth
        ),
        len(lines),
    )
    return file, first, end


def main() -> int:
    binary, *names = sys.argv[1:]
    files = [Path(name) for name in names]
    message = complaint(binary, files)
    if not message:
        return 0
    where = position(message, files)
    sys.stderr.write(f"{where}\n{message}\n" if where else f"{message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
