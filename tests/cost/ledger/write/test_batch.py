"""Writing: what goes in once stays once, and every sum follows the rows."""

from __future__ import annotations

import pytest
from support.ledger_audit import assert_books_hold
from support.ledger_build import (
    CONTEXT,
    NOON,
    RUN,
    SECOND,
    UNPRICED,
    call,
    frozen,
    priced,
    root,
    step,
)
from support.rows import rows

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.run_cost import run_cost
from crewmeter_cost.records import CallContext


def test_a_batch_is_in_rows_totals_and_rollups(either):
    """A crew's calls, tools and end are in every sum after one write."""
    calls = [
        (call(1), priced()),
        (call(2, error=True, error_type="Timeout"), UNPRICED),
        (call(3, context=CallContext()), priced(7)),
    ]
    steps = [
        step(20, "tool", "search"),
        step(21, "tool", "search", error=True),
        step(22, "agent", "writer"),
        root(),
    ]
    written = either.write(calls, steps, frozen)
    assert (written.inserted_calls, written.inserted_steps, written.new_calls) == (3, 4, (0, 1, 2))
    (run,) = assert_books_hold(either).runs
    assert (
        run["run_id"],
        run["status"],
        run["calls"],
        run["tool_calls"],
        run["unpriced_calls"],
    ) == (RUN, "ok", 2, 2, 1)
    assert run["duration_ns"] == 60 * SECOND
    cost = run_cost(either, RUN)
    assert (cost.calls, cost.failed_calls, cost.cost_pusd) == (2, 1, 5_000_000_000)


def test_the_same_batch_twice_changes_nothing(either):
    """OTLP delivers at least once: a replay leaves rows and sums as they were, and says so."""
    batch = (
        [(call(number), priced()) for number in range(1, 30)],
        [root(), step(50, "tool", "search")],
    )
    either.write(*batch, frozen)
    before = (
        either.write(*batch, frozen),
        rows(either, "SELECT * FROM rollup_hour"),
        rows(either, "SELECT * FROM run"),
    )
    assert (before[0].inserted_calls, before[0].duplicate_calls, before[0].duplicate_steps) == (
        0,
        29,
        2,
    )
    either.write([*batch[0][10:20], (call(99), priced())], [], frozen)
    assert len(assert_books_hold(either).calls) == 30


def test_a_span_twice_in_one_batch_counts_once(either):
    """The first of two equal spans in a batch is stored."""
    written = either.write([(call(1), priced(1)), (call(1), priced(2))], [root(), root()], frozen)
    assert (written.inserted_calls, written.duplicate_calls, written.inserted_steps) == (1, 1, 1)
    assert assert_books_hold(either).calls[0]["cost_pusd"] == 1


def test_unpriced_is_null_and_rejected_is_neither(either):
    """A call without a price has cost NULL and counts as unpriced.

    One the provider rejected failed and cost nothing.
    """
    rejected = call(
        2, error=True, error_type="429", usage=TokenUsage(status="missing", flags=("rejected",))
    )
    either.write([(call(1), UNPRICED), (rejected, UNPRICED)], [], frozen)
    books = assert_books_hold(either)
    assert [entry["cost_pusd"] for entry in books.calls] == [None, None]
    total = report(either).total
    assert (total.sums["unpriced_calls"], total.sums["failed_calls"], total.cost_pusd) == (
        1,
        1,
        None,
    )
    assert report(either, where={"run": "none"}).total.document(())["cost_usd"] == "0"


def test_late_calls_of_a_finished_run_move_its_rollup(either):
    """A call that arrives after its run ended still adds to the run's cost in the hourly
    roll-up.
    """
    either.write([(call(1), priced(10))], [root()], frozen)
    either.write([(call(2), priced(5))], [step(9, "tool", "search")], frozen)
    assert_books_hold(either)
    (row,) = rows(either, "SELECT name, status, calls, cost_usd FROM run_hourly")
    assert (row["name"], row["status"], row["calls"], round(row["cost_usd"] * 1e12)) == (
        "research",
        "ok",
        1,
        15,
    )


def test_sums_are_exact_beyond_64_bits(either):
    """Ten calls of nine million dollars each exceed 64 bits of pico-dollars, and are summed
    exactly; one call beyond is no price.
    """
    either.write(
        [(call(number), priced(9_000_000 * 10**12 + 1)) for number in range(10)], [root()], frozen
    )
    either.write([(call(99), priced(2**63))], [], frozen)
    assert_books_hold(either)
    for groups in (["model"], ["session"]):  # one from roll-ups, one from the calls
        made = report(either, by=groups).document()
        assert made["total"]["cost_usd"] == "90000000.00000000001"
        assert made["total"]["unpriced_calls"] == 1


