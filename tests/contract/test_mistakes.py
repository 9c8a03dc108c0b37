"""Bad input of each kind.

Exit code 2, the culprit and the way out on stderr, nothing on stdout, no traceback.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest


def refused(said, culprit: str) -> None:
    """The answer to a mistake."""
    assert (said.code, said.out) == (2, "")
    assert culprit in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["report", "--by", "colour"], "colour"),
        (["report", "--by", "tag:"], "tag:"),
        (["report", "--since", "soon"], "--since"),
        (["report", "--since", "now", "--until", "2d"], "--until"),
        (["report", "--wrong"], "--wrong"),
        (["report", "--format", "xml"], "xml"),
        (["runs", "--format", "xml"], "xml"),
        (["nonsense"], "nonsense"),
        (["show", "no-such-run"], "no-such-run"),
        (["show", "last", "--until", "2001-01-01"], "no run"),
        (["export", "--format", "xml"], "xml"),
        (["audit", "no-such-file.csv"], "no-such-file.csv"),
        (["run", "no-such-file.py"], "no-such-file.py"),
        (["price"], "MODEL"),
        (["price", "gpt-4o", "--input", "-3"], "--input"),
        (["price", "gpt-4o", "--usage", "{bad"], "--usage"),
        (["price", "gpt-4o", "--input", "3", "--at", "someday"], "--at"),
        (["budget", "set", "garbage"], "garbage"),
        (["budget", "remove", "no-such-budget"], "no-such-budget"),
        (["serve", "--http-port", "99999"], "--http-port"),
        (["runs", "--limit", "9" * 20], "--limit"),
        (["runs", "--search", "\udcff"], "UTF-8"),
        (["show", "\udcff"], "UTF-8"),
        (["report", "--where", "user=\udcff"], "UTF-8"),
        (["budget", "set", "5usd/day", "--name", "\udcff"], "UTF-8"),
    ],
    ids=str,
)
def test_wrong_usage_exits_with_2(command, history, monkeypatch, words, culprit):
    """Wrong words, unknown runs and missing files are the user's to mend: code 2."""
    monkeypatch.setenv("CREWMETER_LEDGER", history)
    refused(command(*words), culprit)


def test_a_wrong_ledger_is_named(command, history, tmp_path):
    """Missing, empty, foreign, damaged and newer files and wrong URLs are refused by name, and
    stay as they were.
    """
    (tmp_path / "text.db").write_text("not a database, whatever it is called" * 50)
    (tmp_path / "zero.db").touch()
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE shopping(item)")
    shutil.copy(history, tmp_path / "newer.db")
    with closing(sqlite3.connect(tmp_path / "newer.db")) as newer:
        newer.execute("UPDATE crewmeter_schema SET version_num = '9999'")
        newer.commit()
    for name in ("none.db", "text.db", "zero.db", "other.db", "newer.db"):
        path = tmp_path / name
        before = path.read_bytes() if path.exists() else None
        refused(command("report", "--ledger", str(path)), name)
        assert (path.read_bytes() if path.exists() else None) == before
    for url in ("mysql://host/db", "nonsense://x"):
        refused(command("report", "--ledger", url), url)


@pytest.mark.parametrize(
    ("name", "text", "culprit"),
    [
        ("prices.toml", "x = [", "prices.toml line 1"),
        ("prices.toml", "[aliases]\n\na = [1,\n\n# the end\n", "prices.toml line 3"),
        ("prices.toml", '[aliases]\na = "b\nc = "d"\n', "prices.toml line 2"),
        ("prices.toml", '[aliases]\na = "b"\na = "c"\n', "prices.toml line 3"),
        ("prices.toml", '[aliases]\na = """b\nc = "d"\n', "prices.toml line 2"),
        ("prices.toml", "[aliases]\na =", "prices.toml line 2"),
        ("prices.yaml", "a: 1\nb: [1\n c: }", "prices.yaml line 3"),
        ("prices.toml", "\n[[models]]\nrate = 1\n", "prices.toml line 2: models"),
        ("prices.yaml", "aliases:\n  - 3\n", "aliases"),
        ("prices.txt", "", "prices.txt"),
    ],
)
def test_a_wrong_price_file_is_named_with_its_line(
    command, monkeypatch, tmp_path, name, text, culprit
):
    """CREWMETER_PRICES in TOML or YAML: file and line of the mistake."""
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("CREWMETER_PRICES", str(tmp_path / name))
    refused(command("price", "gpt-4o", "--input", "1"), culprit)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("budgets.toml", '[[budget]]\namount = "5 USD/day"\n\n[[budget]]\namount = [\n', 5),
        ("budgets.toml", '[[budget]]\namount = "5 USD/day\n', 2),
        ("budgets.yaml", "budget:\n  - amount: 5\n   bad\n", 3),
    ],
)
def test_a_wrong_budgets_file_is_named_with_its_line(
    command, history, monkeypatch, tmp_path, name, text, line
):
    """CREWMETER_BUDGETS as a file.

    Its path, the line of the mistake and the way out, each on one line.
    """
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("CREWMETER_BUDGETS", str(tmp_path / name))
    said = command("budget", "status", "--ledger", history)
    refused(said, f"{name} line {line}")
    assert said.err.count("\n") == 2
    assert "docs/budgets.md" in said.err


@pytest.mark.parametrize("budgets", ["nonsense", "5 USD/fortnight", "-1 USD/day"])
def test_wrong_budgets_are_named(command, monkeypatch, history, budgets):
    """CREWMETER_BUDGETS that cannot be meant: named, never ignored, and no Python class names."""
    monkeypatch.setenv("CREWMETER_BUDGETS", budgets)
    said = command("budget", "status", "--ledger", history)
    refused(said, "CREWMETER_BUDGETS")
    assert "FileNotFoundError" not in said.err


def test_no_price_is_an_answer(command):
    """An unknown model costs null with a status; the command did as requested: code 0."""
    said = command("price", "gpt-9", "--input", "5", "--format", "json")
    assert said.code == 0
    assert '"cost_usd": null' in said.out
    assert '"cost_status": "unknown_model"' in said.out


def test_an_exceeded_budget_exits_with_1(command, history, monkeypatch):
    """`budget status` is a check: 0 within, 1 exceeded."""
    monkeypatch.setenv("CREWMETER_BUDGETS", "1000000 USD/total")
    within = command("budget", "status", "--ledger", history)
    monkeypatch.setenv("CREWMETER_BUDGETS", "0.000001 USD/total")
    over = command("budget", "status", "--ledger", history)
    assert (within.code, over.code) == (0, 1), within.err + over.err


@pytest.mark.parametrize(
    "words",
    [
        ["reprice"],
        ["prune", "--keep", "1d"],
        ["budget", "remove", "x"],
        ["budget", "status"],
        ["forecast"],
        ["statement"],
        ["whatif", "--tier", "batch"],
    ],
    ids=str,
)
def test_only_what_records_makes_a_ledger(command, monkeypatch, tmp_path, words):
    """Reading, re-pricing and pruning where nothing was ever recorded.

    Said, and no empty ledger left behind.
    """
    monkeypatch.setenv("CREWMETER_LEDGER", str(tmp_path / "none.db"))
    refused(command(*words), "there is no ledger at")
    assert not (tmp_path / "none.db").exists()


def test_a_terminal_without_dashes_gets_question_marks(history):
    """An output that can't say "–" is no reason for a traceback."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = [
        sys.executable,
        "-c",
        "from crewmeter_cost.cli import main; main()",
        "report",
        "--by",
        "crew",
        "--ledger",
        history,
    ]
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"total" in done.stdout
