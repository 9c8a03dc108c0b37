"""What a call will cost before it is made, and what it did cost after: the numbers a guard reserves and settles."""

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

__all__ = ["Estimator", "Expectation"]

CHARS_PER_TOKEN = 3
"""Fewer than the usual four, so that a guess errs to the dear side."""
FIRST_OUTPUT_TOKENS = 500
"""Output assumed for a model nobody has called yet in this process, where the request sets no maximum."""
SMOOTHING = 4
"""An expectation moves a quarter of the way to each new cost, and at once where the cost is higher."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """Expected cost in integer pico-USD; `learned` where it rests on calls that were settled, not on a guess."""

    pusd: int
    learned: bool


class Estimator:
    """Expects of a call what the last calls of the same agent on the same model cost, and guesses from its size before that."""

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
    ) -> Expectation | None:
        """None where the model has no price, so no expectation either."""
        known = self._learned.get(_key(attributes))
        if known is not None:
            return Expectation(known, learned=True)
        output = (
            0
            if attributes.get(semconv.OPERATION) == semconv.EMBEDDINGS
            else max_output_tokens or FIRST_OUTPUT_TOKENS
        )
        guess = TokenUsage(input=max(1, input_chars // CHARS_PER_TOKEN), output=output)
        pusd = self._charge(guess, attributes, now=now, duration_ns=None)
        return None if pusd is None else Expectation(pusd, learned=False)

    def cost(
        self, attributes: Mapping[str, object], *, now: float, duration_ns: int | None
    ) -> int | None:
        """Integer pico-USD of a finished call, or None where it has no price; the expectation learns from it."""
        pusd = self._charge(
            usage_from_attributes(attributes), attributes, now=now, duration_ns=duration_ns
        )
        if pusd is not None:
            key = _key(attributes)
            before = self._learned.get(key)
            self._learned[key] = (
                pusd if before is None or pusd > before else before + (pusd - before) // SMOOTHING
            )
            if len(self._learned) > _MOST_KEYS:
                self._learned.pop(next(iter(self._learned)))
        return pusd

    def _charge(
        self,
        usage: TokenUsage,
        attributes: Mapping[str, object],
        *,
        now: float,
        duration_ns: int | None,
    ) -> int | None:
        outcome = charge(
            usage,
            self._book,
            provider=_text(attributes, semconv.DECLARED_PROVIDER)
            or _text(attributes, semconv.PROVIDER),
            host=_text(attributes, semconv.SERVER_ADDRESS),
            model=_text(attributes, semconv.REQUEST_MODEL),
            response_model=_text(attributes, semconv.RESPONSE_MODEL),
            at_ns=int(now * 1e9),
            tier=_text(attributes, semconv.SERVICE_TIER),
            operation=_text(attributes, semconv.OPERATION) or semconv.CHAT,
            duration_ns=duration_ns,
            reported_cost_usd=_text(attributes, semconv.REPORTED_COST_USD),
        )
        return outcome.cost_pusd if isinstance(outcome, Charge) else None


_MOST_KEYS = 10_000


def _key(attributes: Mapping[str, object]) -> tuple[object, object, object]:
    return (
        attributes.get(semconv.PROVIDER),
        attributes.get(semconv.REQUEST_MODEL),
        attributes.get(semconv.AGENT_NAME),
    )


def _text(attributes: Mapping[str, object], name: str) -> str | None:
    value = attributes.get(name)
    return value if isinstance(value, str) else None
