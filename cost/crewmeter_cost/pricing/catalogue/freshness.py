"""How current the prices are, by their data: a wheel's files have no date."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from crewmeter_cost.pricing.catalogue import catalogue_files
from crewmeter_cost.pricing.catalogue.corrections import PATH
from crewmeter_cost.pricing.catalogue.search import Library

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["priced_until"]


def priced_until(now: datetime) -> datetime:
    """Return when the prices in use were last seen to be current.

    The year 1 where nothing tells, which any alert on age notices.

    Of the user's own catalogue it is when `crewmeter prices update` wrote it. Of the shipped data
    it is its latest day: the newest price in force (a price that begins later was announced
    before) or the newest check of a correction.
    """
    library = Library()
    own = catalogue_files.own_path()
    if library.genai.origin == str(own):
        return datetime.fromtimestamp(own.stat().st_mtime, UTC)
    days = [
        day
        for day in (library.newest_price(now.date()), *_checks())
        if day is not None and day <= now.date()
    ]
    latest = max(days, default=date.min)
    return datetime(
        latest.year,
        latest.month,
        latest.day,
        tzinfo=UTC,
    )


def _checks() -> Iterator[date]:
    """Return the days on which corrections were checked against their sources."""
    for entries in tomllib.loads(PATH.read_text(encoding="utf-8")).values():
        if isinstance(entries, list):
            yield from (
                entry["checked"] for entry in entries if isinstance(entry.get("checked"), date)
            )
