"""The parts of usage in a ledger that no reader knows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from crewmeter_cost.ledger.read.query import within
from crewmeter_cost.ledger.sql import Sql, sql, where
from crewmeter_cost.money import nanoseconds

if TYPE_CHECKING:
    from datetime import datetime

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["UnknownUsage", "unknown_usage"]

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
