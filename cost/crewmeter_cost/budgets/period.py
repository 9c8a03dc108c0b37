"""When a budget's period began and when it resets, in the budget's own time zone. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

__all__ = ["PERIODS", "bounds"]

PERIODS = ("run", "hour", "day", "week", "month", "total")
"""What an amount can be per. ``run`` and ``total`` never reset by the clock."""


def bounds(period: str, at: datetime, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """(start, reset) of the period `at` falls in, both UTC; (None, None) for ``run`` and ``total``.

    A day is a local calendar day (23 or 25 hours where clocks change), a week starts on Monday (ISO 8601).
    An hour is an absolute hour of UTC, so that no hour is lost or lived twice when clocks change.
    """
    if period in ("run", "total"):
        return None, None
    if period == "hour":
        start = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return start, start + timedelta(hours=1)
    local = at.astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match period:
        case "day":
            first, following = midnight, _plus_days(midnight, 1)
        case "week":
            first = _plus_days(midnight, -midnight.weekday())
            following = _plus_days(first, 7)
        case "month":
            first = midnight.replace(day=1)
            following = first.replace(
                year=first.year + first.month // 12, month=first.month % 12 + 1
            )
        case _:
            raise ValueError(f"no period {period!r}; one of {', '.join(PERIODS)}")
    return first.astimezone(UTC), following.astimezone(UTC)


def _plus_days(midnight: datetime, days: int) -> datetime:
    """The local midnight so many calendar days away: wall-clock arithmetic, which is what a calendar means."""
    return midnight + timedelta(days=days)
