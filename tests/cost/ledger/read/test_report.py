"""Reports equal plain sums over the calls, whatever is requested, wherever the window's edges
fall.
"""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from support.ledger_audit import quantile
from support.ledger_build import HOUR, NOON, UNPRICED, call, frozen, priced, root, some_calls, step

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import parse_filter
from crewmeter_cost.ledger.read import aggregate, detail_source, rollup_source
from crewmeter_cost.ledger.read import report as reports
from crewmeter_cost.ledger.read.percentiles import in_buckets, quantiles
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.schema.latency_buckets import BOUNDS_NS, bucket_of
from crewmeter_cost.ledger.store import Ledger

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
FIELDS = (
    "calls",
    "failed_calls",
    "unpriced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A ledger with 900 calls and 120 tool calls over 60 hours, and the calls themselves."""
    ledger = Ledger.open(str(tmp_path_factory.mktemp("reports") / "ledger.db"))
    calls = some_calls(1, 900)
    draw = random.Random(2)
    tools = [
        step(
            10_000 + n,
            "tool",
            draw.choice(["search", "read"]),
            error=draw.random() < 0.2,
            context=calls[n][0].context,
            started_ns=(at := NOON + draw.randrange(60 * HOUR)),
            ended_ns=at + draw.randrange(10**9),
        )
        for n in range(120)
    ]
    ledger.write(calls, tools, frozen)
    yield ledger, calls, tools
    ledger.close()


def _key(made_call, group: str):
    context = made_call.context
    moment = datetime.fromtimestamp(made_call.started_ns // 10**9, UTC)
    if group in ("hour", "day", "month"):
        return moment.strftime(
            {"hour": "%Y-%m-%dT%H:00Z", "day": "%Y-%m-%d", "month": "%Y-%m"}[group]
        )
    if group.startswith("tag:"):
        return dict(context.tags).get(group[4:])
    if group == "model":
        return made_call.request_model or made_call.response_model
    return (
        made_call.provider
        if group == "provider"
        else context.run_id
        if group == "run"
        else getattr(context, group)
    )


def _expected(calls, by, since, until):
    groups = defaultdict(lambda: [0] * 8 + [0, 0])
    for made_call, outcome in calls:
        if not (since is None or made_call.started_ns >= since) or not (
            until is None or made_call.started_ns < until
        ):
            continue
        usage, cost = made_call.usage, getattr(outcome, "cost_pusd", None)
        sums = groups[tuple(_key(made_call, group) for group in by)]
        rejected = "rejected" in usage.flags
        known = usage.input is not None
        amounts = [
            1,
            made_call.error,
            cost is None and not rejected,
            usage.input or 0,
            usage.cache_read,
            usage.cache_write_5m + usage.cache_write_1h,
        ]
        amounts += [usage.output or 0, usage.reasoning if known else 0, cost or 0, cost is not None]
        sums[:] = [old + int(new) for old, new in zip(sums, amounts, strict=True)]
    return groups


GROUPINGS = [
    ["model"],
    ["provider"],
    ["crew"],
    ["agent"],
    ["task"],
    ["run"],
    ["user"],
    ["team"],
    ["session"],
    ["tag:env"],
    ["tag:none"],
    ["hour"],
    ["day"],
    ["month"],
    ["model", "day"],
    ["crew", "agent"],
    ["team", "model"],
    ["user", "tag:tier", "month"],
    ["hour", "tag:env"],
    [],
    ["provider", "model", "task"],
    ["session", "hour"],
]
WINDOWS = [
    (None, None),
    (0, None),
    (timedelta(hours=3), timedelta(hours=50)),
    (timedelta(minutes=90), timedelta(hours=49, seconds=1)),
    (timedelta(minutes=10), timedelta(minutes=50)),
    (timedelta(minutes=70), None),
    (None, timedelta(hours=30, microseconds=7)),
    (timedelta(days=400), None),
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("by", GROUPINGS, ids=",".join)
def test_a_report_equals_plain_sums(made, by, window):
    """Every grouping in every window, through roll-ups or not, equals adding the calls up one by
    one, to the pico-dollar.
    """
    ledger, calls, _ = made
    since, until = (None if edge is None else START + (edge or timedelta()) for edge in window)
    found = report(ledger, by=by, since=since, until=until)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    low, high = (
        None if edge is None else int((edge - epoch) / timedelta(microseconds=1)) * 1000
        for edge in (since, until)
    )
    expected = _expected(calls, by, low, high)
    if by:
        assert {
            row.keys: [
                *(row.sums[name] for name in FIELDS),
                row.sums["cost_pusd"],
                row.sums["priced_calls"],
            ]
            for row in found.rows
        } == expected
    total = [sum(column) for column in zip(*expected.values(), strict=True)] or [0] * 10
    assert [
        *(found.total.sums[name] for name in FIELDS),
        found.total.sums["cost_pusd"],
        found.total.sums["priced_calls"],
    ] == total
    assert not found.notes


def _nanoseconds(moment):
    return (
        None
        if moment is None
        else (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    )


_edges = st.none() | st.integers(-2 * 3600 * 10**6, 62 * 3600 * 10**6).map(
    lambda micros: START + timedelta(microseconds=micros)
)


@given(
    st.sampled_from([["model"], ["crew", "agent"], ["task", "day"], ["hour"], ["tag:env"], []]),
    _edges,
    _edges,
)
@settings(max_examples=150, deadline=None)
def test_any_edges_give_the_scans_figures(made, by, since, until):
    """Wherever a window begins and ends, to the microsecond.

    Sums and bucket percentiles are those of going through every call.
    """
    ledger, calls, _ = made
    low, high = _nanoseconds(since), _nanoseconds(until)
    before, reports.EXACT_CALLS = reports.EXACT_CALLS, 0
    try:
        found = report(ledger, by=by, since=since, until=until)
    finally:
        reports.EXACT_CALLS = before
    expected = _expected(calls, by, low, high)
    if by:
        assert {
            row.keys: [*(row.sums[name] for name in FIELDS), row.sums["cost_pusd"]]
            for row in found.rows
        } == {key: sums[:9] for key, sums in expected.items()}
    counts = defaultdict(lambda: defaultdict(int))
    for made_call, _ in calls:
        if (low is None or made_call.started_ns >= low) and (
            high is None or made_call.started_ns < high
        ):
            bucket = bucket_of(made_call.ended_ns - made_call.started_ns)
            counts[tuple(_key(made_call, group) for group in by)][bucket] += 1
            counts[None][bucket] += 1
    for row in (*found.rows, found.total):
        known = counts[row.keys if row is not found.total else None]
        for displayed, share in ((row.p50_seconds, 0.5), (row.p95_seconds, 0.95)):
            assert displayed == pytest.approx(quantile(known, share)), (row.keys, share)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("by", [*GROUPINGS, ["tool"], ["tool", "user"]], ids=",".join)
def test_reading_in_parts_changes_nothing(made, monkeypatch, by, exact):
    """Many rows, calls or groups are read in parts.

    What comes out is the same, percentiles included.
    """
    ledger, _, _ = made
    if not exact:
        monkeypatch.setattr(reports, "EXACT_CALLS", 0)
    windows = [
        {},
        {"since": START + timedelta(minutes=95), "until": START + timedelta(hours=49, minutes=7)},
    ]
    whole = [report(ledger, by=by, **window) for window in windows]
    for module, name in (
        (detail_source, "ROWS"),
        (rollup_source, "ROLLUP_ROWS"),
        (aggregate, "HELD"),
        (reports, "HELD_CALLS"),
    ):
        monkeypatch.setattr(module, name, 50)
    assert [report(ledger, by=by, **window) for window in windows] == whole
    for window, every in zip(windows, whole, strict=True):
        first = report(ledger, by=by, limit=4, **window)
        assert first.total == every.total
        assert (first.groups, len(first.rows), first.truncated) == (
            len(every.rows),
            min(4, len(every.rows)),
            len(every.rows) > 4,
        )
        assert [row.cost_pusd for row in first.rows] == [row.cost_pusd for row in every.rows[:4]]
        assert all(row in every.rows for row in first.rows)


def test_a_limit_keeps_the_dearest_and_the_earliest(made):
    """Rows come in the order they always come in.

    The document says how many there are, and the total is over all of them.
    """
    ledger, _, _ = made
    for by in (["run"], ["hour"]):
        every = report(ledger, by=by).document()
        first = report(ledger, by=by, limit=5).document()
        assert first == {
            **every,
            "rows": every["rows"][:5],
            "groups": len(every["rows"]),
            "truncated": True,
        }
        assert report(ledger, by=by, limit=1000).document() == {
            **every,
            "groups": len(every["rows"]),
            "truncated": False,
        }


def test_a_window_that_ends_now_reads_no_call_of_this_hour(ledger):
    """Of the hour at an edge the smaller part is read.

    Up to now that is what comes after now, nothing.
    """
    ledger.write(some_calls(6, 100, hours=1), [], frozen)
    window = {
        "since": START - timedelta(days=30),
        "until": START + timedelta(minutes=59, seconds=59),
    }
    before = report(ledger, by=["model"], **window)
    with ledger.engine.begin() as connection:
        connection.execute(
            text("DELETE FROM call WHERE started_ns < :until"), {"until": NOON + 59 * HOUR // 60}
        )
    assert [row.sums for row in report(ledger, by=["model"], **window).rows] == [
        row.sums for row in before.rows
    ]
    assert before.total.sums["calls"] > 90


@pytest.mark.parametrize("exact", [True, False])
def test_percentiles_are_right_within_five_percent(made, monkeypatch, exact):
    """p50 and p95 are exact for few calls; out of buckets they are at most 5 % off."""
    ledger, calls, _ = made
    if not exact:
        monkeypatch.setattr(reports, "EXACT_CALLS", 0)
    for by in (["model"], ["crew"], ["crew", "agent"], ["day"], ["team", "session"]):
        durations = defaultdict(list)
        for made_call, _ in calls:
            durations[tuple(_key(made_call, group) for group in by)].append(
                (made_call.ended_ns - made_call.started_ns) / 1e9
            )
        for row in (
            report(ledger, by=by, since=START + timedelta(minutes=30)).rows
            + report(ledger, by=by).rows
        ):
            assert row.p50_seconds is not None
        for row in report(ledger, by=by).rows:
            ordered = sorted(durations[row.keys])
            for share, displayed in ((0.5, row.p50_seconds), (0.95, row.p95_seconds)):
                spot = share * (len(ordered) - 1)
                low, high = ordered[int(spot)], ordered[min(int(spot) + 1, len(ordered) - 1)]
                if exact:
                    assert displayed == pytest.approx(low + (high - low) * (spot - int(spot)))
                else:
                    assert low * 0.94 <= displayed <= high * 1.06


def test_buckets_are_five_percent_wide():
    """Every bucket's bound is at most 5 % above the last, and a duration falls under its bound."""
    assert all(high <= low * 1.0501 for low, high in pairwise(BOUNDS_NS))
    draw = random.Random(3)
    for _ in range(2000):
        duration = int(10 ** draw.uniform(0, 15))
        bucket = bucket_of(duration)
        assert BOUNDS_NS[bucket] >= min(duration, BOUNDS_NS[-1])
        assert bucket == 0 or BOUNDS_NS[bucket - 1] < duration
        assert in_buckets([duration, duration]) == {bucket: 2}
    assert quantiles({}) == (None, None)


def test_tools_are_counted_in_tool_calls(made):
    """Grouped by tool, calls and failures are tool calls.

    Tokens and cost are those of model calls made inside.
    """
    ledger, calls, tools = made
    for by in (["tool"], ["tool", "user"]):  # one from roll-ups, one from detail
        found = report(ledger, by=by)
        assert found.total.sums["calls"] == len(tools)
        assert found.total.sums["failed_calls"] == sum(tool.error for tool in tools)
        inside = [
            outcome.cost_pusd
            for made_call, outcome in calls
            if made_call.context.tool and hasattr(outcome, "cost_pusd")
        ]
        assert found.total.sums["cost_pusd"] == sum(inside)
    with pytest.raises(CrewMeterError, match="tool calls have no model"):
        report(ledger, by=["tool", "model"])


def test_filters_leave_only_what_matches(made):
    """`where` by name, tag and run agrees with the group of that name.

    A name nobody has gives nothing.
    """
    ledger, _, _ = made
    for group in ("crew", "model", "tag:env", "run", "session", "team"):
        by_name = {row.keys[0]: row for row in report(ledger, by=[group]).rows}
        name = next(name for name in by_name if name is not None)
        assert report(ledger, where={group: name}).total.sums == by_name[name].sums
        assert (
            report(ledger, by=["day"], where={group: name}).total.sums["cost_pusd"]
            == by_name[name].sums["cost_pusd"]
        )
        assert report(ledger, where={group: "nobody' OR 1=1 --"}).total.sums["calls"] == 0


def test_the_document_is_the_contract(made):
    """The JSON shape people script against: keys, exact decimal strings, null for unknown cost."""
    ledger, _, _ = made
    document = report(
        ledger, by=["model", "day"], since=START, until=START + timedelta(hours=48)
    ).document()
    assert list(document) == ["since", "until", "currency", "group_by", "rows", "total"]
    assert (document["currency"], document["group_by"], document["since"]) == (
        "USD",
        ["model", "day"],
        "2026-06-01T12:00:00Z",
    )
    assert list(document["rows"][0]) == [
        "model",
        "day",
        "calls",
        "failed_calls",
        "unpriced_calls",
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost_usd",
        "success_rate",
        "p50_seconds",
        "p95_seconds",
    ]
    assert sum(Decimal(row["cost_usd"]) for row in document["rows"]) == Decimal(
        document["total"]["cost_usd"]
    )


def test_only_unpriced_is_null_not_zero(ledger):
    """A model without a price shows null.

    Mixed with a priced one the total says how many are missing.
    """
    ledger.write([(call(1, request_model="gpt-9"), UNPRICED), (call(2), priced(3))], [], frozen)
    document = report(ledger, by=["model"]).document()
    assert {row["model"]: row["cost_usd"] for row in document["rows"]} == {
        "gpt-9": None,
        "gpt-4o": "0.000000000003",
    }
    assert (document["total"]["cost_usd"], document["total"]["unpriced_calls"]) == (
        "0.000000000003",
        1,
    )


def test_a_wrong_group_is_named(ledger):
    """`--by colour` is refused with the list of what there is; two times at once too."""
    with pytest.raises(CrewMeterError, match="'colour'"):
        report(ledger, by=["colour"])
    with pytest.raises(CrewMeterError, match="one of hour"):
        report(ledger, by=["day", "hour"])
    with pytest.raises(CrewMeterError, match="filter by"):
        report(ledger, where={"x": "y"})


def test_month_reports_read_rollups_not_calls(ledger):
    """By model over a month touches no row of `call`.

    With the calls gone, the figures are the same.
    """
    ledger.write(some_calls(5, 300), [root()], frozen)
    whole = {"since": datetime(2026, 6, 1, tzinfo=UTC), "until": datetime(2026, 7, 1, tzinfo=UTC)}
    wanted = [
        ["model"],
        ["crew", "agent"],
        ["team", "day"],
        ["task"],
        ["tag:env"],
        ["provider", "month"],
    ]
    before = [report(ledger, by=by, **whole).rows for by in wanted]
    with ledger.engine.begin() as connection:
        connection.execute(text("DELETE FROM call"))
    after = [report(ledger, by=by, **whole).rows for by in wanted]
    assert [[row.sums for row in rows] for rows in before] == [
        [row.sums for row in rows] for rows in after
    ]


def test_reports_are_the_same_on_postgresql(made, postgres_url):
    """Every grouping and two windows: PostgreSQL answers what SQLite answers."""
    ledger, calls, tools = made
    with Ledger.open(postgres_url) as other:
        other.write(calls, tools, frozen)
        for by in [*GROUPINGS, ["tool"], ["tool", "user"]]:
            for since in (None, START + timedelta(minutes=95)):
                assert (
                    report(other, by=by, since=since).document()
                    == report(ledger, by=by, since=since).document()
                )
                assert (
                    report(other, by=by, limit=3).document()["total"]
                    == report(ledger, by=by).document()["total"]
                )


@pytest.mark.parametrize("by", ["model", "tool", "session"])
def test_detail_is_found_by_the_index_on_time(tmp_path, by):
    """The partial hours at a window's edges are searched by time.

    Reading every call would take seconds on a ledger of millions.
    """
    statements: list[str] = []
    plans: list[str] = []
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        with ledger.read_session() as session:
            # The report takes this connection: it is the only one that is idle.
            connection = session.connection
            connection.set_trace_callback(statements.append)
        report(
            ledger,
            by=[by],
            since=datetime(2026, 11, 1, 0, 17, tzinfo=UTC),
            until=datetime(2026, 11, 20, 0, 23, tzinfo=UTC),
        )
        connection.set_trace_callback(None)
        for statement in statements:
            if statement.startswith("SELECT"):
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}")
                plans.extend(row[3] for row in plan)
    assert any("call_time" in plan for plan in plans)
    assert not {"SCAN call", "SCAN step"} & set(plans)


def test_a_total_needs_no_new_sqlite(tmp_path):
    """HAVING without GROUP BY needs SQLite 3.39. An empty ledger's total is zero without it."""
    assert rollup_source.grouped(()) == ""
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        for wanted in (None, parse_filter("finish_reason=stop")):
            made = report(ledger, by=(), where=wanted)
            assert made.total.sums["calls"] == 0
            assert report(ledger, by=("tag:env",), where=wanted).rows == ()
