"""A charge: what one call cost, in integer pico-USD with its lines, or why it has no price. Pure: no clock, no I/O."""

from __future__ import annotations

from bisect import bisect_left
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from crewmeter_cost.pricing.charge_result import PICO, Charge, FrozenRates, Item, Outcome, Unpriced
from crewmeter_cost.pricing.line_items import Lines, measure
from crewmeter_cost.pricing.unit_prices import FREE, GPU_HOUR, Plan

if TYPE_CHECKING:
    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.pricing.price_book import PriceBook
    from crewmeter_cost.records import Call

__all__ = [
    "PICO",
    "Charge",
    "FrozenRates",
    "Item",
    "Outcome",
    "Unpriced",
    "charge",
    "charge_call",
    "contradiction",
    "items_of",
]

_ABSURD = 2**40
"""More tokens than any request can hold: a count beyond it is garbage, not usage."""
_CEILING_FLAGS = frozenset({"cached_not_reported"})
"""Usage flags that make the computed cost a ceiling: tokens that may have been cheaper are billed in full."""
_AGREES_WITHIN = (Decimal("0.01"), Decimal("0.000001"))
"""A reported cost diverges where it is off by more than 1 % and by more than a millionth of a dollar."""


def charge(
    usage: TokenUsage,
    book: PriceBook,
    *,
    provider: str | None,
    model: str | None,
    at_ns: int,
    host: str | None = None,
    response_model: str | None = None,
    tier: str | None = None,
    operation: str = "chat",
    duration_ns: int | None = None,
    reported_cost_usd: str | None = None,
) -> Outcome:
    """What `usage` cost at `at_ns` (nanoseconds since 1970, when the request was sent).

    ``tier`` is the service tier the response names; ``duration_ns`` prices self-hosted models; ``reported_cost_usd`` is compared
    with the computed cost, and stands in only where none can be computed.
    """
    plan = book.plan(provider, model, host, response_model, tier, at_ns)
    if reported_cost_usd is None and plan.__class__ is Plan:
        quick = _quick(usage, plan)
        if quick is not None:
            return quick
    outcome = _computed(usage, plan, operation, duration_ns)
    return outcome if reported_cost_usd is None else _beside(outcome, reported_cost_usd, book)


def charge_call(call: Call, book: PriceBook) -> Outcome:
    """`charge` for a call as the intake read it, at the prices of the moment it started."""
    return charge(
        call.usage,
        book,
        provider=call.provider,
        model=call.request_model,
        at_ns=call.started_ns,
        host=call.host,
        response_model=call.response_model,
        tier=call.service_tier,
        operation=call.operation,
        duration_ns=call.ended_ns - call.started_ns,
        reported_cost_usd=call.reported_cost_usd,
    )


def items_of(
    usage: TokenUsage,
    frozen: FrozenRates,
    *,
    operation: str = "chat",
    duration_ns: int | None = None,
) -> tuple[Item, ...]:
    """The lines of an old charge again, from the rates it froze. Empty where the usage can't be charged."""
    if frozen.source == "provider" or usage.status == "invalid" or contradiction(usage):
        return ()
    plan = Plan.thaw(frozen)
    return (
        ()
        if FREE in plan.prices or _unreported(usage, plan)
        else tuple(_measured(usage, plan, operation, duration_ns).items)
    )


def contradiction(usage: TokenUsage) -> str | None:
    """Why a usage can't be true (a count below zero or absurd, parts exceeding their whole), or None."""
    counts = (
        ("input", usage.input),
        ("output", usage.output),
        ("cache_read", usage.cache_read),
        ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h),
        ("reasoning", usage.reasoning),
        ("input_audio", usage.input_audio),
        ("output_audio", usage.output_audio),
        ("input_image", usage.input_image),
        ("output_image", usage.output_image),
        ("web_searches", usage.web_searches),
        ("search_units", usage.search_units),
    )
    for name, count in counts:
        if count is not None and not 0 <= count <= _ABSURD:
            return f"{name} is {count}"
    cached = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    if usage.input is not None and cached > usage.input:
        return f"{cached} cached tokens of {usage.input} input tokens"
    if usage.input is not None and usage.input_audio + usage.input_image > usage.input:
        return f"{usage.input_audio + usage.input_image} audio and image tokens of {usage.input} input tokens"
    if usage.output is not None and usage.output_audio + usage.output_image > usage.output:
        return f"{usage.output_audio + usage.output_image} audio and image tokens of {usage.output} output tokens"
    return None


