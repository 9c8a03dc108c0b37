"""When a budget's period began and when it resets, in its own time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import tzinfo

__all__ = ["PERIODS", "bounds", "month_bounds"]

PERIODS = ("run", "hour", "day", "week", "month", "total")
"""What an amount can be per. ``run`` and ``total`` never reset by the clock."""


def bounds(period: str, at: datetime, zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    """Return (start, reset) of the period that `at` falls in, both UTC.

    Both are None for ``run`` and ``total``. A day is a local calendar day (23 or 25 hours where
    clocks change), a week starts on Monday (ISO 8601). An hour is an absolute hour of UTC, so that
    no hour is lost or repeated when clocks change.
    """
    if period in ("run", "total"):
        return None, None
    if period == "hour":
        start = at.astimezone(UTC).replace(
            minute=0,
            second=0,
            microsecond=0,
        )
        return start, start + timedelta(hours=1)
    local = at.astimezone(zone)
    midnight = local.replace(
        hour=0,
        minute=0,
        second=0,
        microsecond=0,
        fold=0,
    )
    # Arithmetic on local midnights counts calendar days, whatever the clocks do in between.
    match period:
        case "day":
            first = midnight
            following = midnight + timedelta(days=1)
        case "week":
            first = midnight - timedelta(days=midnight.weekday())
            following = first + timedelta(days=7)
        case "month":
            first = midnight.replace(day=1)
            following = (first + timedelta(days=32)).replace(day=1)
        case _:
            raise ValueError(f"no period {period!r}; one of {', '.join(PERIODS)}")
    return first.astimezone(UTC), following.astimezone(UTC)


def month_bounds(at: datetime, zone: tzinfo = UTC) -> tuple[int, int]:
    """Return the start of the month of `at` in `zone`, and of the next (unix seconds)."""
    first, following = bounds("month", at, zone)
    assert first is not None
    assert following is not None
    return int(first.timestamp()), int(following.timestamp())
