"""Whether captured content is stored, and for how long."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONTENT", "KEEP_CONTENT", "content_cutoff", "stores_content"]

CONTENT = "CREWMETER_CONTENT"
"""Environment variable: `store`, or nothing, which stores no content."""
KEEP_CONTENT = "CREWMETER_KEEP_CONTENT"
"""Environment variable: how long content stays, such as `12h` or `30d`."""
_DEFAULT_AGE = "7d"
_ON = frozenset({"store", "1", "true", "yes", "on"})
_OFF = frozenset({"", "off", "0", "false", "no"})


def stores_content(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether captured content is to be stored.

    Raises `CrewMeterError` for a setting that says neither yes nor no.
    """
    setting = environ.get(CONTENT, "").strip().lower()
    if setting in _ON:
        return True
    if setting in _OFF:
        return False
    raise CrewMeterError(
        f"{CONTENT} {setting!r} is not a setting", hint="use `store`, or leave it out"
    )


def content_cutoff(
    environ: Mapping[str, str] = os.environ, *, now: datetime | None = None
) -> datetime:
    """Return the moment before which stored content is deleted.

    Raises `CrewMeterError` for a setting that is no age.
    """
    # Imported here: apps that store no content need no reader of times.
    from crewmeter_cost.time_range import instant

    now = now or datetime.now(UTC)
    age = environ.get(KEEP_CONTENT, "").strip() or _DEFAULT_AGE
    before = instant(age, option=KEEP_CONTENT, now=now)
    if before > now:
        raise CrewMeterError(f"{KEEP_CONTENT} {age!r} is in the future", hint="use an age: 7d")
    return before
