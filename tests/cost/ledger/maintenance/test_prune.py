"""Retention: old detail goes in small steps, sums stay, and nothing pruned is counted again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from support.ledger_audit import stored_rollups
from support.ledger_build import frozen, root, some_calls, step
from support.rows import rows

from crewmeter_cost.ledger.maintenance import prune as pruning
from crewmeter_cost.ledger.maintenance.prune import prune, would_prune
from crewmeter_cost.ledger.read.report import report

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_detail_goes_and_sums_stay(either, monkeypatch):
    """After pruning, calls, steps and runs from before the hour are gone.

    Roll-ups and reports from them are what they were.
    """
    monkeypatch.setattr(pruning, "BATCH", 50)
    calls = some_calls(7, 400)
    either.write(calls, [root(), step(99_999, "tool", "search")], frozen)
    sums = stored_rollups(either)
    whole = [report(either, by=by).document()["rows"] for by in (["crew"], ["day"])]
    cutoff = NOON + timedelta(hours=30, minutes=59)
    expected = would_prune(either, cutoff)
    heard = []
    done = prune(either, cutoff, progress=heard.append)
    hour = (cutoff - timedelta(minutes=59)).timestamp()
    old = sum(made.started_ns < hour * 1e9 for made, _ in calls)
    assert (done.calls, done.steps) == (expected.calls, expected.steps) == (old, 2)
    assert sum(heard) == done.calls + done.steps + done.runs
    assert max(heard) <= 50
    assert rows(either, "SELECT MIN(time) AS first FROM calls")[0]["first"] >= hour
    assert len(rows(either, "SELECT * FROM runs")) == len(
        {made.context.run_id for made, _ in calls if made.started_ns >= hour * 1e9}
    )
    assert stored_rollups(either) == sums
    for by, before in zip((["crew"], ["day"]), whole, strict=True):
        for now, then in zip(report(either, by=by).document()["rows"], before, strict=True):
            assert {name: now[name] for name in now if name[0] != "p"} == {
                name: then[name] for name in then if name[0] != "p"
            }


def test_a_replay_of_pruned_spans_is_not_counted_again(either):
    """A client that retries for a week cannot double what was pruned meanwhile."""
    calls = some_calls(8, 100)
    either.write(calls, [root()], frozen)
    prune(either, NOON + timedelta(hours=200))
    sums = stored_rollups(either)
    written = either.write(calls, [root()], frozen)
    assert (written.inserted_calls, written.duplicate_calls, written.duplicate_steps) == (0, 100, 1)
    assert stored_rollups(either) == sums
    assert report(either, by=["crew"]).total.sums["calls"] == 100


def test_a_report_over_pruned_detail_says_so(ledger):
    """A question only detail answers notes what is missing; one the roll-ups answer does not."""
    ledger.write(some_calls(9, 100), [], frozen)
    prune(ledger, NOON + timedelta(hours=30))
    assert "pruned" in report(ledger, by=["session"]).notes[0]
    assert report(ledger, by=["model"]).notes == ()
