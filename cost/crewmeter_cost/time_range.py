"""Time expressions that a person types, and the windows between two of them.

One grammar serves the command line, the sidecar's JSON, the page and the Python client: ISO 8601
dates and times, ages (``2h``, ``now-7d``, ``3 days ago``), and words (``today``, ``yesterday``,
``monday``, ``last week``, ``last month``). A word names a period and means its start. Words, dates
and times without a zone are read in the given time zone.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ZONE_VARIABLE",
    "instant",
    "read_zone",
    "window",
    "window_text",
    "zone_name",
]

ZONE_VARIABLE = "CREWMETER_TZ"

# A ledger holds moments as nanoseconds since 1970 in 64 bits.
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2262, 1, 1, tzinfo=UTC)

_FORMS = "2026-11-01, 2026-11-01T12:00Z, 2h, 7d, today, yesterday, monday, 'last week', month"
_AGE = re.compile(
    r"(?:now\s*-\s*)?(\d+)\s*"
    r"(s|m|h|d|w|(?:second|minute|hour|day|week|month|year|min|sec|hr)s?)(\s+ago)?"
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def read_zone(name: str | None = None, *, environ: Mapping[str, str] = os.environ) -> tzinfo:
    """Return the zone called `name`, by default ``CREWMETER_TZ``, else UTC.

    Raises `CrewMeterError` for a name that the time zone database does not have.
    """
    chosen = name or environ.get(ZONE_VARIABLE, "").strip() or "UTC"
    if chosen.upper() in ("UTC", "Z"):
        return UTC
    source = "--tz" if name else ZONE_VARIABLE
    try:
        return ZoneInfo(chosen)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CrewMeterError(
            f"{source} {chosen!r} is not a time zone",
            hint="use an IANA name such as Europe/Berlin, America/New_York or UTC",
        ) from error


def zone_name(zone: tzinfo) -> str:
    """Return the name to print beside times: ``UTC`` or ``Europe/Berlin``."""
    return getattr(zone, "key", None) or str(zone)


def instant(text: str, *, option: str, now: datetime, zone: tzinfo = UTC) -> datetime:
    """Return the moment (UTC) that `text` names.

    `option` is named in the error. Raises `CrewMeterError` for text that is not a time.
    """
    word = " ".join(text.split()).lower()
    try:
        found = _word(
            word,
            now.astimezone(zone),
        ) or _age(word, now.astimezone(zone))
        if found is None:
            found = datetime.fromisoformat(text.strip())
        if found.tzinfo is None:
            found = found.replace(tzinfo=zone)
        found = found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise CrewMeterError(
            f"{option} {text!r} is not a time", hint=f"use a time such as {_FORMS}"
        ) from error
    if not _EARLIEST <= found <= _LATEST:
        raise CrewMeterError(
            f"{option} {text!r} is outside the times a ledger can hold",
            hint=f"use a time from {_EARLIEST:%Y} to {_LATEST:%Y}",
        )
    return found


def _word(word: str, now: datetime) -> datetime | None:
    """Return the start of the period that `word` names, or None."""
    today = now.replace(
        hour=0,
        minute=0,
        second=0,
        microsecond=0,
        fold=0,
    )
    monday = today - timedelta(days=today.weekday())
    month = today.replace(day=1)
    periods = {
        "now": now,
        "today": today,
        "yesterday": today - timedelta(days=1),
        "week": monday,
        "month": month,
        "year": month.replace(month=1),
    }
    name = word.removeprefix("this ")
    if name in periods:
        return periods[name]
    if word in ("last week", "previous week"):
        return monday - timedelta(days=7)
    if word in ("last month", "previous month"):
        return (month - timedelta(days=1)).replace(day=1)
    if word in ("last year", "previous year"):
        return periods["year"].replace(year=now.year - 1)
    return _weekday(word, today)


def _weekday(word: str, today: datetime) -> datetime | None:
    """Return the last day of that name.

    ``monday`` is today on a Monday, ``last monday`` never.
    """
    name = word.removeprefix("last ")
    matches = [index for index, day in enumerate(_WEEKDAYS) if name in (day, day[:3])]
    if not matches:
        return None
    days = (today.weekday() - matches[0]) % 7
    if days == 0 and name != word:
        days = 7
    return today - timedelta(days=days)


def _age(word: str, now: datetime) -> datetime | None:
    """Return the moment so long before `now`.

    Months and years go by the calendar.
    """
    match = _AGE.fullmatch(word)
    if match is None:
        return None
    amount = int(match[1])
    unit = match[2]
    if unit.startswith(("month", "year")):
        months = amount * 12 if unit.startswith("year") else amount
        return _months_before(now, months)
    # Elapsed time is counted in UTC: a day is 24 hours also where the clocks change.
    return now.astimezone(UTC) - timedelta(seconds=amount * _SECONDS[unit[0]])


def _months_before(now: datetime, months: int) -> datetime:
    """Return the same day so many months earlier, or the last day of a shorter month."""
    index = now.year * 12 + now.month - 1 - months
    first = now.replace(
        year=index // 12,
        month=index % 12 + 1,
        day=1,
    )
    following = (first + timedelta(days=32)).replace(day=1)
    last = (following - timedelta(days=1)).day
    return first.replace(day=min(now.day, last))


def window(
    since: str | None,
    until: str | None,
    *,
    zone: tzinfo = UTC,
    now: datetime | None = None,
) -> tuple[datetime | None, datetime | None]:
    """Return the half-open window [since, until) in UTC, None for an open end.

    Raises `CrewMeterError` where an end is not a time, the window is empty, or it starts in the
    future.
    """
    moment = now or datetime.now(UTC)
    start = (
        None
        if since is None
        else instant(
            since,
            option="--since",
            now=moment,
            zone=zone,
        )
    )
    end = (
        None
        if until is None
        else instant(
            until,
            option="--until",
            now=moment,
            zone=zone,
        )
    )
    if start is not None and start > moment:
        raise CrewMeterError(
            f"--since {since} is in the future (now is {moment:%Y-%m-%dT%H:%MZ})",
            hint=f"use a time that has passed, such as {_FORMS}",
        )
    if start is not None and end is not None and start >= end:
        raise CrewMeterError(
            f"--since {since} is not before --until {until}", hint="swap them, or leave one out"
        )
    return start, end


def window_text(since: datetime | None, until: datetime | None, zone: tzinfo = UTC) -> str:
    """Return a window for a table's title.

    ``2026-11-01 00:00 to now (UTC)`` or ``all time``.
    """
    if since is None and until is None:
        return "all time"
    name = zone_name(zone)
    if since is None and until is not None:
        return f"up to {until.astimezone(zone):%Y-%m-%d %H:%M} ({name})"
    start = "" if since is None else f"{since.astimezone(zone):%Y-%m-%d %H:%M}"
    end = "now" if until is None else f"{until.astimezone(zone):%Y-%m-%d %H:%M}"
    return f"{start} to {end} ({name})"
