"""A catalogue entry through time: which of its price lists applies at a moment, for a service tier. Pure.

An entry is a list of periods, each a price list with optional conditions: ``from`` (a UTC date), ``hours``
(``"01:00-04:00"`` UTC) and ``tier``. Among those without a tier the last that applies is the standard price; those of the
asked tier are laid over it, the first that applies winning per unit. This is genai-prices' own reading, with one guard: a price
by the hour does not reach back before the dated price it follows in the list (theirs applies retroactively, for ever).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from crewmeter_cost.pricing.unit_prices import Price, Prices

__all__ = ["CONDITIONS", "Moments", "Period", "date_ns", "prices_at", "tier_known"]

Period = Mapping[str, object]
CONDITIONS = frozenset({"from", "hours", "tier", "uplift"})
"""Keys of a period that are no prices. ``uplift`` is the factor for a provider's regional endpoints (`regions`)."""
_DAY_S = 86_400
_NS = 1_000_000_000
_FOREVER = 2**63


def date_ns(text: str) -> int:
    """Nanoseconds since 1970 of a date's UTC midnight."""
    day = date.fromisoformat(text)
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * _NS


def _hours(text: str) -> tuple[int, int]:
    """``"01:00-04:00"`` as seconds of the day; the end is exclusive and may lie before the start (over midnight)."""
    start, end = (int(part[:2]) * 3600 + int(part[3:5]) * 60 for part in text.split("-"))
    return start, end


def _prices(period: Period) -> Prices:
    return cast("Prices", {unit: price for unit, price in period.items() if unit not in CONDITIONS})


def _applies(period: Period, at_ns: int, since_ns: int) -> bool:
    start = period.get("from")
    if start is not None and at_ns < date_ns(str(start)):
        return False
    hours = period.get("hours")
    if hours is None:
        return True
    if at_ns < since_ns:
        return False
    opens, closes = _hours(str(hours))
    second = at_ns // _NS % _DAY_S
    return opens <= second < closes if opens <= closes else second >= opens or second < closes


def prices_at(periods: Sequence[Period], at_ns: int, tier: str | None) -> Prices:
    """The price list in force at `at_ns` for `tier` (None is the standard tier)."""
    standard: Prices | None = None
    since_ns = 0
    over: dict[str, Price] = {}
    first: Prices | None = None
    for period in periods:
        of_tier = period.get("tier")
        if of_tier is None:
            first = first if first is not None else _prices(period)
            if _applies(period, at_ns, since_ns):
                standard = _prices(period)
            if "from" in period:
                since_ns = max(since_ns, date_ns(str(period["from"])))
        elif of_tier == tier and _applies(period, at_ns, 0):
            for unit, price in _prices(period).items():
                over.setdefault(unit, price)
    return {**(standard if standard is not None else first or {}), **over}


def tier_known(periods: Sequence[Period], at_ns: int, tier: str) -> bool:
    """Whether the catalogue has a price of its own for this tier at this moment."""
    return any(period.get("tier") == tier and _applies(period, at_ns, 0) for period in periods)


class Moments:
    """The moments at which prices change: between two of them (and two hours of the day) one plan is good for every call."""

    __slots__ = ("dates", "hours")

    def __init__(self, dates: set[int], hours: set[int]) -> None:
        self.dates = tuple(sorted(dates))
        self.hours = tuple(sorted(hours))

    @classmethod
    def of(cls, periods: Sequence[Period], more: set[int] = frozenset()) -> Moments:  # type: ignore[assignment]
        """Every date and hour that a list of periods mentions, and `more` moments (ns)."""
        dates = more | {date_ns(str(period["from"])) for period in periods if "from" in period}
        hours = {
            edge for period in periods if "hours" in period for edge in _hours(str(period["hours"]))
        }
        return cls(dates, hours)

    def segment(self, at_ns: int) -> tuple[int, int]:
        """Which stretch of the calendar and of the day a moment falls into."""
        return bisect_right(self.dates, at_ns), bisect_right(self.hours, at_ns // _NS % _DAY_S)

    def around(self, segment: tuple[int, int]) -> tuple[int, int]:
        """When a stretch of the calendar begins and ends (ns); for those without hours of the day."""
        index = segment[0]
        return self.dates[index - 1] if index else 0, self.dates[index] if index < len(
            self.dates
        ) else _FOREVER
