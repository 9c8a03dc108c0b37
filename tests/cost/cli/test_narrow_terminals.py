"""Terminals of 60, 80 and 120 columns: every line fits, and no amount is cut."""

from __future__ import annotations

import contextlib
import re
import sys

import pytest
from sqlalchemy import text

from crewmeter_cost.cli import main

COMMANDS = {
    "report": ("report", "--by", "crew", "--by", "model"),
    "runs": ("runs", "--limit", "20", "--order", "cost"),
    "show": ("show", "last"),
    "statement": ("statement", "--month", "2026-11", "--allocate", "proportional"),
    "watch": ("watch", "--once", "--until", "2026-11-21T12:00Z"),
    "forecast": ("forecast", "--by", "team", "--at", "2026-11-21T12:00Z"),
    "savings": ("report", "--savings"),
    "price": ("price", "gpt-4o"),
}
LONG = "a-crew-whose-name-nobody-would-ever-want-to-read-twice-in-one-terminal-window"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Three days of sample data, with one crew of a very long name."""
    from datetime import UTC, datetime

    from crewmeter_cost.demo.history.load import load_history
    from crewmeter_cost.ledger.store import Ledger

    where = str(tmp_path_factory.mktemp("narrow") / "ledger.db")
    until = datetime(2026, 11, 21, 12, tzinfo=UTC)
    with Ledger.open(where) as ledger:
        load_history(ledger, days=3, seed=3, until=until, calls_per_day=60)
        with ledger.engine.begin() as connection:
            rename = text("UPDATE label SET value = :name WHERE value = 'market-research'")
            connection.execute(rename, {"name": LONG})
    return where


@pytest.fixture
def screen(monkeypatch, capsys, path):
    """Print a command at a width; gives its lines."""

    def run(name: str, width: int) -> list[str]:
        words = list(COMMANDS[name])
        if name != "price":
            words += ["--ledger", path]
        monkeypatch.setattr(sys, "argv", ["crewmeter", *words])
        monkeypatch.setenv("COLUMNS", str(width))
        with contextlib.suppress(SystemExit):
            main()
        return capsys.readouterr().out.splitlines()

    return run


def amounts(lines: list[str]) -> list[str]:
    """Every amount of money in a table, in the order of its lines."""
    return re.findall(r"\$[\d,]+\.\d+\*?", "\n".join(lines))


@pytest.mark.parametrize("name", COMMANDS)
def test_narrow_terminals_never_cut_money(screen, name):
    """The amounts at 60 columns are among those at 120, none with an ellipsis or on two lines."""
    wide = amounts(screen(name, 200))
    for width in (60, 80, 120):
        lines = screen(name, width)
        table = [line for line in lines if "`" not in line and ": " not in line]
        assert max(map(len, table)) <= width, (width, max(table, key=len))
        found = amounts(lines)
        assert set(found) <= set(wide)
        assert found, lines
        assert not re.search(r"\$[\d,.]*…|\$\s*$", "\n".join(table))
    last = [amount for amount in amounts(screen(name, 60)) if amount]
    assert len(last) >= len(wide) // 3


def test_names_are_shortened_in_the_middle(screen):
    """A long name keeps both its ends."""
    lines = screen("report", 60)
    shortened = [line for line in lines if line.startswith("a-")]
    assert shortened
    assert all("…" in line for line in shortened)
    assert any(LONG in line for line in screen("report", 200))
