"""Help pages in words, and budgets that say what they will do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.ledger_build import CONTEXT, call, frozen, priced

from crewmeter_cost.cli import COMMANDS, main
from crewmeter_cost.ledger.store import Ledger


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command in this process; gives exit code, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crewmeter", *words])
        monkeypatch.setenv("COLUMNS", "100")
        code = 0
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_page_is_in_words_and_has_two_examples(command, name):
    """No types and no ranges of numbers; every page ends with two examples of the command."""
    code, out, _ = command(name, "--help")
    assert code == 0
    assert not re.search(r"<\w+>|\[\d*[<>]=?|\bx[<>]=", out), out
    examples = [line.strip() for line in out.splitlines() if line.strip().startswith("$ ")]
    assert len(examples) >= 2
    assert all(example.startswith(f"$ crewmeter {name}") for example in examples)


def test_commands_are_grouped(command):
    """`crewmeter --help` lists the commands to look, for money, to run and to operate."""
    _, out, _ = command("--help")
    for group in ("Look", "Money", "Run", "Operate"):
        assert re.search(rf"─ {group} ─", out)


def test_a_shell_completes_commands_and_options():
    """Completion knows the options of the command being typed."""
    script = str(Path(sys.executable).with_name("crewmeter"))
    typed = {"_CREWMETER_COMPLETE": "complete_bash", "COMP_WORDS": "crewmeter report --si"}
    done = subprocess.run(
        [script],
        env={**os.environ, **typed, "COMP_CWORD": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["--since"]


@pytest.fixture
def path(ledger_path):
    """A ledger in which crew research spent $2 a moment ago."""
    now = time.time_ns() - 10**9
    with Ledger.open(str(ledger_path)) as ledger:
        spent = call(1, started_ns=now, ended_ns=now + 1000, context=CONTEXT)
        ledger.write([(spent, priced(2 * 10**12))], [], frozen)
    return str(ledger_path)


def test_a_budget_says_what_is_already_spent(command, path):
    """Soft by default, and the share of the amount that is spent, at once."""
    code, out, err = command("budget", "set", "crew:research 4 USD/day", "--ledger", path)
    assert (code, err) == (0, "")
    assert "soft: gives notice only" in out
    assert "$2.00 of $4.00 spent in this period (50 %)" in out


def test_a_hard_budget_that_is_exceeded_says_that_the_next_call_is_refused(command, path):
    """The consequence stands beside the share."""
    words = ("budget", "set", "crew:research 1 USD/day", "--ledger", path)
    _, out, _ = command(*words, "--hard")
    assert "hard: stops calls" in out
    assert "already exceeded, 200 %" in out
    assert "the next call is refused" in out
    _, out, _ = command(*words)
    assert "calls go on" in out


@pytest.mark.parametrize(
    ("scope", "nearest"), [("crew:reserach", "research"), ("team:grwth", "growth")]
)
def test_a_name_never_seen_is_a_warning_with_the_nearest(command, path, scope, nearest):
    """The budget is set all the same: its crew may run for the first time tomorrow."""
    code, out, err = command("budget", "set", f"{scope} 1 USD/day", "--ledger", path)
    assert code == 0
    assert "set:" in out
    assert f"did you mean {nearest!r}?" in err
