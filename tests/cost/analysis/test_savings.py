"""Avoidable costs: never more than was spent, with the calls behind them."""

from __future__ import annotations

import json
import re

from sqlalchemy import text
from support.ledger_build import call, frozen, priced
from typer.testing import CliRunner

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.analysis.savings import savings
from crewmeter_cost.cli import build
from crewmeter_cost.ledger.read.calls import billed
from crewmeter_cost.pricing.price_book import PriceBook
from crewmeter_cost.records import CallContext


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


def test_an_agents_loop_is_not_batchable(ledger):
    """A batch takes hours: only calls that no agent's next step waits for are offered for it."""
    alone = CallContext(run_id="00000000000000bb", crew=None, agent=None, flow="nightly")
    # The batch price of this model is dated after the helper's own noon.
    times = {"started_ns": 1_795_000_000 * 10**9, "ended_ns": 1_795_000_002 * 10**9}
    usage = TokenUsage(1000, 100)
    calls = [
        (call(1, **times), priced(3 * 10**9)),
        (call(2, context=alone, usage=usage, **times), priced(3 * 10**9)),
    ]
    ledger.write(calls, [], frozen)
    found = savings(lambda: billed(ledger), failed_runs=(), book=PriceBook.load())
    assert [(each.kind, each.subject) for each in found] == [("batchable", "nightly")]
    assert found[0].pusd > 0
    assert found[0].evidence == "1 call outside an agent's loop, on the standard tier"


def test_each_saving_has_the_figures_that_prove_it(month):
    """Failed runs of all runs, cached shares side by side, repeats and their runs."""
    by_kind = {saving.kind: saving for saving in found(month, most=1000)[0]}
    assert re.search(r"calls? in \d+ failed runs? of \d+", by_kind["failed_runs"].evidence)
    caches = [each for each in found(month, most=1000)[0] if each.kind == "cache_misses"]
    assert any("% of input cached on" in each.evidence for each in caches)
    assert all(saving.evidence for saving in by_kind.values())


def test_report_savings_prints_them(month):
    """JSON has kind, whose, calls, at most how much, and examples."""
    url = month.engine.url.render_as_string()
    done = CliRunner().invoke(
        build("report"), ["report", "--savings", "--ledger", url, "--format", "json"]
    )
    rows = json.loads(done.stdout)["rows"]
    assert rows
    assert set(rows[0]) == {
        "kind",
        "subject",
        "calls",
        "cost_usd",
        "evidence",
        "advice",
        "examples",
    }
