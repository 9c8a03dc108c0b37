"""Run an app as a user does, in a process of its own, and read what the meter wrote about it."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support.environment import quiet_environment
from support.rows import call_rows, step_rows
from support.warm_python import run_python

__all__ = ["Ran", "run_app"]


@dataclass(frozen=True)
class Ran:
    """A finished app: its exit code, what it printed, and its ledger."""

    returncode: int
    stdout: str
    stderr: str
    ledger: Path

    @property
    def calls(self) -> list[dict[str, object]]:
        """The billed calls in the ledger, oldest first."""
        return call_rows(self.ledger)

    @property
    def steps(self) -> list[dict[str, object]]:
        """The steps in the ledger, oldest first."""
        return step_rows(self.ledger)


def run_app(
    script: str | Path,
    *arguments: str,
    ledger: Path,
    provider_url: str | None = None,
    env: dict[str, str] | None = None,
    python: str = sys.executable,
    timeout: float = 600,
    check: bool = True,
) -> Ran:
    """Run `script`, a file or source text with a newline in it, with `ledger` as its ledger.

    The app finds the fake provider through ``PROVIDER_URL``. With `check` a non-zero exit fails the
    test, with what came on stderr.
    """
    with tempfile.TemporaryDirectory(prefix="crewmeter-app-", ignore_cleanup_errors=True) as home:
        if isinstance(script, str) and "\n" in script:
            path = Path(home) / "app.py"
            path.write_text(script)
        else:
            path = Path(script)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "CREWMETER_"))
        }
        environment |= quiet_environment(Path(home)) | {
            "CREWMETER_LEDGER": str(ledger),
            "OPENAI_API_KEY": "sk-fake",
        }
        if provider_url:
            environment["PROVIDER_URL"] = provider_url
        done = run_python(
            str(path), *arguments, env=environment | (env or {}), python=python, timeout=timeout
        )
    if check and done.returncode != 0:
        printed = f"{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        raise AssertionError(f"{path.name} exited with {done.returncode}\n{printed}")
    return Ran(done.returncode, done.stdout, done.stderr, ledger)
