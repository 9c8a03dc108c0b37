"""The result of pricing: a charge with its lines, or the reason for having none."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from crewmeter_cost.money import PICO

__all__ = [
    "EXACT",
    "OLD_STATUSES",
    "PICO",
    "Bound",
    "Charge",
    "CostStatus",
    "FrozenRates",
    "Item",
    "NoCost",
    "Outcome",
    "Unpriced",
]

Bound = Literal["", "upper_bound", "lower_bound", "estimated"]
"""The direction in which a sum may be off. Empty where it is exact, estimated where both."""
CostStatus = Literal[
    "priced",
    "provider_reported",
    "free_declared",
    "cached",
    "reconciled",
    "estimated",
    "lower_bound",
    "upper_bound",
]
"""Statuses of a call that has a cost."""
NoCost = Literal[
    "unknown_model",
    "usage_missing",
    "invalid_usage",
    "unrouted",
    "may_be_billed",
    "rejected",
]
"""Reasons for a call to have no cost."""
EXACT: Final = frozenset({"priced", "provider_reported", "free_declared", "cached", "reconciled"})
"""The statuses of a cost that is the bill. Any other cost is a bound or an estimate."""
OLD_STATUSES: Final = {"partial": "lower_bound"}
"""Statuses in ledgers of earlier versions, and what they are called now."""


class Item(NamedTuple):
    """One line of a charge."""

    # A tuple: one is built for every line of every call (`benchmarks/charge.py`).
    item: str
    """``input`` | ``cache_read`` | ``cache_write_5m`` | ``cache_write_1h`` | ``output`` | …"""
    quantity: int
    rate_usd: str
    """USD per single unit (token, request, millisecond of GPU time), decimal string."""
    cost_pusd: int


class Charge(NamedTuple):
    """A priced call."""

    cost_pusd: int
    status: CostStatus
    """An ``upper_bound`` is at least the bill, a ``lower_bound`` at most. `flags` say why."""
    items: tuple[Item, ...]
    provider: str
    model: str
    """The catalogue entry that priced it."""
    source: str
    """``override`` | ``genai-prices`` | ``litellm`` | ``correction`` | ``provider``."""
    version: str
    """Content hash of the frozen rates (`price_version.hash`)."""
    flags: tuple[str, ...] = ()
    """Assumptions, each explained in ``docs/pricing.md``: ``provider_assumed`` and others."""


class Unpriced(NamedTuple):
    """A call without a price. The ledger stores NULL and this status, never 0."""

    status: NoCost
    reason: str
    """One sentence for a person, with the culprit and the way out."""
    provider: str | None = None
    model: str | None = None
    flags: tuple[str, ...] = ()


Outcome = Charge | Unpriced


class FrozenRates(NamedTuple):
    """The rates of one price version as the ledger stores them."""

    hash: str
    """Content hash of provider, model and rates."""
    source: str
    provider: str
    model: str
    rates: str
    """Canonical JSON: unit → price, or [price, [above tokens, price], …]."""
