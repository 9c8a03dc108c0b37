"""A provider's usage object, in whatever shape it came, as a `TokenUsage`; and the cost it states."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from crewmeter.providers.hosts import canonical_provider
from crewmeter.providers.usage_shapes import SHAPES
from crewmeter.usage.draft import BadCount
from crewmeter.usage.token_usage import MISSING, TokenUsage

__all__ = ["read_usage", "reported_cost"]


def read_usage(
    raw: Mapping[str, object] | None, *, provider: str | None = None, operation: str | None = None
) -> TokenUsage:
    """Return the usage that a provider, an SDK or a CrewAI event reports. Never raises.

    ``provider`` (any spelling) and ``operation`` only decide what the keys leave open. Both token
    counts of a ``reported`` usage are known. Nothing recognised, or all zeros, is ``missing``. A
    count that is negative, absurd or no whole number, or parts that exceed the whole, are
    ``invalid``. Neither has counts.
    """
    if type(raw) is not dict and not isinstance(raw, Mapping):  # the first is quicker, and the rule
        return MISSING
    provider = canonical_provider(provider)
    try:
        for keys, any_of, reader in SHAPES:
            if raw.get(keys[0]) is not None and (not any_of or any(key in raw for key in any_of)):
                return reader(raw, provider).finish(operation)
    except BadCount as bad:
        return TokenUsage(status="invalid", flags=(f"bad_count:{bad.args[0]}",))
    return MISSING


_TICKS_PER_USD = Decimal(10**10)
"""xAI bills in ticks of a dollar: docs.x.ai/developers/cost-tracking."""


def reported_cost(raw: Mapping[str, object] | None) -> str | None:
    """Return what the provider itself says the call cost, as a decimal string in USD.

    OpenRouter, Perplexity and xAI do. Never raises.
    """
    if raw is None or not ("cost" in raw or "cost_in_usd_ticks" in raw):
        return None
    ticks = raw.get("cost_in_usd_ticks")
    if type(ticks) is int and 0 <= ticks < 10**20:
        return _plain(Decimal(ticks) / _TICKS_PER_USD)
    cost = raw.get("cost")
    if isinstance(cost, Mapping):
        cost = cost.get("total_cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float | str):
        return None
    try:
        amount = Decimal(str(cost)[:40])
    except InvalidOperation:
        return None
    return _plain(amount) if amount.is_finite() and 0 <= amount < 10**9 else None


def _plain(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
