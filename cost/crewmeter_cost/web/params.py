"""What a browser asks for.

A time range, a bucket and filters, read from a query string and nothing taken on trust.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ANY", "PanelParameters", "auto_bucket", "moment", "read_parameters"]

ANY = "*"
"""A filter that lets every row through, also those without a name."""

_RELATIVE = re.compile(r"now(?:-(\d{1,6})([smhdw]))?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MOST_NAMES = 200
_STEPS = ((3600, 60), (3 * 3600, 300), (4 * 86400, 3600), (14 * 86400, 21600))


@dataclass(frozen=True, slots=True)
class PanelParameters:
    """Parameters of every panel query.

    Times in unix seconds, half-open; `bucket` in seconds; `budget` in USD a month.
    """

    since: int
    until: int
    bucket: int
    budget: float
    filters: Mapping[str, Sequence[str]]

    def parameters(self) -> dict[str, object]:
        """The values the catalogue's queries bind."""
        return {
            "from_": self.since,
            "to": self.until,
            "bucket": self.bucket,
            "budget": self.budget,
            **self.filters,
        }


def auto_bucket(seconds: int) -> int:
    """Seconds per point so that a range shows 25 to 100 of them."""
    return next((bucket for longest, bucket in _STEPS if seconds <= longest), 86400)


def moment(text: str, *, name: str, now: int) -> int:
    """Unix seconds from ``now``, ``now-30d`` or a number of seconds.

    Raises `CrewMeterError` naming the parameter.
    """
    if match := _RELATIVE.fullmatch(text):
        return now - (int(match[1]) * _SECONDS[match[2]] if match[1] else 0)
    if re.fullmatch(r"\d{1,11}", text):
        return int(text)
    raise CrewMeterError(
        f"{name}={text!r} is not a time", hint="use now, now-6h, now-30d or unix seconds"
    )


def _number(text: str, *, name: str, lowest: float, highest: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not lowest <= value <= highest:
        raise CrewMeterError(f"{name}={text!r} is not a number from {lowest:g} to {highest:g}")
    return value


def read_parameters(
    query: Mapping[str, Sequence[str]], *, filters: Sequence[str], now: int, budget: float
) -> PanelParameters:
    """The question in a query string (name → its values).

    Unknown names are ignored; raises `CrewMeterError` for wrong ones.
    """

    def one(name: str, default: str) -> str:
        return next(iter(query.get(name, ())), default)

    since, until = (
        moment(one("from", "now-24h"), name="from", now=now),
        moment(one("to", "now"), name="to", now=now),
    )
    if since >= until:
        raise CrewMeterError("the range is empty: `from` is not before `to`")
    bucket = int(_number(one("bucket", "0"), name="bucket", lowest=0, highest=31 * 86400))
    chosen = {name: tuple(query.get(name, ()))[:_MOST_NAMES] or (ANY,) for name in filters}
    return PanelParameters(
        since=since,
        until=until,
        bucket=bucket or auto_bucket(until - since),
        budget=_number(one("budget", f"{budget}"), name="budget", lowest=0, highest=1e12),
        filters=chosen,
    )
