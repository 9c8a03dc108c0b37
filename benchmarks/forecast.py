"""Back-test of the month-end forecast: mean absolute error against two naive methods, over seeded
histories.

Prints, for each history and day of the month, the mean absolute percentage error of the month's
total over 24 months. Run: ``python benchmarks/forecast.py``.
"""

from __future__ import annotations

import calendar
import random
from datetime import UTC, date, datetime, time, timedelta

from crewmeter_cost.analysis.forecast import Projection, month_end
from crewmeter_cost.budgets.period import month_bounds

START = date(2024, 1, 1)
DAYS = 3 * 366


def history(kind: str, seed: int) -> dict[date, int]:
    """Daily pico-USD with weekday rhythm and noise; `kind` adds growth or spikes."""
    rng = random.Random(seed)
    daily = {}
    for n in range(DAYS):
        day = START + timedelta(days=n)
        rhythm = (1.2, 1.3, 1.3, 1.2, 1.0, 0.3, 0.2)[day.weekday()] if kind != "flat" else 1.0
        growth = 1 + n / 200 if kind == "growing" else 1.0
        spike = 6.0 if kind == "spiky" and rng.random() < 0.02 else 1.0
        daily[day] = round(40e12 * rhythm * growth * spike * rng.lognormvariate(0, 0.25))
    return daily


def projection(past: dict[date, int], today: date) -> Projection:
    """Ours, at midnight; each day's sum is spent at noon."""
    now = datetime.combine(today, time(), UTC)
    month, following = month_bounds(now)
    hourly = {
        int(datetime.combine(day, time(12), UTC).timestamp()): pusd for day, pusd in past.items()
    }
    return month_end(hourly, now=int(now.timestamp()), month_start=month, following=following)


def run_rate(past: dict[date, int], today: date, length: int) -> float:
    """Return what most dashboards do: spent so far ÷ days gone × days in the month."""
    month = [
        pusd for day, pusd in past.items() if (day.year, day.month) == (today.year, today.month)
    ]
    return sum(month) / len(month) * length if month else 0.0


def last_month(past: dict[date, int], today: date) -> float:
    """Return the month before, again."""
    end = today.replace(day=1)
    return float(
        sum(
            pusd
            for day, pusd in past.items()
            if (end - timedelta(days=1)).replace(day=1) <= day < end
        )
    )


def main() -> None:
    methods = ("crewmeter", "run rate", "last month")
    headings = "".join(f"{method:>12}" for method in methods)
    print(f"{'history':<10}{'on day':>8}{headings}{'in range':>10}")
    for kind in ("flat", "weekly", "growing", "spiky"):
        for on_day in (4, 11, 18, 25):
            errors: list[list[float]] = [[], [], []]
            inside = 0
            for index in range(24):
                daily = history(kind, index % 6)
                today = date(2024 + (index + 6) // 12, (index + 6) % 12 + 1, on_day)
                length = calendar.monthrange(today.year, today.month)[1]
                past = {day: pusd for day, pusd in daily.items() if day < today}
                truth = sum(
                    pusd
                    for day, pusd in daily.items()
                    if (day.year, day.month) == (today.year, today.month)
                )
                ours = projection(past, today)
                inside += ours.low_pusd <= truth <= ours.high_pusd
                for column, guess in enumerate(
                    (ours.expected_pusd, run_rate(past, today, length), last_month(past, today))
                ):
                    errors[column].append(abs(guess - truth) / truth)
            means = [100 * sum(each) / len(each) for each in errors]
            off = "".join(f"{mean:>11.1f}%" for mean in means)
            print(f"{kind:<10}{on_day:>8}{off}{inside:>7}/24")


if __name__ == "__main__":
    main()
