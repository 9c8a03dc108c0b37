"""Month-end projection of a scope's spend, read from the ledger's hourly sums."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from crewmeter_cost.analysis.forecast import HISTORY_DAYS, Projection, month_end
from crewmeter_cost.budgets.period_spend import hourly_pusd
from crewmeter_cost.money import exact_usd

if TYPE_CHECKING:
    from crewmeter_cost.ledger.session import Session

__all__ = ["history_start", "outlook", "projection_document"]

_DAY = 24 * 3600


def history_start(now: datetime) -> int:
    """Return the first midnight (unix seconds) that a forecast needs.

    The window holds the history the weekday pattern is learned from and all of this month.
    """
    return int((now - timedelta(days=HISTORY_DAYS)).timestamp()) // _DAY * _DAY


def outlook(
    session: Session,
    *,
    now: datetime,
    scope: str = "everything",
    name: str | None = None,
    start: int | None = None,
) -> Projection:
    """Return the projection of a scope's month as of `now`.

    History begins at `start` (unix seconds), by default as early as a forecast can use it.
    """
    first = history_start(now) if start is None else start
    hourly = hourly_pusd(
        session,
        scope=scope,
        value=name,
        start=first,
        end=int(now.timestamp()) + 1,
    )
    daily: dict[date, int] = defaultdict(int)
    for hour, pusd in hourly.items():
        daily[datetime.fromtimestamp(hour, UTC).date()] += pusd
    today = now.date()
    midnight = datetime(
        today.year,
        today.month,
        today.day,
        tzinfo=UTC,
    )
    return month_end(
        daily,
        today=today,
        today_pusd=daily.pop(today, 0),
        day_share=(now - midnight) / timedelta(days=1),
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