def _quick(usage: TokenUsage, plan: Plan) -> Charge | None:
    """The common charge (text in, cached or not, text out, every rate known and whole), written out for speed; None for any other."""
    tokens_in, tokens_out = usage.input, usage.output
    if (
        tokens_in is None
        or tokens_out is None
        or not plan.quick
        or usage.flags
        or usage.status != "reported"
        or usage.input_audio
        or usage.output_audio
        or usage.input_image
        or usage.output_image
        or usage.web_searches
        or usage.search_units
    ):
        return None
    band = plan.bands[bisect_left(plan.above, tokens_in)] if plan.above else plan.band
    read, write, write_1h = usage.cache_read, usage.cache_write_5m, usage.cache_write_1h
    rest = tokens_in - read - write - write_1h
    if rest < 0 or tokens_out < 0 or tokens_in > _ABSURD or tokens_out > _ABSURD:
        return None
    total = rest * band.input
    items = [_new(Item, ("input", rest, band.usd_of_input, total))] if rest else []
    if read:
        if read < 0 or (rate := band.cache_read) < 0:
            return None
        total += (cost := read * rate)
        items.append(_new(Item, ("cache_read", read, band.usd["cache_read"], cost)))
    if write:
        if write < 0 or (rate := band.cache_write) < 0:
            return None
        total += (cost := write * rate)
        items.append(_new(Item, ("cache_write_5m", write, band.usd["cache_write"], cost)))
    if write_1h:
        if write_1h < 0 or (rate := band.cache_write_1h) < 0:
            return None
        total += (cost := write_1h * rate)
        items.append(_new(Item, ("cache_write_1h", write_1h, band.usd["cache_write_1h"], cost)))
    if tokens_out:
        total += (cost := tokens_out * band.output)
        items.append(_new(Item, ("output", tokens_out, band.usd_of_output, cost)))
    return _new(
        Charge,
        (
            total,
            "priced",
            tuple(items),
            plan.provider,
            plan.model,
            plan.source,
            plan.version,
            plan.flags,
        ),
    )


_new = tuple.__new__
"""Makes a named tuple in half the time its own constructor takes."""


def _unreported(usage: TokenUsage, plan: Plan) -> bool:
    """Whether nobody said what was used, and the plan needs to know (GPU time is known without)."""
    silent = usage.status == "missing" or (usage.input is None and usage.output is None)
    return silent and not usage.search_units and GPU_HOUR not in plan.prices


def _measured(usage: TokenUsage, plan: Plan, operation: str, duration_ns: int | None) -> Lines:
    """Every line at the rates of the request's size."""
    band = (
        plan.bands[bisect_left(plan.above, usage.input)]
        if plan.above and usage.input is not None
        else plan.band
    )
    return measure(usage, band, operation=operation, duration_ns=duration_ns)


def _computed(
    usage: TokenUsage, plan: Plan | Unpriced, operation: str, duration_ns: int | None
) -> Outcome:
    """Any usage under any plan, with every guard."""
    provider, model = plan.provider, plan.model
    flags = tuple(dict.fromkeys((*plan.flags, *usage.flags)))
    if usage.status == "invalid":
        return Unpriced(
            "invalid_usage",
            f"the usage reported for {model!r} contradicts itself or is no count",
            provider,
            model,
            flags,
        )
    if (wrong := contradiction(usage)) is not None:
        return Unpriced(
            "invalid_usage",
            f"the usage reported for {model!r} can't be true: {wrong}",
            provider,
            model,
            flags,
        )
    if isinstance(plan, Unpriced):
        return plan._replace(flags=flags)
    if FREE in plan.prices:
        return Charge(
            0, "free_declared", (), plan.provider, plan.model, plan.source, plan.version, flags
        )
    if _unreported(usage, plan):
        return Unpriced(
            "usage_missing",
            f"nobody reported what the call to {model!r} used",
            provider,
            model,
            flags,
        )
    lines = _measured(usage, plan, operation, duration_ns)
    if not lines.items and lines.flags:
        units = ", ".join(sorted(plan.prices))
        reason = f"{model!r} at {provider} is priced by {units}, which this usage does not count; add a price under [[price]]"
        return Unpriced("unknown_model", reason, provider, model, (*flags, *lines.flags))
    bounds = {plan.bound, lines.bound, "upper_bound" if _CEILING_FLAGS & set(flags) else ""}
    status = (
        "partial" if "partial" in bounds else "upper_bound" if "upper_bound" in bounds else "priced"
    )
    if usage.status in ("estimated", "reconciled"):
        status = usage.status
    flags = tuple(dict.fromkeys((*flags, *lines.flags)))
    return Charge(
        sum(item.cost_pusd for item in lines.items),
        status,
        tuple(lines.items),
        plan.provider,
        plan.model,
        plan.source,
        plan.version,
        flags,
    )


def _beside(outcome: Outcome, reported_cost_usd: str, book: PriceBook) -> Outcome:
    """The provider's own figure beside the computed one: a divergence is flagged, a hole is filled."""
    try:
        reported = Decimal(reported_cost_usd)
    except InvalidOperation:
        reported = Decimal("NaN")
    if not reported.is_finite() or reported < 0 or reported > 10**6:
        return outcome._replace(flags=(*outcome.flags, "reported_cost_invalid"))
    if isinstance(outcome, Charge):
        computed = Decimal(outcome.cost_pusd).scaleb(-12)
        relative, absolute = _AGREES_WITHIN
        if abs(computed - reported) > max(relative * max(computed, reported), absolute):
            return outcome._replace(flags=(*outcome.flags, "reported_divergence"))
        return outcome
    cost = int((reported * PICO).to_integral_value(rounding="ROUND_HALF_EVEN"))
    frozen = book.reported(outcome.provider or "unknown")
    flags = (*outcome.flags, outcome.status)
    return Charge(
        cost,
        "provider_reported",
        (),
        frozen.provider,
        outcome.model or "unknown",
        "provider",
        frozen.hash,
        flags,
    )
