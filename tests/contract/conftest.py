"""One month of history, made once, for every test that reads.

Commands run in this process, as their entry point does.
"""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from crewmeter_cost.cli import main


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


def crewmeter(*words: str) -> Said:
    """``crewmeter WORDS…`` through the script's own entry point, without paying for a process."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["crewmeter", *words]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
        code = 0
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    finally:
        sys.argv = argv
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def history(tmp_path_factory) -> str:
    """A ledger with three days of the demo's history."""
    path = str(tmp_path_factory.mktemp("contract") / "ledger.db")
    said = crewmeter(
        "demo", "--days", "3", "--seed", "5", "--until", "2026-11-20T12:00:00Z", "--ledger", path
    )
    assert said.code == 0, said.err
    return path


@pytest.fixture(scope="session")
def command():
    """Runs a command: ``command("report", "--by", "team")``."""
    return crewmeter
