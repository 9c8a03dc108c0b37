"""What commands print at 60, 80 and 120 columns, as it is stored.

`CREWMETER_TEST_SNAPSHOTS=write pytest tests/cost/cli/test_snapshots.py` stores what they print now;
look at the difference before you commit it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import re
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

import crewmeter_cost.analysis
import crewmeter_cost.cli
import crewmeter_cost.finance
from crewmeter_cost.cli import main
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger

SNAPSHOTS = Path(__file__).parent / "snapshots"
WRITES = os.environ.get("CREWMETER_TEST_SNAPSHOTS") == "write"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
WINDOW = ("--since", "2026-11-14", "--until", "2026-11-21T12:00Z")
RUN = "c0ffee"
"""Stands for the id of the window's most expensive run."""
COMMANDS = {
    "report": ("report", "--by", "crew", "--by", "model", *WINDOW),
    "report_by_team_and_day": ("report", "--by", "team", "--by", "day", *WINDOW, "--limit", "12"),
    "runs": ("runs", "--limit", "12", "--order", "cost", *WINDOW),
    "show": ("show", RUN),
    "compare": ("compare", "2026-11-14..2026-11-17", "2026-11-17..2026-11-20"),
    "budget_status": ("budget", "status"),
    "statement": ("statement", "--month", "2026-11", "--allocate", "proportional"),
    "forecast": ("forecast", "--by", "team"),
    "savings": ("report", "--savings", *WINDOW),
    "price": ("price", "gpt-4o"),
    "price_of_a_call": ("price", "gpt-4o", "--input", "1200", "--cache-read", "200", "--output"),
    "doctor": ("doctor",),
}
COMMANDS["price_of_a_call"] += ("350", "--at", "2026-11-21")
WIDTHS = (60, 80, 120)
VARYING = {
    r"\d+\.\d+(\.\d+)?(rc\d+|[ab]\d+)?(?=[\s,;)]|$)": "N",
    r"\d+ days? ago|of \d{4}-\d\d-\d\d": "…",
}
"""In `doctor` only: versions and ages are those of the machine."""


class FrozenClock(datetime):
    """A clock that stands at `NOW`."""

    @classmethod
    def now(cls, tz=None):
        return NOW if tz is None else NOW.astimezone(tz)


@pytest.fixture(scope="module")
def path():
    """A week of sample data, in a folder whose name has the same length every time."""
    with tempfile.TemporaryDirectory(prefix="snap-", dir="/tmp") as folder:
        where = f"{folder}/ledger.db"
        with Ledger.open(where) as ledger:
            load_history(ledger, days=8, seed=3, until=NOW, calls_per_day=60)
        yield where


@pytest.fixture(scope="module")
def modules() -> list[ModuleType]:
    """Every module that a command may load and that reads the clock."""
    for package in (crewmeter_cost.cli, crewmeter_cost.finance, crewmeter_cost.analysis):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    loaded = [module for name, module in sys.modules.items() if name.startswith("crewmeter_cost")]
    return [module for module in loaded if getattr(module, "datetime", None) is datetime]


@pytest.fixture
def screen(monkeypatch, capsys, path, modules):
    """Run a command at a width, at `NOW`; gives what it prints on stdout."""
    for module in modules:
        monkeypatch.setattr(module, "datetime", FrozenClock)
    monkeypatch.setenv("CREWMETER_LEDGER", path)
    monkeypatch.setenv("HOME", str(Path(path).parent))
    for name in [name for name in os.environ if name.startswith(("OTEL_", "CREWMETER_TEST_"))]:
        monkeypatch.delenv(name)

    def run(*words: str, width: int = 80) -> str:
        monkeypatch.setattr(sys, "argv", ["crewmeter", *words])
        monkeypatch.setenv("COLUMNS", str(width))
        with contextlib.suppress(SystemExit):
            main()
        return capsys.readouterr().out

    return run


def plain(text: str, name: str, path: str) -> str:
    """Return the text without what differs between machines and at the ends of lines."""
    lines = [line.rstrip() for line in text.splitlines()]
    joined = "\n".join(lines) + "\n"
    if name != "doctor":
        return joined
    joined = joined.replace(path, "LEDGER")
    for pattern, instead in VARYING.items():
        joined = re.sub(pattern, instead, joined)
    return joined


@pytest.mark.parametrize(
    "name",
    # The doctor imports CrewAI to look at it, once a width.
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "doctor")) for name in COMMANDS],
)
def test_a_command_prints_what_is_stored(screen, path, name):
    """Every line, column and amount at three widths."""
    words = list(COMMANDS[name])
    if name == "budget_status":
        screen("budget", "set", "25 USD/month")
        screen("budget", "set", "team:growth 3 USD/month", "--hard")
    if RUN in words:
        listed = screen("runs", "--order", "cost", "--limit", "1", "--format", "csv", *WINDOW)
        words[words.index(RUN)] = listed.splitlines()[1].split(",")[0]
    parts = []
    for width in WIDTHS:
        printed = plain(screen(*words, width=width), name, path)
        parts.append(f"=== {width} columns\n{printed}")
    found = "\n".join(parts)
    stored = SNAPSHOTS / f"{name}.txt"
    if WRITES:
        stored.write_text(found, "utf-8")
    assert found == stored.read_text("utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_stored_amount_is_cut_and_points_stand_below_each_other(name):
    """An amount is whole on its line, and those of one column have the same decimals."""
    text = (SNAPSHOTS / f"{name}.txt").read_text("utf-8")
    assert not re.search(r"\$[\d,.]*…|…[\d,.]*\d\.\d\d\b|\$\s*$", text)
    for part in text.split("=== ")[1:]:
        points: dict[int, set[int]] = {}
        for line in part.splitlines()[1:]:
            if "`" in line or ": " in line or " to $" in line or "(each)" in line:
                continue
            for match in re.finditer(r"\$[\d,]+\.(\d+)", line):
                points.setdefault(match.start(1), set()).add(len(match[1]))
        assert all(len(decimals) == 1 for decimals in points.values()), (name, points)
