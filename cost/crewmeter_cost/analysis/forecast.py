"""Month-end projections and unusual hours.

The functions are pure: hourly sums in, projections out.

Every hour still to come is expected to cost what the same hour of the week cost in the mean of the
last four weeks. The rule fits one SQL expression, so the boards, the alert and the commands all
give the same number (its SQL is `crewmeter_dashboards.panels.month_forecast`). It was chosen over
a level with weekday factors because a back-test over histories with weekday rhythm, growth and
spikes found it as good; ``benchmarks/forecast.py`` prints that back-test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LOOK_BACK_DAYS", "Anomaly", "Projection", "anomalies", "month_end"]

HISTORY_DAYS = 28
"""Four of each weekday: enough to average, short enough to follow a change."""
LOOK_BACK_DAYS = HISTORY_DAYS + 7
"""A week more is read, so that an idle weekend four weeks ago is not taken for the beginning."""
Z80 = 1.2815515655446004
"""Standard normal quantile for an interval that holds 80 %."""

_HOUR = 3600
_DAY = 24 * _HOUR
_WEEK = 7 * _DAY


@dataclass(frozen=True, slots=True)
class Projection:
    """Month-end spend in integer pico-USD.

    It has what was spent so far, the expected total and its 80 % interval.
    """

    spent_pusd: int
    expected_pusd: int
    low_pusd: int
    high_pusd: int
    days_of_history: int


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An hour that spent far more than the same hour of earlier weeks (pico-USD)."""

    hour: int
    spent_pusd: int
    usual_pusd: int

    @property
    def ratio(self) -> float | None:
        """Return the multiple of the usual spend, or None where nothing is usual."""
        if self.usual_pusd:
            return self.spent_pusd / self.usual_pusd
        return None


@dataclass(frozen=True, slots=True)
class _History:
    """The whole hours before `end` (unix seconds) that a projection learns from.

    `seconds` is their age: from the earliest hour with calls to `end`, at most four weeks.
    """

    hourly: Mapping[int, int]
    end: int
    seconds: int

    @property
    def weeks(self) -> int:
        """Return the whole weeks known: 0 to 4."""
        return self.seconds // _WEEK

    @property
    def days(self) -> int:
        """Return the whole days known."""
        return self.seconds // _DAY

    def daily(self) -> list[int]:
        """Return the sums of the whole days before `end`, the newest first (pico-USD)."""
        count = self.days
        if self.weeks:
            count = 7 * self.weeks
        days = [0] * count
        for hour, pusd in self.hourly.items():
            age = self.end - _HOUR - hour
            index = age // _DAY
            if index < count:
                days[index] += pusd
        return days


def month_end(
    hourly: Mapping[int, int], *, now: int, month_start: int, following: int
) -> Projection:
    """Return the projection of a month as of `now`.

    Below one week of history the mean hour stands for every hour of the week, and below one day
    only what is spent counts.

    Args:
        hourly: Pico-USD by the start of the hour, for this month and the last four weeks.
        now: The moment of the projection (unix seconds).
        month_start: When the month begins (unix seconds).
        following: When the next month begins (unix seconds).

    Returns:
        Spend so far, the expected total and its 80 % interval.

    """
    this_hour = now // _HOUR * _HOUR
    first_of_month = month_start // _HOUR * _HOUR
    spent = 0
    for hour, pusd in hourly.items():
        if first_of_month <= hour <= now:
            spent += pusd
    history = _history(hourly, this_hour)
    rest = _expected_rest(history, following)
    seconds_left = following - this_hour - _HOUR
    days_left = max(0, seconds_left) / _DAY
    deviation = _rest_deviation(history.daily(), days_left)
    margin = Z80 * deviation
    least = max(0, round(rest - margin))
    most = round(rest + margin)
    return Projection(
        spent_pusd=spent,
        expected_pusd=spent + round(rest),
        low_pusd=spent + least,
        high_pusd=spent + most,
        days_of_history=history.days,
    )


def _history(hourly: Mapping[int, int], end: int) -> _History:
    """Return what is known of the four weeks before the hour that begins at `end`."""
    earliest = end - LOOK_BACK_DAYS * _DAY
    past = {hour: pusd for hour, pusd in hourly.items() if earliest <= hour < end}
    seconds = 0
    if past:
        seconds = end - min(past)
    known = min(seconds, HISTORY_DAYS * _DAY)
    return _History(past, end, known)


def _expected_rest(history: _History, following: int) -> float:
    """Return the pico-USD expected after the current hour until the month ends."""
    if history.days == 0:
        return 0.0
    if history.weeks == 0:
        seconds_left = following - history.end - _HOUR
        spent = sum(history.hourly.values())
        return spent * seconds_left / history.seconds
    weighted = 0
    for hour, pusd in history.hourly.items():
        age = history.end - hour
        if age <= history.weeks * _WEEK:
            # How often this hour of the week is still to come.
            until_month_end = (following - 1 - hour) // _WEEK
            until_now = age // _WEEK
            weighted += pusd * (until_month_end - until_now)
    return weighted / history.weeks


def _rest_deviation(daily: list[int], days_left: float) -> float:
    """Return the standard deviation of the rest of the month (pico-USD).

    It has two parts: each day to come varies around its weekday's mean, and that mean is itself
    known from few days.
    """
    if len(daily) < 2:
        return 0.0
    slots = 7 if len(daily) > 7 else 1
    squares = 0.0
    for slot in range(slots):
        values = daily[slot::slots]
        mean = sum(values) / len(values)
        for value in values:
            squares += (value - mean) ** 2
    degrees_of_freedom = len(daily) - slots
    variance = squares / degrees_of_freedom
    of_days = days_left
    of_means = days_left**2 / len(daily)
    return math.sqrt(variance * (of_days + of_means))


def anomalies(
    hourly: Mapping[int, int],
    *,
    hours: list[int],
    ratio: float = 3.0,
    floor_pusd: int = 10**12,
    weeks: int = 4,
) -> list[Anomaly]:
    """Return the hours that spent far more than usual.

    An hour (unix seconds) is unusual at `ratio` times the median of the same hour in the `weeks`
    before, and `floor_pusd` above it.
    """
    found = []
    for hour in hours:
        spent = hourly.get(hour, 0)
        usual = round(
            median(
                hourly.get(
                    hour - back * _WEEK,
                    0,
                )
                for back in range(1, weeks + 1)
            )
        )
        if spent - usual >= floor_pusd and spent >= ratio * usual:
            found.append(Anomaly(hour, spent, usual))
    return found
