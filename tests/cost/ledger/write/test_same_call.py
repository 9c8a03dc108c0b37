"""One call reported by spans that share no response id, in any order."""

from __future__ import annotations

import itertools

import pytest
from support.ledger_audit import assert_books_hold
from support.ledger_build import NOON, SECOND, foreign, frozen, priced

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.write.call_matching import windows_around
from crewmeter_cost.records import CallContext

OPENAI = "openinference.instrumentation.openai"
LANGCHAIN = "openinference.instrumentation.langchain"
TRACE = "f" * 32


def _report(number, scope=OPENAI, *, start=0.0, seconds=2.0, **more):
    begin = NOON + round(start * SECOND)
    return foreign(
        number,
        scope=scope,
        trace_id=TRACE,
        started_ns=begin,
        ended_ns=begin + round(seconds * SECOND),
        **more,
    )


ONE_CALL = {
    "one inside the other": [
        _report(1, LANGCHAIN, seconds=2.1),
        _report(2, parent_span_id=f"{1:016x}", response_id="chatcmpl-zz888888"),
    ],
    "side by side": [
        _report(1, LANGCHAIN, parent_span_id=f"{9:016x}"),
        _report(2, parent_span_id=f"{9:016x}", start=0.01, seconds=1.98),
    ],
    "one without usage": [
        _report(1, LANGCHAIN, usage=TokenUsage(status="missing"), seconds=2.1),
        _report(2, parent_span_id=f"{1:016x}"),
    ],
    "one instrumentor, one inside the other": [
        _report(1, "gcp.vertex.agent", seconds=2.1),
        _report(2, "gcp.vertex.agent", parent_span_id=f"{1:016x}"),
    ],
    "three instrumentors": [
        _report(1, LANGCHAIN, seconds=2.1),
        _report(2, parent_span_id=f"{1:016x}"),
        _report(3, "traceloop", start=0.01, seconds=1.98),
    ],
}


@pytest.mark.parametrize("reports", ONE_CALL.values(), ids=ONE_CALL)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
def test_reports_of_one_call_are_one_bill_in_any_order(ledger_factory, reports, together):
    """Whatever comes first, in one batch or several, and replayed: one row, the fullest one."""
    for order in itertools.permutations(reports):
        ledger = ledger_factory()
        batches = [list(order)] if together else [[report] for report in order]
        for batch in (*batches, *batches):
            ledger.write([(report, priced()) for report in batch], [], frozen)
        (row,) = assert_books_hold(ledger).calls
        assert row["input_tokens"] == 1000


TWO_CALLS = {
    "one instrumentor, side by side": [_report(1), _report(2)],
    "one after the other": [_report(1), _report(2, LANGCHAIN, start=3)],
    "other counts": [_report(1), _report(2, LANGCHAIN, usage=TokenUsage(1001, 100))],
    "another model": [
        _report(1),
        _report(2, LANGCHAIN, request_model="gpt-5", response_model="gpt-5"),
    ],
    "two response ids": [
        _report(1, response_id="chatcmpl-1111111111111111"),
        _report(2, LANGCHAIN, response_id="chatcmpl-2222222222222222"),
    ],
    "a request that failed, of a call that did not": [
        _report(
            1, parent_span_id=f"{2:016x}", usage=TokenUsage(status="missing"), error_type="429"
        ),
        _report(2, LANGCHAIN, seconds=2.5),
    ],
    "another trace": [_report(1), foreign(2, scope=LANGCHAIN, started_ns=NOON)],
}


@pytest.mark.parametrize("reports", TWO_CALLS.values(), ids=TWO_CALLS)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
def test_calls_that_are_alike_stay_two(ledger_factory, reports, together):
    """Nothing but one call's own reports is merged."""
    for order in itertools.permutations(reports):
        ledger = ledger_factory()
        for batch in [list(order)] if together else [[report] for report in order]:
            ledger.write([(report, priced()) for report in batch], [], frozen)
        assert len(assert_books_hold(ledger).calls) == 2


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
def test_a_call_and_its_two_attempts_are_one_bill(ledger_factory, together):
    """The attempt that failed is a row without use, in any order, and the use counts once."""
    reports = [
        _report(
            1, parent_span_id=f"{3:016x}", usage=TokenUsage(status="missing"), error_type="429"
        ),
        _report(2, parent_span_id=f"{3:016x}", start=0.5, seconds=1),
        _report(3, LANGCHAIN, seconds=2.5),
    ]
    for order in itertools.permutations(reports):
        ledger = ledger_factory()
        for batch in [list(order)] if together else [[report] for report in order]:
            ledger.write([(report, priced()) for report in batch], [], frozen)
        rows = assert_books_hold(ledger).calls
        assert sorted(str(row["input_tokens"]) for row in rows) == ["1000", "None"]


def test_two_alike_calls_of_two_instrumentors_are_two(ledger_factory):
    """Parallel calls that look the same are matched one to one."""
    ledger = ledger_factory()
    reports = [_report(1), _report(2), _report(3, LANGCHAIN), _report(4, LANGCHAIN)]
    ledger.write([(report, priced()) for report in reports], [], frozen)
    audit = assert_books_hold(ledger)
    assert len(audit.calls) == 2


def test_what_is_merged_stays_in_the_tree_of_its_run(ledger_factory):
    """`show` names the instrumentor whose report was left out, above the call that it repeats."""
    ledger = ledger_factory()
    run = CallContext(run_id=TRACE)
    reports = [
        _report(1, LANGCHAIN, seconds=2.1, context=run),
        _report(2, parent_span_id=f"{1:016x}", response_id="chatcmpl-zz888888", context=run),
    ]
    ledger.write([(report, priced()) for report in reports], [], frozen)
    (merged,) = run_tree(ledger, find_run(ledger, TRACE)).root.children
    (call,) = merged.children
    assert (merged.kind, merged.name, merged.calls) == ("merged_call", LANGCHAIN, 1)
    assert (call.is_call, call.span_id) == (True, f"{2:016x}")


def test_a_late_root_does_not_widen_the_search_for_pairs():
    """Roots near each other share one window of time, a late one has its own."""
    starts = [NOON, NOON - 3000 * SECOND, NOON + SECOND]
    windows = windows_around(starts)
    assert [(last - first) // SECOND for first, last in windows] == [4, 5]
    assert windows_around([]) == []