@pytest.mark.parametrize("started", [-5, 0, 2**63, 2**64 - 1])
def test_clocks_that_jump_are_clamped(either, started):
    """A start before 1970 or after 2262, or an end before the start, is stored at the edge, not
    refused.
    """
    either.write(
        [(call(1, started_ns=started, ended_ns=started - 10), priced())],
        [root(started_ns=started, ended_ns=1)],
        frozen,
    )
    (retained,) = assert_books_hold(either).calls
    assert retained["duration_ns"] == 0
    assert 0 <= retained["started_ns"] < 2**63


def test_hostile_names_are_stored_as_they_are(either):
    """Quotes, SQL, NUL, lone surrogates, emoji and a megabyte of text are names like others.

    The long one is cut.
    """
    names = [
        "Robert'); DROP TABLE call;--",
        'a"b',
        "nul\0byte",
        "\ud800lone",
        "🦜" * 10,
        "x" * 1_000_000,
        "100%s %(x)s ?:y",
        "[bold]no[/]",
    ]
    contexts = [
        CallContext(run_id=f"run {index}", crew=name, user=name, tags=(("key" + name[:10], name),))
        for index, name in enumerate(names)
    ]
    either.write(
        [
            (call(index, context=context, response_id="id\0" + "y" * 5000), priced())
            for index, context in enumerate(contexts)
        ],
        [],
        frozen,
    )
    books = assert_books_hold(either)
    assert len(books.calls) == len(names)
    displayed = {row.keys[0] for row in report(either, by=["crew"]).rows}
    assert {"Robert'); DROP TABLE call;--", "nulbyte", "100%s %(x)s ?:y"} <= displayed
    assert max(map(len, displayed)) <= 500
    assert rows(either, "SELECT crew FROM calls WHERE crew = :name", name=names[0])


def test_frozen_rates_are_stored_once(either):
    """A price version is a row of its own, however many calls it priced."""
    either.write([(call(number), priced(version="h1")) for number in range(5)], [], frozen)
    either.write([(call(9), priced(version="h2"))], [], frozen)
    assert {row["hash"] for row in rows(either, "SELECT hash FROM price_version")} == {"h1", "h2"}


def test_a_failed_batch_leaves_nothing_behind(ledger):
    """Names met in a batch that was rolled back are forgotten, so the next batch writes them
    again.
    """

    def broken(version: str):
        raise KeyError(version)

    with pytest.raises(KeyError):
        ledger.write([(call(1), UNPRICED), (call(2), priced())], [root()], broken)
    assert rows(ledger, "SELECT * FROM label") == []
    ledger.write([(call(1), UNPRICED), (call(2), priced())], [root()], frozen)
    assert len(assert_books_hold(ledger).calls) == 2
    assert rows(ledger, "SELECT model FROM calls")[0]["model"] == "gpt-4o"


def test_the_views_show_plain_columns(either):
    """`calls`, `runs` and `steps` speak in names, USD, seconds and unix seconds."""
    tagged = CallContext(
        **{
            **{name: getattr(CONTEXT, name) for name in CONTEXT.__dataclass_fields__},
            "tags": (("env", "prod"),),
        }
    )
    either.write(
        [
            (
                call(1, context=tagged, time_to_first_token_ns=250_000_000),
                priced(reported := 1_500_000_000_000),
            )
        ],
        [root()],
        frozen,
    )
    (seen,) = rows(either, "SELECT * FROM calls")
    assert (seen["time"], seen["status"], seen["model"], seen["provider"]) == (
        NOON // SECOND + 1,
        "ok",
        "gpt-4o",
        "openai",
    )
    assert (seen["user"], seen["team"], seen["tags"], seen["run_id"]) == (
        "ada",
        "growth",
        '{"env": "prod"}',
        RUN,
    )
    assert (seen["cost_usd"], seen["duration_seconds"], seen["ttft_seconds"]) == (
        reported / 1e12,
        2.0,
        0.25,
    )
    assert (seen["trace_id"], seen["span_id"], seen["parent_span_id"]) == (
        "0" * 31 + "1",
        f"{1:016x}",
        None,
    )
    (run,) = rows(either, "SELECT * FROM runs")
    assert (run["name"], run["status"], run["cost_usd"], run["calls"], run["duration_seconds"]) == (
        "research",
        "ok",
        1.5,
        1,
        60.0,
    )
    (top,) = rows(either, "SELECT * FROM steps")
    assert (top["kind"], top["name"], top["status"], top["run_id"]) == (
        "crew",
        "research",
        "ok",
        RUN,
    )
    assert rows(either, "SELECT * FROM tag_hourly")[0]["tag"] == "env=prod"
    (bucket,) = rows(either, "SELECT * FROM latency_hourly WHERE dimension = 'model'")
    assert bucket["key"] == "gpt-4o"
    assert 2.0 <= bucket["le_seconds"] <= 2.1
