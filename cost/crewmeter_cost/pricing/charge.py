"""The cost of one call, in integer pico-USD with its lines, or why it has none.

The functions are pure: no clock, no I/O.
"""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction
from typing import TYPE_CHECKING

from crewmeter_cost.pricing.charge_result import (
    PICO,
    Charge,
    FrozenRates,
    Item,
    Outcome,
    Unpriced,
)
from crewmeter_cost.pricing.line_items import LOWER, UPPER, Lines, lines_of
from crewmeter_cost.pricing.reported_figure import beside
from crewmeter_cost.pricing.unit_prices import FREE, GPU_HOUR, Plan

if TYPE_CHECKING:
    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.pricing.charge_result import Bound, CostStatus
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
_CEILING_FLAGS = frozenset(
    {
        "cache_hit_assumed",
        "cached_added_twice",
        "cached_not_reported",
        "cached_beside_assumed",
        "cheaper_tier_requested",
        "counts_disagree",
        "other_payer",
        "output_may_be_total",
        "reasoning_beside_assumed",
        "thoughts_assumed",
        "total_ambiguous",
        "total_below_parts",
    }
)
"""Usage flags of an upper bound: tokens that may have been cheaper are billed in full."""
_FLOOR_FLAGS = frozenset(
    {
        "cache_beside_not_reported",
        "cache_parts_not_reported",
        "cached_location_assumed",
        "dearer_tier_requested",
        "input_not_reported",
        "reasoning_exceeds_output",
        "region_assumed",
        "thoughts_location_assumed",
        "tool_fees_not_counted",
        "total_not_explained",
    }
)
"""Usage flags of a lower bound: fees, or tokens beside the counts, may be billed and are not."""
_UNKNOWN_USAGE = "unknown_usage:"
"""Usage flags of a lower bound: something in the usage that nothing here understands."""
_AGGREGATE = "aggregate_usage"
"""Usage flag of a span that may sum up several calls, each perhaps at rates of its own."""
_UNROUTED = "unrouted"
"""Usage flag of a request to a provider's host at an endpoint that nobody knows."""
_US_INFERENCE = "us_inference"
"""Usage flag of a call that was processed in the United States, for more money."""
_US_UPLIFT = Fraction(11, 10)
"""On every kind of token, at Anthropic itself (docs.claude.com, "Data residency pricing")."""
_NOT_SENT = "not_sent"
"""Usage flag of a call that was answered without a request to the provider."""


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
    """Return the cost of `usage` at a moment.

    Args:
        usage: What was used.
        book: The prices.
        provider: Who billed it, as declared. A known host overrules it.
        model: The model that was requested.
        at_ns: When the request was sent, nanoseconds since 1970.
        host: The host it was sent to.
        response_model: The model that the response names.
        tier: The service tier that the response names.
        operation: A `semconv` operation. Embeddings and reranks have no output.
        duration_ns: Prices self-hosted models.
        reported_cost_usd: The provider's own figure, to be compared with the computed one.

    Returns:
        A `Charge`, or `Unpriced` with the reason.
    """
    plan = book.plan(provider, model, host, response_model, tier, at_ns)
    if reported_cost_usd is None and plan.__class__ is Plan:
        quick = _quick(usage, plan)
        if quick is not None:
            return quick
    if _NOT_SENT in usage.flags:
        return _uncharged(plan, usage, book)
    outcome = _computed(usage, plan, operation, duration_ns)
    if reported_cost_usd is None:
        return outcome
    return beside(outcome, reported_cost_usd, book)


def charge_call(call: Call, book: PriceBook) -> Outcome:
    """Return the cost of a call as intake read it, at the prices of its start."""
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
    """Return the lines of an old charge again, from the rates that it froze.

    Empty where the usage cannot be charged.
    """
    if frozen.source == "provider" or usage.status == "invalid" or contradiction(usage):
        return ()
    plan = Plan.thaw(frozen)
    if FREE in plan.prices or _unreported(usage, plan):
        return ()
    return tuple(_lines(usage, plan, operation, duration_ns).items)


_COUNTS = (
    "input",
    "output",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning",
    "input_audio",
    "output_audio",
    "input_image",
    "output_image",
    "input_video",
    "output_video",
    "cache_read_audio",
    "cache_read_image",
    "web_searches",
    "search_units",
)


def contradiction(usage: TokenUsage) -> str | None:
    """Return why a usage can't be true, or None.

    A count below zero or beyond any request, or parts that exceed their whole.
    """
    counts = [(name, getattr(usage, name)) for name in _COUNTS]
    for name, count in (*counts, *usage.units):
        if count is not None and not 0 <= count <= _ABSURD:
            return f"{name} is {count}"
    if usage.input is not None:
        # Providers count cached tokens inside the input.
        cached = usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
        if cached > usage.input:
            return f"{cached} cached tokens of {usage.input} input tokens"
        media = usage.input_audio + usage.input_image + usage.input_video
        if media > usage.input:
            return f"{media} media tokens of {usage.input} input tokens"
    if usage.output is not None:
        media = usage.output_audio + usage.output_image + usage.output_video
        if media > usage.output:
            return f"{media} media tokens of {usage.output} output tokens"
    return None


