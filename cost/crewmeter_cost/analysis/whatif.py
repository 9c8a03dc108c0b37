"""What the history would have cost with other models, tiers or cache shares.

Pure over billed calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from crewmeter_cost.pricing.charge import Charge, charge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.ledger.read.calls import BilledCall
    from crewmeter_cost.pricing.price_book import PriceBook

__all__ = ["Change", "WhatIfLine", "cached_usage", "compare"]


@dataclass(frozen=True, slots=True)
class Change:
    """The change to evaluate: model replacements, service tier, cached share of input.

    Models are ``provider/model`` or ``model``.
    """

    models: Mapping[str, str]
    tier: str | None = None
    cached_share: float | None = None
    """0 to 1 of the whole input read from the cache; None leaves it as it was."""


@dataclass(slots=True)
class WhatIfLine:
    """One model's history under the change.

    Money in integer pico-USD, over the calls whose prices are both known.
    """

    model: str
    instead: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    was_pusd: int = 0
    would_pusd: int = 0
    unknown_calls: int = 0
    """Calls left out of both sums: no price then, or none under the change."""
    reason: str = ""
    """Why, for the first of them."""
    assumed: str = ""
    """What had to be assumed about the changed price, e.g. that no batch price is known."""

    @property
    def difference_pusd(self) -> int:
        """Below zero is a saving."""
        return self.would_pusd - self.was_pusd


_ASSUMED = {
    "tier_assumed": "no price on that tier is known, the standard price stands",
    "cache_read_rate_missing": "no cache price is known, cached tokens count in full",
}
"""Flag of a charge → what it means for the comparison."""


def compare(billed: Iterable[BilledCall], change: Change, book: PriceBook) -> list[WhatIfLine]:
    """Return each model that the change affects, most expensive first.

    Calls keep their tokens and their time: the price of that day applies.
    """
    lines: dict[tuple[str, str], WhatIfLine] = {}
    for call in billed:
        model = str(call.record["request_model"] or call.record["response_model"] or "")
        instead = change.models.get(model) or change.models.get(str(call.record["response_model"]))
        if change.models and instead is None:
            continue
        line = lines.setdefault(
            (model, instead or model), WhatIfLine(model or "(unknown)", instead or model)
        )
        _add(line, call, instead, change, book)
    return sorted(
        lines.values(),
        key=lambda line: (-line.was_pusd, line.model),
    )


def _add(
    line: WhatIfLine, call: BilledCall, instead: str | None, change: Change, book: PriceBook
) -> None:
    record = call.record
    provider, model = (
        _split(instead) if instead else (_text(record["provider"]), _text(record["request_model"]))
    )
    usage = (
        call.usage if change.cached_share is None else cached_usage(call.usage, change.cached_share)
    )
    # Another model has no response of its own, and is not behind the host of the call.
    response_model = _text(record["response_model"])
    host = call.host
    if instead:
        response_model = None
        host = None
    outcome = charge(
        usage,
        book,
        provider=provider,
        model=model,
        response_model=response_model,
        host=host,
        at_ns=call.started_ns,
        tier=change.tier or call.service_tier,
        operation=str(record["operation"]),
        duration_ns=call.duration_ns,
    )
    if not isinstance(outcome, Charge) or call.cost_pusd is None:
        if call.unpriced or call.cost_pusd is not None:
            line.unknown_calls += 1
            line.reason = line.reason or (
                "it has no price in the ledger" if isinstance(outcome, Charge) else outcome.reason
            )
        return
    line.assumed = line.assumed or next(
        (text for flag, text in _ASSUMED.items() if flag in outcome.flags), ""
    )
    line.calls += 1
    line.input_tokens += call.usage.input or 0
    line.output_tokens += call.usage.output or 0
    line.was_pusd += call.cost_pusd
    line.would_pusd += outcome.cost_pusd


def cached_usage(usage: TokenUsage, share: float) -> TokenUsage:
    """Return the usage with `share` of the input read from the cache, none written."""
    if usage.input is None:
        return usage
    return replace(
        usage,
        cache_read=round(usage.input * share),
        cache_write_5m=0,
        cache_write_1h=0,
    )


def _split(name: str) -> tuple[str | None, str]:
    """Return provider and model of ``provider/model``, provider None for a bare name."""
    provider, slash, model = name.partition("/")
    if slash:
        return (provider, model)
    return (None, name)


def _text(value: object) -> str | None:
    if value is None:
        return None
    return str(value)
