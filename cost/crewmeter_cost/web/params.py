"""What a browser requests: a time range, a bucket and filters, all of it checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.number_text import bounded_integer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ANY", "PanelParameters", "auto_bucket", "moment", "read_parameters"]

ANY = "*"
"""A filter that lets every row through, also those without a name."""

_RELATIVE = re.compile(r"now(?:-([0-9]{1,6})([smhdw]))?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LATEST = 9_214_646_400
"""Unix seconds of the year 2262, the last that fits a ledger's nanoseconds in 64 bits."""
_LONGEST_BUCKET = 31 * 86400
_HIGHEST_BUDGET = 1e12
_MOST_NAMES = 200
_STEPS = ((3600, 60), (3 * 3600, 300), (4 * 86400, 3600), (14 * 86400, 21600))


@dataclass(frozen=True, slots=True)
class PanelParameters:
    """Parameters of every panel query.

    Times are unix seconds, half-open. `bucket` is in seconds, `budget` in USD a month.
    """

    since: int
    until: int
    bucket: int
    budget: float
    filters: Mapping[str, Sequence[str]]

    def parameters(self) -> dict[str, object]:
        """Return the values that the catalogue's queries bind."""
        return {
            "from_": self.since,
            "to": self.until,
            "bucket": self.bucket,
            "budget": self.budget,
            **self.filters,
        }


def auto_bucket(seconds: int) -> int:
    """Return the seconds per point that give a range 25 to 100 points."""
    for longest, bucket in _STEPS:
        if seconds <= longest:
            return bucket
    return 86400


def moment(text: str, *, name: str, now: int) -> int:
    """Return unix seconds from ``now``, ``now-30d`` or a number of seconds.

    Raises `CrewMeterError` naming the parameter.
    """
    match = _RELATIVE.fullmatch(text)
    if match is None:
        try:
            return bounded_integer(text, name=name, lowest=0, highest=_LATEST)
        except CrewMeterError as error:
            hint = "use now, now-6h, now-30d or unix seconds up to the year 2262"
            raise CrewMeterError(f"{name}={text[:40]!r} is not a time", hint=hint) from error
    if match[1] is None:
        return now
    found = now - int(match[1]) * _SECONDS[match[2]]
    if found < 0:
        raise CrewMeterError(f"{name}={text!r} is before 1970", hint="use a shorter time")
    return found


def read_parameters(
    query: Mapping[str, Sequence[str]], *, filters: Sequence[str], now: int, budget: float
) -> PanelParameters:
    """Return the parameters of a query string (name → its values).

    Unknown names are ignored. Raises `CrewMeterError` for wrong values.
    """

    def first(name: str, default: str) -> str:
        return next(
            iter(query.get(name, ())),
            default,
        )

    since = moment(first("from", "now-24h"), name="from", now=now)
    until = moment(first("to", "now"), name="to", now=now)
    if since >= until:
        raise CrewMeterError("the range is empty: `from` is not before `to`")
    bucket = bounded_integer(
        first("bucket", "0"),
        name="bucket",
        lowest=0,
        highest=_LONGEST_BUCKET,
    )
    return PanelParameters(
        since=since,
        until=until,
        bucket=bucket or auto_bucket(until - since),
        budget=_budget(first("budget", f"{budget}")),
        filters={name: tuple(query.get(name, ()))[:_MOST_NAMES] or (ANY,) for name in filters},
    )


def _budget(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _HIGHEST_BUDGET:
        raise CrewMeterError(f"budget={text[:40]!r} is not a number from 0 to {_HIGHEST_BUDGET:g}")
    return value
