"""One call seen by two instrumentors, and foreign calls that learn their context late."""

from __future__ import annotations

import random

import pytest
from support.ledger_audit import assert_books_hold
from support.ledger_build import CONTEXT, RUN, UNPRICED, call, foreign, frozen, priced, root, step

from crewmeter_cost.records import CallContext

ID = "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG"
TRACE = "f" * 32


def test_ours_then_theirs_is_one_call(either):
    """A foreign span of a call we have is left out, in the same batch or later, and however often
    it is replayed.
    """
    either.write(
        [(call(1, response_id=ID), priced()), (foreign(2, response_id=ID), priced())], [], frozen
    )
    for _ in range(2):
        theirs = [foreign(2, response_id=ID), foreign(3, response_id=ID, scope="traceloop")]
        written = either.write([(made, priced()) for made in theirs], [], frozen)
        assert (written.inserted_calls, written.duplicate_calls) == (0, 2)
    (stored,) = assert_books_hold(either).calls
    assert (stored["scope"], stored["crew"]) == ("crewmeter", "research")


def test_theirs_then_ours_is_ours(either):
    """Our span replaces a foreign one.

    Context, price and sums move, and replays of either change nothing.
    """
    either.write([(foreign(2, response_id=ID, trace_id=TRACE), UNPRICED)], [], frozen)
    written = either.write([(call(1, response_id=ID), priced())], [root()], frozen)
    assert (written.inserted_calls, written.superseded_calls, written.duplicate_calls) == (0, 1, 0)
    for _ in range(2):
        either.write(
            [
                (foreign(2, response_id=ID, trace_id=TRACE), UNPRICED),
                (call(1, response_id=ID), priced()),
            ],
            [],
            frozen,
        )
        (stored,) = assert_books_hold(either).calls
        assert (stored["scope"], stored["crew"], stored["cost_pusd"]) == (
            "crewmeter",
            "research",
            5_000_000_000,
        )
        assert bytes(stored["span_id"]).hex() == f"{1:016x}"


def test_one_scope_with_one_response_id_is_two_calls(either):
    """A provider (or a cache) that repeats a response id was still called twice."""
    either.write(
        [(call(1, response_id=ID), priced()), (call(2, response_id=ID), priced())], [], frozen
    )
    either.write(
        [(call(3, response_id=ID), priced()), (foreign(9, response_id=ID), priced())], [], frozen
    )
    assert len(assert_books_hold(either).calls) == 3


def test_short_ids_count_per_provider(ledger):
    """`cmpl-1` of two local servers are two calls.

    A long id is one call even where instrumentors name the provider differently.
    """
    other = foreign(2, response_id="cmpl-1", provider="ollama", host=None)
    ledger.write([(call(1, response_id="cmpl-1"), priced()), (other, priced())], [], frozen)
    ledger.write(
        [
            (call(3, response_id=ID), priced()),
            (foreign(4, response_id=ID, provider="azure", host=None), priced()),
        ],
        [],
        frozen,
    )
    assert len(assert_books_hold(ledger).calls) == 3


def test_two_foreign_instrumentors_are_one_call(either):
    """Without ours, the first of two foreign reports stays."""
    written = either.write(
        [
            (foreign(1, response_id=ID), priced()),
            (foreign(2, response_id=ID, scope="traceloop"), priced()),
        ],
        [],
        frozen,
    )
    assert (written.inserted_calls, written.new_calls) == (1, (0,))
    assert_books_hold(either)


def test_a_foreign_call_finds_its_run_when_its_parents_arrive(either):
    """Leaf spans end first.

    Call, tool, agent, crew in four batches, and at the end everything knows its context.
    """
    nowhere = CallContext()
    either.write([(foreign(1, parent_span_id=f"{10:016x}"), priced())], [], frozen)
    assert assert_books_hold(either).calls[0]["crew"] is None
    either.write(
        [], [step(10, "tool", "search", parent_span_id=f"{11:016x}", context=nowhere)], frozen
    )
    either.write(
        [],
        [
            step(
                11,
                "agent",
                "writer",
                parent_span_id=f"{12:016x}",
                context=CallContext(agent="writer"),
            )
        ],
        frozen,
    )
    crew = CallContext(run_id=RUN, run_kind="crew", run_name="research", crew="research")
    either.write([], [step(12, "crew", "research", is_run=True, context=crew)], frozen)
    books = assert_books_hold(either)
    (stored,) = books.calls
    assert (stored["tool"], stored["agent"], stored["crew"]) == ("search", "writer", "research")
    (run,) = books.runs
    assert (run["calls"], run["tool_calls"], run["cost_pusd"], run["status"]) == (
        1,
        1,
        5_000_000_000,
        "ok",
    )
    assert {step["agent"] for step in books.steps if step["kind"] == "tool"} == {"writer"}


def test_a_chain_with_a_gap_still_finds_the_only_run(either):
    """Where a parent was never exported, the trace's only run is the call's run.

    Agents are not guessed.
    """
    either.write(
        [(foreign(1, parent_span_id="dead" * 4), priced())], [root(trace_id="0" * 31 + "1")], frozen
    )
    (stored,) = assert_books_hold(either).calls
    assert stored["run"] is not None
    assert stored["agent"] is None


@pytest.mark.parametrize("seed", range(4))
def test_any_order_gives_the_same_books(tmp_path, seed):
    """Spans of ours and of a foreign instrumentor, in random batches with replays, end in the same
    rows and sums.
    """
    from crewmeter_cost.ledger.store import Ledger

    draw = random.Random(seed)
    records = [(call(n, response_id=f"{ID}{n}", context=CONTEXT), priced(n)) for n in range(12)]
    records += [
        (foreign(100 + n, response_id=f"{ID}{n}", trace_id=TRACE), priced(n)) for n in range(16)
    ]
    records += [
        step(200, "tool", "search"),
        root(),
        step(300, "crew", "theirs", trace_id=TRACE, is_run=True, context=CallContext(run_id=TRACE)),
    ]
    records += draw.sample(records, 10)
    draw.shuffle(records)
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        while records:
            batch, records = records[:5], records[5:]
            calls = [record for record in batch if isinstance(record, tuple)]
            ledger.write(
                calls, [record for record in batch if not isinstance(record, tuple)], frozen
            )
        books = assert_books_hold(ledger)
    assert len(books.calls) == 16
    assert {entry["response_id"]: entry["scope"] == "crewmeter" for entry in books.calls} == {
        f"{ID}{n}": n < 12 for n in range(16)
    }
    ours, theirs = sorted(books.runs, key=lambda run: len(run["run_id"]))
    assert (ours["calls"], ours["cost_pusd"], theirs["calls"], theirs["cost_pusd"]) == (
        12,
        66,
        4,
        12 + 13 + 14 + 15,
    )
