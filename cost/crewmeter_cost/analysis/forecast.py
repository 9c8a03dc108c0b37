"""Month-end projections and unusual hours.

Pure: daily and hourly sums in, projections out.

The method is a level and a weekday pattern: each day is divided by how its weekday usually
compares with the week around it, the level is an exponentially weighted mean of what remains, and
the days still to come are level × weekday. It was chosen over heavier ones because on a back-test
over histories with weekday rhythm, growth and spikes it is as good and needs no dependency;
``benchmarks/forecast.py`` prints that back-test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HISTORY_DAYS", "Anomaly", "Projection", "anomalies", "month_end", "project"]

HISTORY_DAYS = 56
"""Eight weeks: enough to know a weekday, short enough to follow a change."""
HALF_LIFE_DAYS = 7.0
"""After a week a day counts half in the level."""
Z80 = 1.2815515655446004
"""Standard normal quantile for an interval that holds four times of five."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Month-end spend in integer pico-USD.

    Spent so far, expected total, and the 80 % interval.
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


def project(daily: Mapping[date, int], *, first: date, days: int) -> tuple[list[float], float]:
    """Return the expected pico-USD for `days` days, and one day's deviation.

    The days begin at `first`. The deviation is the standard deviation of a day around its
    expectation.

    `daily` holds whole past days; days without spend may be missing and count as 0 from the first
    known day on.
    """
    known = [day for day in daily if day < first]
    if not known:
        return [0.0] * days, 0.0
    start = max(
        min(known),
        first - timedelta(days=HISTORY_DAYS),
    )
    history = [start + timedelta(days=n) for n in range((first - start).days)]
    values = {day: float(daily.get(day, 0)) for day in history}
    factors = _weekday_factors(values)
    level = 0.0
    weights = 0.0
    seen = []
    for day in history:
        weight = 0.5 ** ((first - day).days / HALF_LIFE_DAYS)
        seen.append((day, weight))
        if factor := factors[
            day.weekday()
        ]:  # a weekday on which nothing is ever spent says nothing about the level
            level += values[day] / factor * weight
            weights += weight
    level = level / weights if weights else 0.0
    total = sum(weight for _, weight in seen)
    spread = (
        sum(weight * (values[day] - level * factors[day.weekday()]) ** 2 for day, weight in seen)
        / total
    )
    future = [level * factors[(first + timedelta(days=n)).weekday()] for n in range(days)]
    return future, math.sqrt(spread)


def month_end(
    daily: Mapping[date, int], *, today: date, today_pusd: int, day_share: float
) -> Projection:
    """Return the month's projection.

    `daily` holds the days before `today`. `day_share` is how much of today is over (0 to 1).
    """
    following = date(
        today.year + today.month // 12,
        today.month % 12 + 1,
        1,
    )
    remaining = (following - today).days
    future, deviation = project(daily, first=today, days=remaining)
    spent = today_pusd + sum(
        pusd
        for day, pusd in daily.items()
        if (day.year, day.month) == (today.year, today.month) and day < today
    )
    future[0] *= 1 - day_share
    rest = sum(future)
    days_left = remaining - day_share
    effective = (
        min(
            len(daily),
            2 * HALF_LIFE_DAYS / math.log(2),
        )
        or 1.0
    )
    margin = Z80 * deviation * math.sqrt(days_left + days_left**2 / effective)
    return Projection(
        spent_pusd=spent,
        expected_pusd=spent + round(rest),
        low_pusd=spent + max(0, round(rest - margin)),
        high_pusd=spent + round(rest + margin),
        days_of_history=min(len(daily), HISTORY_DAYS),
    )


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
    week = 7 * 24 * 3600
    found = []
    for hour in hours:
        spent = hourly.get(hour, 0)
        usual = round(
            median(
                hourly.get(
                    hour - back * week,
                    0,
                )
                for back in range(1, weeks + 1)
            )
        )
        if spent - usual >= floor_pusd and spent >= ratio * usual:
            found.append(Anomaly(hour, spent, usual))
    return found


def _weekday_factors(values: Mapping[date, float]) -> list[float]:
    """Return each weekday's spend relative to the mean of the seven days around it.

    The median over the weeks, or 1.0 below two weeks of history.
    """
    ratios: list[list[float]] = [[] for _ in range(7)]
    for day in values:
        window = [values.get(day + timedelta(days=n)) for n in range(-3, 4)]
        around = [value for value in window if value is not None]
        if len(around) == 7 and (mean := sum(around) / 7) > 0:
            ratios[day.weekday()].append(values[day] / mean)
    if len(values) < 14 or not all(ratios):
        return [1.0] * 7
    factors = [median(each) for each in ratios]
    mean = sum(factors) / 7
    if mean > 0:
        return [factor / mean for factor in factors]
    return [1.0] * 7
