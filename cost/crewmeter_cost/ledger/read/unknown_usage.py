"""The parts of usage that no reader knows, and the sums that are inexact."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

from crewmeter_cost.filters import Filter, parse_filter
from crewmeter_cost.ledger.read.query import within
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.sql import Sql, sql, where
from crewmeter_cost.money import nanoseconds
from crewmeter_cost.pricing.charge_result import EXACT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, tzinfo

    from crewmeter_cost.ledger.read.report import Report
    from crewmeter_cost.ledger.store import Ledger

__all__ = [
    "COUNTED_CALLS",
    "UnknownUsage",
    "inexact_calls",
    "inexact_report",
    "unknown_usage",
    "with_inexact_calls",
]

COUNTED_CALLS = 500_000
"""Of a report over more calls, the inexact ones are not counted: that would read them all."""
COUNTED_GROUPS = 20_000
"""Nor of a report that leaves rows out of more groups: they would all be built. 50 MB."""

_NO_FILTER = Filter(())
_PREFIX = "unknown_usage:"
_CALLS = """
    SELECT provider.value, flags.value, count(*)
    FROM call JOIN label AS flags ON flags.id = call.cost_flags
    LEFT JOIN label AS provider ON provider.id = call.provider
"""


class UnknownUsage(NamedTuple):
    """A path that nobody knows, and the calls whose cost it makes a bound."""

    provider: str
    path: str
    calls: int


def unknown_usage(
    ledger: Ledger, *, since: datetime | None = None, until: datetime | None = None
) -> list[UnknownUsage]:
    """Return every unknown usage path in [since, until), most calls first."""
    window = within("call.started_ns", nanoseconds(since), nanoseconds(until))
    flagged = Sql("flags.value LIKE '%unknown_usage:%'")
    query = sql(
        _CALLS,
        where([flagged, *window]),
        "GROUP BY provider.value, flags.value",
    )
    with ledger.read_session() as session:
        rows = session.rows(query)
    calls: Counter[tuple[str, str]] = Counter()
    for provider, flags, count in rows:
        paths = (flag for flag in flags.split(",") if flag.startswith(_PREFIX))
        for path in paths:
            key = (provider or "–", path.removeprefix(_PREFIX))
            calls[key] += count
    return [UnknownUsage(*key, count) for key, count in calls.most_common()]


def inexact_report(
    ledger: Ledger,
    *,
    by: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    where: Filter = _NO_FILTER,
    zone: tzinfo = UTC,
) -> Report:
    """Return a report over those calls alone whose cost is a bound or an estimate.

    Its ``priced_calls`` are their number: a call without a price has no cost to be inexact.
    """
    exact = parse_filter([f"cost_status!={status}" for status in sorted(EXACT)])
    return report(
        ledger,
        by=by,
        since=since,
        until=until,
        where=Filter((*where.terms, *exact.terms)),
        zone=zone,
    )


def inexact_calls(
    ledger: Ledger,
    where: Filter,
    since: datetime | None,
    until: datetime | None,
) -> int:
    """Return how many calls of a window have an inexact cost, as a report does."""
    made = report(
        ledger,
        since=since,
        until=until,
        where=where,
    )
    made = with_inexact_calls(
        ledger,
        made,
        where,
        UTC,
    )
    return made.total.inexact_calls or 0


def with_inexact_calls(ledger: Ledger, made: Report, where: Filter, zone: tzinfo) -> Report:
    """Return a report that says how many calls of each sum have an inexact cost.

    A cost is inexact where it is a bound or an estimate. Roll-ups do not tell, so the calls are
    counted, where they are not too many.

    Args:
        ledger: The ledger that the report was read from.
        made: The report.
        where: What it counts.
        zone: Where its days begin.

    Returns:
        The report with ``inexact_calls``, unchanged where it is over tool calls or too many calls.
    """
    # Tool calls have no cost status of their own.
    of_tools = "tool" in made.group_by or any(term.key == "tool" for term in where.terms)
    if of_tools or made.total.sums["calls"] > COUNTED_CALLS:
        return made
    if made.truncated and made.groups > COUNTED_GROUPS:
        return made
    found = inexact_report(
        ledger,
        by=made.group_by,
        since=made.since,
        until=made.until,
        where=where,
        zone=zone,
    )
    counts = {row.keys: row.sums["priced_calls"] for row in found.rows}
    rows = tuple(replace(row, inexact_calls=counts.get(row.keys, 0)) for row in made.rows)
    total = replace(made.total, inexact_calls=found.total.sums["priced_calls"])
    return replace(made, rows=rows, total=total)
