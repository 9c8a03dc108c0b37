"""Month-end projection of a scope's spend, read from the ledger's hourly sums."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from crewmeter_cost.analysis.forecast import LOOK_BACK_DAYS, Projection, month_end
from crewmeter_cost.budgets.period import month_bounds
from crewmeter_cost.budgets.period_spend import hourly_pusd
from crewmeter_cost.money import exact_usd

if TYPE_CHECKING:
    from crewmeter_cost.ledger.session import Session

__all__ = ["history_start", "outlook", "projection_document"]

_HOUR = 3600


def history_start(now: datetime, zone: tzinfo = UTC) -> int:
    """Return the first hour (unix seconds) that a forecast needs.

    The window holds the history that it learns from, and all of this month.
    """
    learned = int((now - timedelta(days=LOOK_BACK_DAYS)).timestamp())
    month, _ = month_bounds(now, zone)
    return min(learned, month) // _HOUR * _HOUR


def outlook(
    session: Session,
    *,
    now: datetime,
    scope: str = "everything",
    name: str | None = None,
    start: int | None = None,
    zone: tzinfo = UTC,
) -> Projection:
    """Return the projection of a scope's month in `zone`, as of `now`.

    History begins at `start` (unix seconds), by default as early as a forecast can use it.
    """
    moment = int(now.timestamp())
    hourly = hourly_pusd(
        session,
        scope=scope,
        value=name,
        start=history_start(now, zone) if start is None else start,
        end=moment + 1,
    )
    month, following = month_bounds(now, zone)
    return month_end(
        hourly,
        now=moment,
        month_start=month,
        following=following,
    )


def projection_document(scope: str, projection: Projection) -> dict[str, object]:
    """Return a scope's projection as JSON, amounts as exact decimal strings of USD."""
    return {
        "scope": scope,
        "spent_usd": exact_usd(projection.spent_pusd),
        "expected_usd": exact_usd(projection.expected_pusd),
        "low_usd": exact_usd(projection.low_pusd),
        "high_usd": exact_usd(projection.high_pusd),
        "days_of_history": projection.days_of_history,
    }
