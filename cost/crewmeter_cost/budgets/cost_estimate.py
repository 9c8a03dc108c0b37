"""What a call will cost before it is made, and what it did cost after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.usage.attributes import usage_from_attributes
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.charge import Charge, charge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.pricing.price_book import PriceBook

__all__ = ["CostEstimate", "CostEstimator"]

CHARS_PER_TOKEN = 3
"""Fewer than the usual four, so that a guess is rather too high."""
FIRST_OUTPUT_TOKENS = 500
"""Output assumed for a model not called yet, where the request sets no maximum."""
SMOOTHING = 4
"""An expectation moves a quarter of the way to a lower cost, and at once to a higher one."""
_MOST_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Expected cost in integer pico-USD. `learned` where it rests on finished calls."""

    pusd: int
    learned: bool


class CostEstimator:
    """Expects what the last calls of the same agent on the same model cost.

    Before there are any, it estimates from the size of the request.
    """

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._learned: dict[tuple[object, object, object], int] = {}

    def expect(
        self,
        attributes: Mapping[str, object],
        *,
        input_chars: int,
        max_output_tokens: int | None,
        now: float,
    ) -> CostEstimate | None:
        """Return the expected cost, or None where the model has no price."""
        known = self._learned.get(_key(attributes))
        if known is not None:
            return CostEstimate(known, learned=True)
        output = max_output_tokens or FIRST_OUTPUT_TOKENS
        if attributes.get(semconv.OPERATION) == semconv.EMBEDDINGS:
            output = 0
        guess = TokenUsage(
            input=max(1, input_chars // CHARS_PER_TOKEN),
            output=output,
        )
        pusd = self._charge(guess, attributes, now=now, duration_ns=None)
        if pusd is None:
            return None
        return CostEstimate(pusd, learned=False)

    def cost(
        self, attributes: Mapping[str, object], *, now: float, duration_ns: int | None
    ) -> int | None:
        """Return integer pico-USD of a finished call and learn from it.

        None where the call has no price.
        """
        usage = usage_from_attributes(attributes)
        pusd = self._charge(
            usage,
            attributes,
            now=now,
            duration_ns=duration_ns,
        )
        if pusd is not None:
            self._learn(_key(attributes), pusd)
        return pusd

    def _learn(self, key: tuple[object, object, object], pusd: int) -> None:
        before = self._learned.get(key)
        if before is not None and pusd < before:
            pusd = before + (pusd - before) // SMOOTHING
        self._learned[key] = pusd
        if len(self._learned) > _MOST_KEYS:
            self._learned.pop(next(iter(self._learned)))

    def _charge(
        self,
        usage: TokenUsage,
        attributes: Mapping[str, object],
        *,
        now: float,
        duration_ns: int | None,
    ) -> int | None:
        declared = _text(attributes, semconv.DECLARED_PROVIDER)
        outcome = charge(
            usage,
            self._book,
            provider=declared or _text(attributes, semconv.PROVIDER),
            host=_text(attributes, semconv.SERVER_ADDRESS),
            model=_text(attributes, semconv.REQUEST_MODEL),
            response_model=_text(attributes, semconv.RESPONSE_MODEL),
            at_ns=int(now * 1e9),
            tier=_text(attributes, semconv.SERVICE_TIER),
            operation=_text(attributes, semconv.OPERATION) or semconv.CHAT,
            duration_ns=duration_ns,
            reported_cost_usd=_text(attributes, semconv.REPORTED_COST_USD),
        )
        if isinstance(outcome, Charge):
            return outcome.cost_pusd
        return None


def _key(attributes: Mapping[str, object]) -> tuple[object, object, object]:
    """Return what calls of one expected cost share: provider, model and agent."""
    return (
        attributes.get(semconv.PROVIDER),
        attributes.get(semconv.REQUEST_MODEL),
        attributes.get(semconv.AGENT_NAME),
    )


def _text(attributes: Mapping[str, object], name: str) -> str | None:
    value = attributes.get(name)
    if isinstance(value, str):
        return value
    return None