def _is_plain(usage: TokenUsage) -> bool:
    """Return whether a usage is text in and text out, without flags.

    Its input may be cached.
    """
    return not (
        usage.flags
        or usage.status != "reported"
        or usage.input_audio
        or usage.output_audio
        or usage.input_image
        or usage.output_image
        or usage.input_video
        or usage.output_video
        or usage.web_searches
        or usage.search_units
        or usage.units
    )


def _quick(usage: TokenUsage, plan: Plan) -> Charge | None:
    """Return the common charge, written out for speed, or None for any other.

    Common is text in, cached or not, and text out, with every rate known and whole.
    """
    tokens_in = usage.input
    tokens_out = usage.output
    if tokens_in is None or tokens_out is None or not plan.quick or not _is_plain(usage):
        return None
    band = plan.band
    if plan.above:
        band = plan.bands[bisect_left(plan.above, tokens_in)]
    read = usage.cache_read
    write = usage.cache_write_5m
    write_1h = usage.cache_write_1h
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


# Makes a named tuple in half the time that its own constructor takes.
_new = tuple.__new__


def _unreported(usage: TokenUsage, plan: Plan) -> bool:
    """Return whether nobody reported a usage that the plan needs.

    GPU time needs none.
    """
    silent = usage.status == "missing" or (usage.input is None and usage.output is None)
    counted = usage.search_units or usage.units
    return silent and not counted and GPU_HOUR not in plan.prices


def _lines(usage: TokenUsage, plan: Plan, operation: str, duration_ns: int | None) -> Lines:
    """Return every line, at the rates of the request's size."""
    band = plan.band
    if plan.above and usage.input is not None:
        band = plan.bands[bisect_left(plan.above, usage.input)]
    uplift = _US_UPLIFT if _US_INFERENCE in usage.flags else None
    lines = lines_of(usage, band, operation=operation, duration_ns=duration_ns, uplift=uplift)
    if uplift and plan.provider != "anthropic":
        lines.note("us_inference_assumed", LOWER)
    return lines


def _computed(
    usage: TokenUsage, plan: Plan | Unpriced, operation: str, duration_ns: int | None
) -> Outcome:
    """Charge any usage under any plan, with every guard."""
    provider = plan.provider
    model = plan.model
    flags = tuple(dict.fromkeys((*plan.flags, *usage.flags)))
    wrong = _why_invalid(usage)
    if wrong is not None:
        reason = f"the usage reported for {model!r} {wrong}"
        return Unpriced("invalid_usage", reason, provider, model, flags)
    if _UNROUTED in usage.flags:
        reason = f"no reader has this endpoint or client of {provider}: the bill is not known"
        return Unpriced("unrouted", reason, provider, model, flags)
    if isinstance(plan, Unpriced):
        return plan._replace(flags=flags)
    if FREE in plan.prices:
        return _charged(plan, "free_declared", flags, ())
    if _unreported(usage, plan):
        reason = f"nobody reported what the call to {model!r} used"
        return Unpriced("usage_missing", reason, provider, model, flags)
    lines = _lines(usage, plan, operation, duration_ns)
    flags = tuple(dict.fromkeys((*flags, *lines.flags)))
    if not lines.items and lines.flags:
        units = ", ".join(sorted(plan.prices))
        reason = (
            f"{model!r} at {provider} is priced by {units}, which this usage does not count; "
            "add a price under [[price]]"
        )
        return Unpriced("unknown_model", reason, provider, model, flags)
    status = _status(usage, _bound(flags, plan.bound, lines.bound))
    return _charged(plan, status, flags, tuple(lines.items))


def _uncharged(plan: Plan | Unpriced, usage: TokenUsage, book: PriceBook) -> Charge:
    """Return no cost at all, for a call that nobody sent. It needs no price."""
    flags = tuple(dict.fromkeys((*plan.flags, *usage.flags)))
    if isinstance(plan, Plan):
        return _charged(plan, "cached", flags, ())
    frozen = book.reported(plan.provider or "unknown")
    model = plan.model or "unknown"
    return Charge(0, "cached", (), frozen.provider, model, "provider", frozen.hash, flags)


def _charged(
    plan: Plan, status: CostStatus, flags: tuple[str, ...], items: tuple[Item, ...]
) -> Charge:
    return Charge(
        sum(item.cost_pusd for item in items),
        status,
        items,
        plan.provider,
        plan.model,
        plan.source,
        plan.version,
        flags,
    )


def _why_invalid(usage: TokenUsage) -> str | None:
    """Return the end of a sentence about a usage that can't be charged, or None."""
    if usage.status == "invalid":
        return "contradicts itself or is no count"
    wrong = contradiction(usage)
    return None if wrong is None else f"can't be true: {wrong}"


def _bound(flags: tuple[str, ...], *bounds: Bound) -> Bound:
    """Return the direction in which a charge may be off. Too low outweighs too high."""
    unknown = any(flag.startswith(_UNKNOWN_USAGE) for flag in flags)
    if "estimated" in bounds:
        return "estimated"
    if LOWER in bounds or unknown or _FLOOR_FLAGS.intersection(flags):
        return LOWER
    if UPPER in bounds or _CEILING_FLAGS.intersection(flags):
        return UPPER
    return ""


def _status(usage: TokenUsage, bound: Bound) -> CostStatus:
    if usage.status == "estimated" or _AGGREGATE in usage.flags:
        return "estimated"
    if usage.status == "reconciled" and bound in ("", UPPER):
        return "reconciled"
    return bound or "priced"
