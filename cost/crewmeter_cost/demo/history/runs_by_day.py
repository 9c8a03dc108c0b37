"""Days of sample data as spans in crewmeter's own dialect, repeatable by seed.

Each calendar day is drawn from a generator seeded with (seed, date), so a longer history contains
a shorter one and tomorrow's demo adds a day instead of rewriting all of them.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

from crewmeter_cost.demo.history.timeline import FailureRates, run_spans
from crewmeter_cost.demo.history.workforce import COMPANY, Crew

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from crewmeter_cost.records import Span

__all__ = ["CALLS_PER_DAY", "history"]

CALLS_PER_DAY = 330
"""Model calls on an average day: 30 days make about 10,000."""
_WEEKDAY = (1.15, 1.2, 1.25, 1.2, 1.05, 0.4, 0.3)
"""Monday to Sunday; the mean is about 1."""
_HOURS = {
    "office": (0, 0, 0, 0, 0, 0.2, 0.6, 2, 6, 9, 10, 8, 5, 7, 9, 9, 8, 5, 2, 1, 0.5, 0.3, 0.1, 0),
    "always": (2, 1.5, 1, 1, 1, 1.5, 2, 4, 6, 8, 8, 7, 6, 7, 8, 8, 7, 6, 5, 5, 4, 4, 3, 2.5),
    "night": (0, 4, 10, 10, 4, 1, *(0,) * 18),
}
"""Relative load by hour of the day (UTC)."""
_SPIKE_EVERY, _OUTAGE_EVERY = 17, 13
"""Days between two runaway loops, and between two bad afternoons at a provider.

At least one of each in a month.
"""
_CREW = {crew.name: crew for crew in COMPANY}


def history(
    days: int, seed: int, until: datetime, *, calls_per_day: int = CALLS_PER_DAY
) -> Iterator[Span]:
    """Yield the spans of every run in the `days` days before `until`.

    Runs come in order of their start, and all end by `until`.
    """
    first = until - timedelta(days=days)
    low = int(first.timestamp()) * 10**9
    high = int(until.timestamp()) * 10**9
    day = first.astimezone(UTC).date()
    while day <= until.astimezone(UTC).date():
        for started_ns, crew, failure_rates, draw in _plan(day, seed, calls_per_day):
            if low <= started_ns < high:
                spans = run_spans(
                    crew,
                    started_ns,
                    Random(draw),
                    failure_rates,
                )
                if spans[-1].ended_ns <= high:
                    yield from spans
        day += timedelta(days=1)


def _plan(day: date, seed: int, calls_per_day: int) -> list[tuple[int, Crew, FailureRates, int]]:
    """Return the day's runs ordered by start.

    Each has a start, a crew, failure rates, and the seed of its own generator.
    """
    rng = Random(f"{seed}:{day.isoformat()}")
    midnight = int(
        datetime(
            day.year,
            day.month,
            day.day,
            tzinfo=UTC,
        ).timestamp()
    )
    outage = (day.toordinal() + seed) % _OUTAGE_EVERY == 4
    plan = []
    for crew in COMPANY:
        weekday = 1.0 if crew.rhythm == "night" else _WEEKDAY[day.weekday()]
        expected = calls_per_day * crew.share * weekday / _calls_per_run(crew)
        for _ in range(_about(expected, rng)):
            hour = rng.choices(
                range(24),
                weights=_HOURS[crew.rhythm],
            )[0]
            refused = 0.35 if outage and hour in (14, 15) else 0.01
            second = hour * 3600 + rng.random() * 3600
            plan.append(
                (
                    (midnight * 10**9) + int(second * 10**9),
                    crew,
                    FailureRates(refusals=refused),
                    rng.getrandbits(64),
                )
            )
    if (day.toordinal() + seed) % _SPIKE_EVERY == 6:
        plan += _spike(midnight, rng, calls_per_day)
    return sorted(plan, key=lambda run: run[0])


def _spike(
    midnight: int, rng: Random, calls_per_day: int
) -> list[tuple[int, Crew, FailureRates, int]]:
    """Return an afternoon of looping research runs that cost several usual days."""
    runs = max(3, calls_per_day // 20)
    starts = (midnight + 13 * 3600 + rng.random() * 7200 for _ in range(runs))
    return [
        (
            int(start * 10**9),
            _CREW["market-research"],
            FailureRates(looping=True),
            rng.getrandbits(64),
        )
        for start in starts
    ]


def _calls_per_run(crew: Crew) -> float:
    return sum(job.role.turns + crew.embeds for job in crew.jobs)


def _about(expected: float, rng: Random) -> int:
    """Return a random count near `expected`.

    Normal approximation of a Poisson count, never negative.
    """
    return max(
        0,
        math.floor(expected + rng.gauss(0, math.sqrt(expected)) + rng.random()),
    )
