"""The options every reading command shares, and how their values are read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from crewmeter_cost.errors import CrewMeterError

__all__ = [
    "Format",
    "FormatOption",
    "LedgerOption",
    "SinceOption",
    "UntilOption",
    "instant",
    "must_exist",
    "spoken",
    "window",
]


class Format(StrEnum):
    """How a command prints: for people, for scripts, for spreadsheets."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        help="SQLAlchemy URL or SQLite path. Default: $CREWMETER_LEDGER, else ~/.crewmeter/ledger.db.",
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since", help="From here on: 2026-11-01, 2026-11-01T12:00Z, 30d, 6h, today, month."
    ),
]
UntilOption = Annotated[
    str | None, typer.Option("--until", help="Up to here (exclusive); same forms as --since.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="table, json or csv.")]

_AGO = re.compile(r"(\d+)\s*([smhdw])")
_UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def instant(text: str, *, option: str, now: datetime) -> datetime:
    """A moment (UTC) from what a person typed: a date, an RFC 3339 time, an age such as ``30d``, ``now``, ``today``, ``month``.

    A time without a zone is UTC. Raises `CrewMeterError` naming the option.
    """
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if word in ("now", "today", "month"):
        return {"now": now, "today": midnight, "month": midnight.replace(day=1)}[word]
    if match := _AGO.fullmatch(word):
        try:
            return now - timedelta(**{_UNIT[match[2]]: int(match[1])})
        except OverflowError:
            pass
    else:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            pass
        else:
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    raise CrewMeterError(
        f"{option} {text!r} is not a time",
        hint="use 2026-11-01, 2026-11-01T12:00Z, an age such as 30d or 6h, or now, today, month",
    )


def window(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """The half-open window [since, until) in UTC; an end that was not given is None. Raises `CrewMeterError` where it is empty."""
    now = datetime.now(UTC)
    start = None if since is None else instant(since, option="--since", now=now)
    end = None if until is None else instant(until, option="--until", now=now)
    if start is not None and end is not None and start >= end:
        raise CrewMeterError(
            f"--since {since} is not before --until {until}", hint="swap them, or leave one out"
        )
    return start, end


def must_exist(ledger: str | None) -> None:
    """For commands that change a ledger but have no business making one. Raises `CrewMeterError` where there is none."""
    from crewmeter_cost.ledger.store import Ledger

    Ledger.open(ledger, read_only=True).close()


def spoken(since: datetime | None, until: datetime | None) -> str:
    """A window for a table's title: ``the beginning to now (UTC)``."""
    start = "the beginning" if since is None else f"{since:%Y-%m-%d %H:%M}"
    end = "now" if until is None else f"{until:%Y-%m-%d %H:%M}"
    return f"{start} to {end} (UTC)"
