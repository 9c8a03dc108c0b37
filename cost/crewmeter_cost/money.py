"""Amounts and instants as text.

They are exact, and the same on every surface that prints the ledger's figures.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["PICO", "exact_usd", "moment", "nanoseconds", "utc_text"]

PICO = 10**12
"""Pico-USD in one USD."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def exact_usd(pusd: int) -> str:
    """Return pico-USD as an exact decimal string of USD without trailing zeros."""
    whole, pico = divmod(abs(pusd), PICO)
    text = f"{whole}.{pico:012d}".rstrip("0").rstrip(".")
    if pusd < 0:
        return f"-{text}"
    return text


def moment(started_ns: int) -> str:
    """Return unix nanoseconds as RFC 3339 in UTC, to the microsecond.

    Example: `2026-11-21T09:00:00.000000Z`.
    """
    when = _EPOCH + timedelta(microseconds=started_ns // 1000)
    return f"{when:%Y-%m-%dT%H:%M:%S.%fZ}"


def nanoseconds(when: datetime | None) -> int | None:
    """Return a moment in unix nanoseconds, exact to the microsecond. None stays None."""
    if when is None:
        return None
    since = when - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return seconds * 10**9 + since.microseconds * 1000


def utc_text(when: datetime) -> str:
    """Return a moment as RFC 3339 in UTC, as short as it is exact.

    `2026-11-21T09:00:00Z`.
    """
    return when.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
