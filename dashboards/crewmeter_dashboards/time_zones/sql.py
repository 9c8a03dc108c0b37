"""Days and months of a time zone in SQL, for boards and rules in Grafana.

The local page binds these values instead (`crewmeter_cost.web.params`). Buckets have the offset of
the range's end, as on the page. Bounds of a month have the offset of their own moment, so that a
change to summer time in the middle of a month moves nothing.
"""

from __future__ import annotations

import re
from datetime import UTC as _UTC
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from crewmeter_dashboards.sql_sources import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["UTC", "ZONED", "without_offset", "zone_values"]

UTC = "UTC"
ZONED = ("day_start", "month_start", "month_end", "offset")
"""Tokens that depend on the time zone."""

_OFFSET = re.compile(r"\((\w+) \+ @offset\)| - @offset")
_FIRST_YEAR = 2024
_LAST_YEAR = 2036
_DAY = 86400


def without_offset(sql: str) -> str:
    """Return `sql` as it reads in UTC, without the zone's offset."""
    return _OFFSET.sub(lambda match: match[1] or "", sql)


def zone_values(dialect: Dialect, zone: str) -> dict[str, str]:
    """Return the SQL of each token in `ZONED`, for an IANA zone.

    Raises:
        ZoneInfoNotFoundError: The time zone database does not have the zone.
    """
    if dialect is Dialect.SQLITE:
        return dict(_SQLITE_IN_UTC) if zone == UTC else _sqlite(zone)
    named = _POSTGRESQL if dialect is Dialect.POSTGRESQL else _CLICKHOUSE
    ZoneInfo(zone)
    return {name: sql.replace("'ZONE'", f"'{zone}'") for name, sql in named.items()}


_SQLITE_IN_UTC: Mapping[str, str] = {
    "day_start": "CAST(strftime('%s', @to, 'unixepoch', 'start of day') AS INTEGER)",
    "month_start": "CAST(strftime('%s', @to, 'unixepoch', 'start of month') AS INTEGER)",
    "month_end": "CAST(strftime('%s', @to, 'unixepoch', 'start of month', '+1 month') AS INTEGER)",
    "offset": "0",
}
_LOCAL = "to_timestamp(@to) AT TIME ZONE 'ZONE'"
_POSTGRESQL: Mapping[str, str] = {
    "day_start": f"CAST(EXTRACT(EPOCH FROM date_trunc('day', {_LOCAL}) AT TIME ZONE 'ZONE') "
    "AS BIGINT)",
    "month_start": f"CAST(EXTRACT(EPOCH FROM date_trunc('month', {_LOCAL}) AT TIME ZONE 'ZONE') "
    "AS BIGINT)",
    "month_end": f"CAST(EXTRACT(EPOCH FROM (date_trunc('month', {_LOCAL}) + INTERVAL '1 month') "
    "AT TIME ZONE 'ZONE') AS BIGINT)",
    "offset": f"(CAST(EXTRACT(EPOCH FROM {_LOCAL}) AS BIGINT) - CAST(@to AS BIGINT))",
}
_MONTH = "toStartOfMonth(toDateTime(@to, 'ZONE'))"
_CLICKHOUSE: Mapping[str, str] = {
    "day_start": "toInt64(toUnixTimestamp(toStartOfDay(toDateTime(@to, 'ZONE'))))",
    "month_start": f"toInt64(toUnixTimestamp(toDateTime({_MONTH}, 'ZONE')))",
    "month_end": f"toInt64(toUnixTimestamp(toDateTime(addMonths({_MONTH}, 1), 'ZONE')))",
    "offset": "toInt64(timeZoneOffset(toDateTime(@to, 'ZONE')))",
}


def _sqlite(zone: str) -> dict[str, str]:
    """Return the tokens for SQLite.

    It knows no time zones, so the SQL lists the zone's changes.
    """
    offset = f"(SELECT {_offset_at('at', zone)} FROM (SELECT @to AS at))"
    return {
        "offset": offset,
        "day_start": _local_start(zone, "'start of day'"),
        "month_start": _local_start(zone, "'start of month'"),
        "month_end": _local_start(zone, "'start of month', '+1 month'"),
    }


def _local_start(zone: str, steps: str) -> str:
    """Return SQL for the moment at which a local day or month starts."""
    wall_clock = f"CAST(strftime('%s', @to + @offset, 'unixepoch', {steps}) AS INTEGER)"
    moments = f"SELECT local, local - @offset AS at FROM (SELECT {wall_clock} AS local)"
    return f"(SELECT local - {_offset_at('at', zone)} FROM ({moments}))"


def _offset_at(moment: str, zone: str) -> str:
    """Return SQL for the zone's offset (seconds east of UTC) at a moment."""
    first, changes = _changes(zone)
    before = [first, *changes.values()]
    until = zip(changes, before, strict=False)
    cases = [f"WHEN {moment} < {at} THEN {offset}" for at, offset in until]
    return f"CASE {' '.join(cases)} ELSE {before[-1]} END" if cases else str(first)


@cache  # every query of every board needs the same few thousand look-ups
def _changes(zone: str) -> tuple[int, dict[int, int]]:
    """Return a zone's first offset, and each later one by its first moment.

    Moments are unix seconds, offsets are seconds east of UTC.
    """
    clock = ZoneInfo(zone)

    def offset(moment: int) -> int:
        local = datetime.fromtimestamp(moment, _UTC).astimezone(clock)
        return int((local.utcoffset() or timedelta()).total_seconds())

    start = int(datetime(_FIRST_YEAR, 1, 1, tzinfo=_UTC).timestamp())
    end = int(datetime(_LAST_YEAR + 1, 1, 1, tzinfo=_UTC).timestamp())
    found: dict[int, int] = {}
    for day in range(start, end, _DAY):
        low, high = day, day + _DAY
        if offset(low) == offset(high):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            if offset(middle) == offset(day):
                low = middle
            else:
                high = middle
        found[high] = offset(high)
    return offset(start), found
