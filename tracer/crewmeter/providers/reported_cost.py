"""What a provider itself says a call cost."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

__all__ = ["COST_KEYS", "reported_cost"]

_TICKS_PER_USD = Decimal(10**10)
"""xAI bills in ticks of a dollar: docs.x.ai/developers/cost-tracking."""
_MOST_USD = 10**9
_MOST_TICKS = 10**20
_LONGEST_NUMBER = 40
_PLAIN_KEYS = ("cost", "estimated_cost", "total_cost", "cost_usd", "cost_in_usd")
"""``cost``: OpenRouter, Perplexity, LiteLLM. ``estimated_cost``: DeepInfra."""
COST_KEYS = frozenset({*_PLAIN_KEYS, "cost_in_usd_ticks", "cost_details", "is_byok"})
"""Keys of a usage object that this module reads."""


def reported_cost(raw: Mapping[str, object] | None) -> str | None:
    """Return the cost a usage object states, as a decimal string in USD. Never raises.

    With a key of the user's own at OpenRouter, ``cost`` is only the fee: what the provider behind
    it charges is added (openrouter.ai/docs/use-cases/byok).
    """
    if raw is None or COST_KEYS.isdisjoint(raw):
        return None
    ticks = raw.get("cost_in_usd_ticks")
    if type(ticks) is int and 0 <= ticks < _MOST_TICKS:
        return _text(Decimal(ticks) / _TICKS_PER_USD)
    amount = _first_amount(raw)
    upstream = _upstream(raw)
    is_own_key = raw.get("is_byok") is True
    if is_own_key and upstream is None:
        return None  # only the fee is known, which is not the cost
    is_fee = is_own_key or not amount
    if upstream is not None and is_fee:
        amount = (amount or Decimal(0)) + upstream
    if amount is None:
        return None
    return _text(amount)


def _first_amount(raw: Mapping[str, object]) -> Decimal | None:
    for key in _PLAIN_KEYS:
        value = raw.get(key)
        if isinstance(value, Mapping):
            value = value.get("total_cost")
        amount = _amount(value)
        if amount is not None:
            return amount
    return None


def _upstream(raw: Mapping[str, object]) -> Decimal | None:
    details = raw.get("cost_details")
    if not isinstance(details, Mapping):
        return None
    return _amount(details.get("upstream_inference_cost"))


def _amount(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value)[:_LONGEST_NUMBER])
    except (InvalidOperation, ValueError):  # ValueError: an int of more than 4,300 digits
        return None
    if amount.is_finite() and 0 <= amount < _MOST_USD:
        return amount
    return None


def _text(amount: Decimal) -> str:
    text = f"{amount:f}"
    if "." in text:
        return text.rstrip("0").rstrip(".")
    return text
