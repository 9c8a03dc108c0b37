"""The parts of usage in a ledger that no reader knows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["UnknownUsage", "unknown_usage"]

_PREFIX = "unknown_usage:"
_QUERY = """
    SELECT provider.value AS provider, flags.value AS flags, COUNT(*) AS calls
    FROM call JOIN label flags ON flags.id = call.cost_flags
    LEFT JOIN label provider ON provider.id = call.provider
    WHERE flags.value LIKE '%unknown_usage:%' {} GROUP BY provider.value, flags.value
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
    bounds = []
    window = {}
    for name, sign, moment in (("since", ">=", since), ("until", "<", until)):
        if moment is not None:
            bounds.append(f"AND call.started_ns {sign} :{name}")
            window[name] = round(moment.timestamp() * 10**9)
    with ledger.reading() as connection:
        rows = connection.execute(
            text(_QUERY.format(" ".join(bounds))),
            window,
        ).all()
    calls: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for flag in str(row.flags).split(","):
            if flag.startswith(_PREFIX):
                calls[row.provider or "–", flag.removeprefix(_PREFIX)] += int(row.calls)
    return [UnknownUsage(*key, count) for key, count in calls.most_common()]
