"""``crewmeter budget``: what it prints, and the windows it takes."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from crewmeter_cost.cli import build
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.store import Ledger


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """A week of history and three budgets: one far exceeded, one hardly touched, one per run."""
    where = str(tmp_path_factory.mktemp("budgets") / "ledger.db")
    with Ledger.open(where) as ledger:
        load_history(
            ledger, days=7, seed=3, until=datetime(2026, 11, 21, 12, tzinfo=UTC), calls_per_day=60
        )
    for words in (
        ["0.01 USD/day"],
        ["crew:market-research 100000 USD/month", "--timezone", "Europe/Berlin"],
        ["1 USD/run", "--name", "each"],
    ):
        assert run(where, "set", *words)[0] == 0
    return where


def run(where: str, *words: str, width: int = 80) -> tuple[int, str]:
    """(exit code, stdout) of ``crewmeter budget WORDS…`` in a terminal so wide."""
    done = CliRunner().invoke(
        build("budget"), ["budget", *words, "--ledger", where], env={"COLUMNS": str(width)}
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_standing_is_one_line_each(path, width):
    """Exceeded or not, a budget's bar, share and reset stay on its line, however narrow the
    terminal.
    """
    code, displayed = run(path, "status", "--until", "2026-11-21T12:00Z", width=width)
    bars = [line for line in displayed.splitlines() if "█" in line or "░" in line]
    assert (code, len(bars)) == (1, 2), displayed
    assert sum("exceeded" in line for line in bars) == 1
    assert all(" %" in line for line in bars)
    assert max(map(len, displayed.splitlines())) <= width


def test_the_status_as_of_then(path):
    """`--until` is the moment the standing is taken at.

    The day's spend up to then, of the period it falls in.
    """
    _, out = run(path, "status", "--until", "2026-11-19T18:00Z", "--format", "json")
    day = json.loads(out)["budgets"][0]
    with Ledger.open(path, read_only=True) as ledger:
        since, until = (datetime(2026, 11, 19, hour, tzinfo=UTC) for hour in (0, 18))
        total = report(ledger, since=since, until=until).document()["total"]
    assert (day["spent_usd"], day["resets_at"]) == (total["cost_usd"], "2026-11-20T00:00:00Z")


def test_the_periods_since_then(path):
    """`--since` lists every period that overlaps the window, oldest first.

    Together they are the ledger's spend.
    """
    window = ["--since", "2026-11-16", "--until", "2026-11-21T12:00Z"]
    _, out = run(path, "status", *window, "--format", "json")
    rows = json.loads(out)["budgets"]
    days = [row for row in rows if row["period"] == "day"]
    assert [row["starts_at"][:10] for row in days] == [f"2026-11-{day}" for day in range(16, 22)]
    with Ledger.open(path, read_only=True) as ledger:
        made = report(
            ledger,
            by=["day"],
            since=datetime(2026, 11, 16, tzinfo=UTC),
            until=datetime(2026, 11, 21, 12, tzinfo=UTC),
        )
    assert [row["spent_usd"] for row in days] == [
        row.document(["day"])["cost_usd"] for row in made.rows
    ]
    assert len([row for row in rows if row["period"] == "month"]) == 1
    assert "16 Nov" in run(path, "status", *window)[1]
    _, out = run(path, "status", *window, "--format", "csv")
    assert len(list(csv.DictReader(io.StringIO(out)))) == len(rows)


def test_too_many_periods_are_refused(path):
    """An hour's budget over years would be a list nobody reads: said, with the way out."""
    with pytest.raises(CrewMeterError, match="periods"):
        run(path, "status", "--since", "2001-01-01")


def test_the_list_knows_when_a_budget_was_set(path):
    """`--since` and `--until` pick the budgets of the ledger that were set then."""
    now = json.loads(run(path, "list", "--format", "json")[1])["budgets"]
    assert len(now) == 3
    assert all(datetime.fromisoformat(each["set_at"]).tzinfo for each in now)
    assert (
        len(json.loads(run(path, "list", "--since", "1h", "--format", "json")[1])["budgets"]) == 3
    )
    assert json.loads(run(path, "list", "--until", "1h", "--format", "json")[1])["budgets"] == []


def test_asking_makes_no_ledger(tmp_path, monkeypatch):
    """`budget list` and `budget status` only read.

    Without a ledger the first knows the environment's, the second says so.
    """
    where = tmp_path / "none.db"
    monkeypatch.setenv("CREWMETER_BUDGETS", "5 USD/day")
    monkeypatch.setenv("CREWMETER_LEDGER", str(where))
    done = CliRunner().invoke(build("budget"), ["budget", "list", "--format", "json"])
    assert [each["budget"] for each in json.loads(done.output)["budgets"]] == [
        "everything 5 USD/day"
    ]
    for words in (["budget", "status"], ["budget", "list", "--ledger", str(where)]):
        assert isinstance(CliRunner().invoke(build("budget"), words).exception, CrewMeterError)
    assert not where.exists()
