"""Avoidable costs: never more than was spent, with the calls behind them."""

from __future__ import annotations

import json

from sqlalchemy import text
from typer.testing import CliRunner

from crewmeter_cost.analysis.savings import savings
from crewmeter_cost.cli import build
from crewmeter_cost.ledger.read.calls import billed
from crewmeter_cost.pricing.price_book import PriceBook


def found(month, **options):
    with month.engine.connect() as connection:
        failed = set(connection.scalars(text("SELECT run_id FROM runs WHERE status = 'error'")))
    return savings(
        lambda: billed(month), failed_runs=failed, book=PriceBook.load(), **options
    ), failed


def test_failed_runs_cost_what_their_calls_cost(month):
    """The waste of failed runs is the sum of their calls in the ledger, no more."""
    kinds, failed = found(month, most=1000)
    waste = sum(saving.pusd for saving in kinds if saving.kind == "failed_runs")
    assert (
        waste
        == sum(call.cost_pusd or 0 for call in billed(month) if call.record["run_id"] in failed)
        > 0
    )
    assert all(
        example in failed
        for saving in kinds
        if saving.kind == "failed_runs"
        for example in saving.examples
    )


def test_a_saving_is_never_more_than_was_spent(month):
    """And its examples are calls of the ledger."""
    spent = sum(call.cost_pusd or 0 for call in billed(month))
    spans = {call.record["span_id"] for call in billed(month)} | {
        call.record["run_id"] for call in billed(month)
    }
    for saving in found(month)[0]:
        assert 0 < saving.pusd <= spent
        assert saving.calls > 0
        assert set(saving.examples) <= spans


def test_half_price_batches_save_half(month):
    """Where the batch tier sells at half price, waiting for it saves half of what was not streamed."""
    kinds, _ = found(month, most=1000)
    counsel = next(
        saving for saving in kinds if (saving.kind, saving.subject) == ("batchable", "Counsel")
    )
    spent = sum(call.cost_pusd or 0 for call in billed(month) if call.record["agent"] == "Counsel")
    assert 0.3 * spent < counsel.pusd <= 0.5 * spent + counsel.calls


def test_report_savings_prints_them(month):
    """JSON has kind, whose, calls, at most how much, and examples."""
    url = month.engine.url.render_as_string()
    done = CliRunner().invoke(
        build("report"), ["report", "--savings", "--ledger", url, "--format", "json"]
    )
    rows = json.loads(done.stdout)["rows"]
    assert rows
    assert set(rows[0]) == {"kind", "subject", "calls", "cost_usd", "advice", "examples"}
