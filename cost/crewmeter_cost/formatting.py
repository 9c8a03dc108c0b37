"""How messages say amounts: one call, two calls. Imports nothing."""

from __future__ import annotations

__all__ = ["counted"]


def counted(amount: int, noun: str, plural: str | None = None) -> str:
    """``1 call``, ``2 calls``, ``12,345 calls``; `plural` where an s is not enough."""
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"
