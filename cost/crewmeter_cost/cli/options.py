"""The options that every reading command shares, and how their values are read."""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Annotated

import typer

from crewmeter_cost import time_range

__all__ = [
    "Format",
    "FormatOption",
    "LedgerOption",
    "SinceOption",
    "UntilOption",
    "WhereOption",
    "ZoneOption",
    "instant",
    "must_exist",
    "window",
    "window_text",
    "zone",
]


class Format(StrEnum):
    """Output forms: for people, for scripts, for spreadsheets."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


_chosen_zone: ContextVar[str | None] = ContextVar("chosen_zone", default=None)


def _choose_zone(name: str | None) -> str | None:
    """Check ``--tz`` while the options are read, and keep it for `zone`."""
    time_range.read_zone(name)
    _chosen_zone.set(name)
    return name


LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        help="SQLAlchemy URL or SQLite path. Default: $CREWMETER_LEDGER, "
        "else ~/.crewmeter/ledger.db.",
    ),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Start (inclusive): 2026-11-01, 2026-11-01T12:00Z, 2h, 7d, today, yesterday, "
        "monday, 'last week', 'last month'.",
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="End (exclusive), in the same forms as --since."),
]
ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--tz",
        metavar="ZONE",
        callback=_choose_zone,
        help="Time zone for days, months and times, such as Europe/Berlin. "
        "Default: $CREWMETER_TZ, else UTC.",
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", metavar="FORMAT", help="table, json or csv.")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        help="Only these: terms such as 'model=gpt-5 status=failed cost>0.5 duration>2m "
        "tag:env=prod' (all must hold; repeatable). See docs/filters.md.",
    ),
]


def zone() -> tzinfo:
    """Return the time zone of this command: ``--tz``, else ``CREWMETER_TZ``, else UTC."""
    return time_range.read_zone(_chosen_zone.get())


def instant(text: str, *, option: str, now: datetime) -> datetime:
    """Return the moment (UTC) that an option's value names, in the command's zone."""
    return time_range.instant(
        text,
        option=option,
        now=now,
        zone=zone(),
    )


def window(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Return the window of ``--since`` and ``--until``, read in the command's zone."""
    return time_range.window(since, until, zone=zone())


def window_text(since: datetime | None, until: datetime | None) -> str:
    """Return a window for a table's title, in the command's zone."""
    return time_range.window_text(since, until, zone())


def must_exist(ledger: str | None) -> None:
    """Raise `CrewMeterError` where there is no ledger and none may be created."""
    from crewmeter_cost.ledger.store import Ledger

    Ledger.open(ledger, read_only=True).close()
