"""What a browser requests: a time range, a bucket and filters, all of it checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from crewmeter_cost.budgets.period import month_bounds
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.number_text import bounded_integer
from crewmeter_cost.time_range import instant
from crewmeter_cost.web.time_buckets import auto_bucket

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import tzinfo

__all__ = ["ANY", "PanelParameters", "moment", "read_parameters"]

ANY = "*"
"""A filter that lets every row through, also those without a name."""

_LATEST = 9_214_646_400
"""Unix seconds of the year 2262, the last that fits a ledger's nanoseconds in 64 bits."""
_LONGEST_BUCKET = 31 * 86400
_HIGHEST_BUDGET = 1e12
_MOST_NAMES = 200


@dataclass(frozen=True, slots=True)
class PanelParameters:
    """Parameters of every panel query.

    Times are unix seconds, half-open. `bucket` is in seconds, `budget` in USD a month. Days and
    months are those of `zone`.
    """

    since: int
    until: int
    bucket: int
    budget: float
    filters: Mapping[str, Sequence[str]]
    zone: tzinfo = field(default=UTC)

    @property
    def month(self) -> tuple[int, int]:
        """Return the month of the range's end: its start, and the start of the next."""
        return month_bounds(self._end, self.zone)

    @property
    def _end(self) -> datetime:
        return datetime.fromtimestamp(self.until, UTC)

    @property
    def _midnight(self) -> int:
        """The start of the day of the range's end."""
        local = self._end.astimezone(self.zone)
        start = local.replace(
            hour=0,
            minute=0,
            second=0,
            microsecond=0,
            fold=0,
        )
        return int(start.timestamp())

    def runs_since(self, word: str) -> int | None:
        """Return where the runs behind a panel begin, None for the start of the range.

        `word` is one of `run_links.RunLink.since`.
        """
        starts = {
            "hour": self.until - 3600,
            "day": self._midnight,
            "two weeks": self.until - 14 * 86400,
            "month": self.month[0],
        }
        return starts.get(word)

    def parameters(self) -> dict[str, object]:
        """Return the values that the catalogue's queries bind."""
        local = self._end.astimezone(self.zone)
        offset = local.utcoffset() or timedelta()
        month_start, month_end = self.month
        return {
            "day_start": self._midnight,
            "month_start": month_start,
            "month_end": month_end,
            "offset": int(offset.total_seconds()),
            "from_": self.since,
            "to": self.until,
            "bucket": self.bucket,
            "budget": self.budget,
            **self.filters,
        }


def moment(text: str, *, name: str, now: int, zone: tzinfo = UTC) -> int:
    """Return unix seconds from their number, or a time that `time_range` reads.

    Raises `CrewMeterError` naming the parameter.
    """
    if text.isdigit():
        return bounded_integer(
            text,
            name=name,
            lowest=0,
            highest=_LATEST,
        )
    found = instant(
        text,
        option=name,
        now=datetime.fromtimestamp(now, UTC),
        zone=zone,
    )
    return int(found.timestamp())


def read_parameters(
    query: Mapping[str, Sequence[str]],
    *,
    filters: Sequence[str],
    now: int,
    budget: float,
    zone: tzinfo = UTC,
) -> PanelParameters:
    """Return the parameters of a query string (name → its values).

    Unknown names are ignored. Raises `CrewMeterError` for wrong values.
    """

    def first(name: str, default: str) -> str:
        return next(
            iter(query.get(name, ())),
            default,
        )

    since = moment(
        first("from", "now-24h"),
        name="from",
        now=now,
        zone=zone,
    )
    until = moment(first("to", "now"), name="to", now=now, zone=zone)
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
        zone=zone,
    )


def _budget(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _HIGHEST_BUDGET:
        raise CrewMeterError(f"budget={text[:40]!r} is not a number from 0 to {_HIGHEST_BUDGET:g}")
    return value
