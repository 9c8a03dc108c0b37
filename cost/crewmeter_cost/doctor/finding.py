"""One thing that was checked: what it is, how it is, what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAILED", "NOTE", "OK", "Finding", "failed", "note", "ok"]

OK = "ok"
NOTE = "note"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    `status` is ``ok``, ``note`` (works, but worth knowing) or ``failed`` (calls would go unmetered
    or unpriced).
    """

    check: str
    status: str
    says: str
    hint: str | None = None


def ok(check: str, says: str) -> Finding:
    """All is well."""
    return Finding(check, OK, says)


def note(check: str, says: str, hint: str | None = None) -> Finding:
    """Works, but a person should know."""
    return Finding(check, NOTE, says, hint)


def failed(check: str, says: str, hint: str | None = None) -> Finding:
    """Something would be lost."""
    return Finding(check, FAILED, says, hint)
