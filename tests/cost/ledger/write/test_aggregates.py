"""Spans that sum up calls: counted where the calls are not reported, in any order."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from support.ledger_audit import assert_books_hold
from support.ledger_build import NOON, SECOND, foreign, frozen, priced, step

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.records import CallContext

OPENAI = "openinference.instrumentation.openai"
TRACE = "f" * 32
TWICE = TokenUsage(2000, 200)


def _span(number):
    return f"{number:016x}"


def _call(number, *, start=0.0, seconds=1.0, parent=None, usage=None, **more):
    begin = NOON + round(start * SECOND)
    return foreign(
        number,
        scope=more.pop("scope", OPENAI),
        trace_id=TRACE,
        started_ns=begin,
        ended_ns=begin + round(seconds * SECOND),
        parent_span_id=None if parent is None else _span(parent),
        usage=usage or TokenUsage(1000, 100),
        **more,
    )


def _sum(number, **more):
    more = {"operation": "invoke_agent", "seconds": 5.0, "scope": "agents", **more}
    return replace(_call(number, **more), origin="aggregate")


ONLY_THE_CALLS = {
    "an agent over its two calls": (
        [_call(1, parent=9, start=0.5), _call(2, parent=9, start=2), _sum(9, usage=TWICE)],
        {1, 2},
    ),
    "an agent over a grandchild, under another name of the model": (
        [
            _call(1, parent=8, start=0.5, response_model="gpt-4o-mini-2024-07-18"),
            _sum(9, request_model="openai/gpt-4o-mini", response_model=None),
        ],
        {1},
    ),
    "a workflow over an agent over a call": (
        [_call(1, parent=8, start=1), _sum(8, parent=9, seconds=4), _sum(9)],
        {1},
    ),
    "a workflow over an agent whose calls nobody reported": (
        [_sum(8, parent=9, seconds=4), _sum(9)],
        {8},
    ),
    "a record of its use beside each call": (
        [
            _call(1, parent=9, start=0.5),
            _sum(3, parent=9, start=1.5, seconds=0, scope=OPENAI, operation="chat"),
            _call(2, parent=9, start=2),
            _sum(4, parent=9, start=3, seconds=0, scope=OPENAI, operation="chat"),
        ],
        {1, 2},
    ),
    "an inference over two": (
        [
            _call(1, parent=9, start=0.5),
            _call(2, parent=9, start=2),
            _call(9, seconds=5, usage=TWICE),
        ],
        {1, 2},
    ),
}


@pytest.mark.parametrize("case", ONLY_THE_CALLS.values(), ids=ONLY_THE_CALLS)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
def test_a_sum_gives_way_to_its_calls_in_any_order(ledger_factory, case, together):
    """Whatever comes first, and replayed: the calls, and not their sum."""
    reports, stay = case
    for order in itertools.permutations(reports):
        ledger = ledger_factory()
        batches = [list(order)] if together else [[report] for report in order]
        for batch in (*batches, *batches):
            ledger.write([(report, priced()) for report in batch], [], frozen)
        rows = assert_books_hold(ledger).calls
        assert {int(bytes(row["span_id"]).hex(), 16) for row in rows} == stay


BOTH = {
    "siblings at one time": [_sum(1, parent=9), _sum(2, parent=9, start=1, seconds=2)],
    "another model meanwhile": [
        _call(1, parent=8, start=1, request_model="gpt-5", response_model="gpt-5"),
        _sum(9),
    ],
    "a larger call meanwhile": [_call(1, parent=8, start=1, usage=TWICE), _sum(9)],
    "unknown operations that are alike": [
        _sum(1, parent=9, operation="chat"),
        _sum(2, parent=9, start=0.5, seconds=2, operation="chat"),
    ],
    "a call afterwards": [_call(1, parent=8, start=6), _sum(9)],
    "an embedding below it": [
        _call(1, parent=9, operation="embeddings", usage=TokenUsage(10)),
        _sum(9),
    ],
    "another model below it": [
        _call(1, parent=9, request_model="gpt-5", response_model="gpt-5"),
        _sum(9),
    ],
    "another agent meanwhile": [
        _sum(1, parent=7, start=1, seconds=2, usage=TokenUsage(10, 1)),
        _sum(9, parent=8),
    ],
    "an inference over another with other counts": [
        _call(1, parent=9, start=0.5, usage=TokenUsage(700, 50)),
        _call(9, seconds=5),
    ],
}


@pytest.mark.parametrize("reports", BOTH.values(), ids=BOTH)
def test_what_is_not_inside_a_sum_counts_beside_it(ledger_factory, reports):
    """Siblings, other models, larger calls and later ones are no part of it."""
    for order in itertools.permutations(reports):
        ledger = ledger_factory()
        for report in order:
            ledger.write([(report, priced())], [], frozen)
        assert len(assert_books_hold(ledger).calls) == 2


def test_a_call_of_another_agent_is_not_in_an_agents_sum(ledger_factory):
    """Its parents say whose it is, where they are known. So do those of the agent's own."""
    agent = replace(step(7, "agent", "Writer", parent_span_id=_span(6)), trace_id=TRACE)
    task = replace(step(8, "task", "write", parent_span_id=_span(9)), trace_id=TRACE)
    for parent, steps, calls in ((7, [agent], 2), (8, [task], 1)):
        reports = [_call(1, parent=parent, start=1), _sum(9, parent=5)]
        for order in itertools.permutations(reports):
            together = ledger_factory()
            together.write([(report, priced()) for report in order], steps, frozen)
            apart = ledger_factory()
            apart.write([], steps, frozen)
            for report in order:
                apart.write([(report, priced())], [], frozen)
            for written in (together, apart):
                assert len(assert_books_hold(written).calls) == calls


def test_an_agent_is_a_step_with_its_use_below_it(ledger_factory):
    """The agent's span is a step, and what it used hangs on it, under its name."""
    ledger = ledger_factory()
    context = CallContext(run_id=TRACE, agent="Researcher")
    agent = replace(step(9, "agent", "Researcher", context=context), trace_id=TRACE, is_run=True)
    ledger.write([(replace(_sum(9), context=context), priced())], [agent], frozen)
    (row,) = assert_books_hold(ledger).calls
    assert row["agent"] == "Researcher"
    run = find_run(ledger, TRACE)
    (node,) = run_tree(ledger, run).root.children
    assert (node.kind, node.name, node.calls) == ("agent", "Researcher", 1)
    assert [child.is_call for child in node.children] == [True]


def test_a_later_report_of_a_span_completes_it(ledger_factory):
    """A span sent early without its use has the use it is sent with again, in any batches."""
    ledger = ledger_factory()
    early = _call(1, usage=TokenUsage(status="missing"))
    for report in (early, _call(1), early):
        ledger.write([(report, priced())], [], frozen)
    together = ledger_factory()
    together.write([(report, priced()) for report in (early, _call(1), early)], [], frozen)
    for written in (ledger, together):
        (row,) = assert_books_hold(written).calls
        assert row["input_tokens"] == 1000


def test_a_response_fetched_again_is_one_call_for_other_instrumentors(ledger_factory):
    """A random id is one response, also in two spans of one instrumentor and in two traces."""
    ledger = ledger_factory()
    first = _call(1, response_id="resp_0123456789abcdef01234567")
    again = replace(first, trace_id="e" * 32, span_id=_span(2), started_ns=NOON + 9 * SECOND)
    for report in (first, again):
        ledger.write([(report, priced())], [], frozen)
    assert len(assert_books_hold(ledger).calls) == 1
