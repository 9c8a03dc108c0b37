"""Amounts and instants as text: exact, and the same wherever the ledger's figures leave it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from crewmeter_cost.pricing.charge import PICO

__all__ = ["exact_usd", "moment", "nanoseconds", "utc_text"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def exact_usd(pusd: int) -> str:
    """Pico-USD as an exact decimal string of USD without trailing zeros, however large."""
    sign, (whole, pico) = "-" if pusd < 0 else "", divmod(abs(pusd), PICO)
    return f"{sign}{whole}.{pico:012d}".rstrip("0").rstrip(".")


def moment(started_ns: int) -> str:
    """Unix nanoseconds as RFC 3339 in UTC, to the microsecond: ``2026-11-21T09:00:00.000000Z``."""
    return f"{_EPOCH + timedelta(microseconds=started_ns // 1000):%Y-%m-%dT%H:%M:%S.%fZ}"


def nanoseconds(when: datetime | None) -> int | None:
    """A moment in unix nanoseconds, exact to the microsecond; None stays None."""
    if when is None:
        return None
    delta = when - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 10**9 + delta.microseconds * 1000


def utc_text(when: datetime) -> str:
    """A moment as RFC 3339 in UTC, as short as it is exact: ``2026-11-21T09:00:00Z``."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
