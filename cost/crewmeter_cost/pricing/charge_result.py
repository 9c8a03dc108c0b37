"""What pricing answers: a charge with its lines, or the reason why there is none, and the rates it froze."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PICO", "Charge", "FrozenRates", "Item", "Outcome", "Unpriced"]

PICO = 10**12
"""Pico-USD in one USD."""


class Item(NamedTuple):
    """One line of a charge. Tuples, because one is made for every line of every call (see `benchmarks/charge.py`)."""

    item: str
    """``input`` | ``cache_read`` | ``cache_write_5m`` | ``cache_write_1h`` | ``output`` | ``web_search`` | …"""
    quantity: int
    rate_usd: str
    """USD per single unit (token, request, millisecond of GPU time), decimal string."""
    cost_pusd: int


class Charge(NamedTuple):
    """A priced call."""

    cost_pusd: int
    status: str
    """``priced`` | ``upper_bound`` | ``partial`` | ``estimated`` | ``reconciled`` | ``free_declared`` | ``provider_reported``.

    An ``upper_bound`` is at least what the provider bills, a ``partial`` at most: see `flags` for why.
    """
    items: tuple[Item, ...]
    provider: str
    model: str
    """The catalogue entry that priced it."""
    source: str
    """``override`` | ``genai-prices`` | ``litellm`` | ``correction`` | ``provider``."""
    version: str
    """Content hash of the frozen rates (`price_version.hash`)."""
    flags: tuple[str, ...] = ()
    """What was assumed; each is explained in ``docs/pricing.md``. E.g. ``provider_assumed``, ``cache_ttl_assumed``."""


class Unpriced(NamedTuple):
    """A call without a price. The ledger keeps NULL and this status, never 0."""

    status: str
    """``usage_missing`` | ``unknown_model`` | ``invalid_usage``."""
    reason: str
    """One sentence for a person, naming the culprit and the way out."""
    provider: str | None = None
    model: str | None = None
    flags: tuple[str, ...] = ()


Outcome = Charge | Unpriced


class FrozenRates(NamedTuple):
    """The rates of one price version, as the ledger keeps them: enough to derive a charge's lines again."""

    hash: str
    """Content hash of provider, model and rates."""
    source: str
    provider: str
    model: str
    rates: str
    """Canonical JSON: unit → price, or [price, [above tokens, price], …]; units as in `rates.SINGLE`."""
