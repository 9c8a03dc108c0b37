"""A charge: what one call cost, in integer pico-USD, or why it has no price."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PICO", "Charge", "Item", "Outcome", "Unpriced"]

PICO = 10**12
"""Pico-USD in one USD."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a charge. ``rate_pusd`` may be a fraction of a pico-dollar per unit, hence a string of a Decimal."""

    item: str
    """``input`` | ``cache_read`` | ``cache_write_5m`` | ``cache_write_1h`` | ``output`` | ``web_search`` | …"""
    quantity: int
    rate_usd: str
    """USD per single unit (token, request), decimal string."""
    cost_pusd: int


@dataclass(frozen=True, slots=True)
class Charge:
    """A priced call."""

    cost_pusd: int
    status: str
    """``priced`` | ``upper_bound`` | ``partial`` | ``estimated`` | ``reconciled`` | ``free_declared`` | ``provider_reported``."""
    items: tuple[Item, ...]
    provider: str
    model: str
    """The catalogue entry that priced it."""
    source: str
    """``override`` | ``genai-prices`` | ``litellm`` | ``correction`` | ``provider``."""
    version: str
    """Content hash of the frozen rates (`price_version.hash`)."""
    flags: tuple[str, ...] = ()
    """E.g. ``provider_assumed``, ``cache_ttl_assumed``, ``tier_assumed``."""


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A call without a price. The ledger keeps NULL and this status, never 0."""

    status: str
    """``usage_missing`` | ``unknown_model`` | ``invalid_usage``."""
    reason: str
    """One sentence for a person, naming the culprit and the way out."""
    provider: str | None = None
    model: str | None = None
    flags: tuple[str, ...] = ()


Outcome = Charge | Unpriced
