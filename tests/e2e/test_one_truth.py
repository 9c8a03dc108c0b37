"""A number that stands on two surfaces is the same on both."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

import crewmeter_cost
from crewmeter_cost.cli import main
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
SINCE = (NOW - timedelta(days=3)).isoformat()


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """Ten days of sample data that end now, with a budget."""
    where = str(tmp_path_factory.mktemp("truth") / "ledger.db")
    with Ledger.open(where) as ledger:
        load_history(ledger, days=10, seed=3, until=NOW, calls_per_day=60)
    command(where, "budget", "set", "0.05 USD/month")
    return where


def command(path: str, *words: str) -> str:
    """Run a command in this process and return what it prints."""
    out, argv = io.StringIO(), sys.argv
    sys.argv = ["crewmeter", *words, "--ledger", path]
    try:
        with redirect_stdout(out), redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
            main()
    finally:
        sys.argv = argv
    return out.getvalue()


def document(path: str, *words: str):
    """Return the JSON that a command prints."""
    return json.loads(command(path, *words, "--format", "json"))


def test_every_surface_has_the_same_money_and_calls(path):
    """Report by any group, runs, export, client, compare and gate agree on cost and calls."""
    window = ("--since", SINCE, "--until", NOW.isoformat())
    totals = [
        document(path, "report", "--by", group, *window)["total"]
        for group in ("model", "crew", "day", "run", "tag:customer")
    ]
    cost, calls = Decimal(totals[0]["cost_usd"]), totals[0]["calls"]
    assert {(Decimal(total["cost_usd"]), total["calls"]) for total in totals} == {(cost, calls)}
    lines = command(path, "export", *window).splitlines()
    exported = [json.loads(line) for line in lines]
    assert (sum(Decimal(each["cost_usd"] or 0) for each in exported), len(exported)) == (
        cost,
        calls,
    )
    with crewmeter_cost.open(path) as client:
        total = client.report(by=["team"], since=SINCE, until=NOW).total
    assert (total.cost_usd, total.calls) == (cost, calls)
    span = f"{SINCE}..{NOW.isoformat()}"
    compared = document(path, "compare", span, span)
    assert (Decimal(compared["a"]["cost_usd"]), compared["b"]["calls"]) == (cost, calls)
    report = command(path, "report", *window)
    assert f"{calls:,}" in report


def test_a_run_has_the_same_figures_everywhere(path):
    """`runs`, `show`, `report --where run=` and `compare` give one run the same numbers."""
    for run in document(path, "runs", "--limit", "5", "--order", "cost"):
        displayed = document(path, "show", run["run_id"])
        assert {key: displayed[key] for key in run} == run
        total = document(path, "report", "--where", f"run={run['run_id']}")["total"]
        assert (total["cost_usd"], total["calls"]) == (run["cost_usd"], run["calls"])
        compared = document(path, "compare", run["run_id"], run["run_id"])["a"]
        assert (compared["cost_usd"], compared["calls"]) == (run["cost_usd"], run["calls"])


def test_the_month_is_the_same_in_budget_forecast_statement_and_report(path):
    """Spend of this month is one number, whoever says it."""
    month = document(path, "report", "--since", "month")["total"]["cost_usd"]
    budget = document(path, "budget", "status")["budgets"][0]["spent_usd"]
    forecast = document(path, "forecast")["rows"][0]["spent_usd"]
    statement = document(path, "statement")["total_usd"]
    assert {budget, forecast, statement} == {month}
