"""A provider's usage, in whatever shape it came, as one `TokenUsage` of disjoint buckets. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.hosts import canonical_provider
from crewmeter.providers.usage_shapes import SHAPES, BadCount, Counts, count
from crewmeter.value_class import value_class

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

__all__ = [
    "MISSING",
    "UNITS",
    "TokenUsage",
    "read_usage",
    "reported_cost",
    "units_of",
    "usage_attributes",
    "usage_from_attributes",
]


@value_class
class TokenUsage:
    """What one call used, in tokens unless said otherwise. ``None`` is "not known", never zero.

    ``input`` includes the cached tokens and ``output`` includes reasoning, as the GenAI conventions have it;
    the cache fields are disjoint subsets of ``input``, ``reasoning`` is information only and never added.
    Audio and image counts are subsets of ``input`` and ``output``.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    input_audio: int = 0
    output_audio: int = 0
    input_image: int = 0
    output_image: int = 0
    web_searches: int = 0
    """Server-side web searches, in requests."""
    search_units: int = 0
    """Rerank queries, in units as the provider counts them."""
    units: tuple[tuple[str, int], ...] = ()
    """Other billed quantities as (unit, quantity), named as in `UNITS`: seconds, pages, images, fees."""
    status: str = "reported"
    """``reported`` | ``missing`` | ``estimated`` | ``reconciled`` | ``invalid``."""
    flags: tuple[str, ...] = ()
    """What was assumed while reading, e.g. ``cache_ttl_assumed``."""


UNITS = frozenset(
    {
        "input_audio_ms",  # milliseconds of audio transcribed
        "output_audio_ms",
        "output_video_ms",
        "character",  # characters of text spoken
        "page",
        "annotated_page",
        "image",  # images made, of the provider's standard size and quality
        "request",
        "x_search",
        "maps_grounding",
        "storage_search",  # searches of the provider's file store
        "code_execution",
        "document_search",
        "citation_token",
        "model_router_token",  # input tokens that passed a paid router
    }
)
"""Names of `TokenUsage.units`. An image of its own size is ``image:QUALITY:WIDTHxHEIGHT``.

Pricing charges each at the unit of this name in the price book. One that has no price there makes
the charge a lower bound.
"""


MISSING = TokenUsage(status="missing")
"""Nothing is known about what the call used."""

_READS_ONLY = frozenset({semconv.EMBEDDINGS, semconv.RERANK})


def read_usage(
    raw: Mapping[str, object] | None, *, provider: str | None = None, operation: str | None = None
) -> TokenUsage:
    """Usage as a provider, an SDK or a CrewAI event reports it. Never raises.

    ``provider`` (any spelling) and ``operation`` only settle what the keys leave open. Both token counts of a
    ``reported`` usage are known; nothing recognised, or all zeros, is ``missing``; a count that is negative, absurd or
    no whole number, or parts that exceed the whole, are ``invalid``: both with neither count.
    """
    if type(raw) is not dict and not isinstance(raw, Mapping):  # the first is quicker, and the rule
        return MISSING
    provider = canonical_provider(provider)
    try:
        for keys, any_of, reader in SHAPES:
            if raw.get(keys[0]) is not None and (not any_of or any(key in raw for key in any_of)):
                return _checked(reader(raw, provider), operation)
    except BadCount as bad:
        return TokenUsage(status="invalid", flags=(f"bad_count:{bad.args[0]}",))
    return MISSING


def _checked(counts: Counts, operation: str | None) -> TokenUsage:
    """``counts`` as usage if its parts fit the whole."""
    if counts.output is None and operation in _READS_ONLY:
        counts.output = 0
    if counts.units and counts.input is None and counts.output is None:
        return TokenUsage(units=tuple(counts.units), flags=tuple(counts.flags))
    if counts.input is None or counts.output is None:
        known = counts.input or counts.output
        return TokenUsage(status="missing", flags=("split_not_reported",)) if known else MISSING
    inside = counts.cache_read + counts.cache_write_5m + counts.cache_write_1h
    media_in, media_out = (
        counts.input_audio + counts.input_image,
        counts.output_audio + counts.output_image,
    )
    if inside > counts.input or media_in > counts.input or media_out > counts.output:
        return TokenUsage(status="invalid", flags=(*counts.flags, "parts_exceed_whole"))
    billed = (counts.input, counts.output, counts.search_units, counts.web_searches, counts.units)
    if not any(billed):
        return TokenUsage(status="missing", flags=("zero_usage",))
    if counts.reasoning > counts.output:
        counts.flags.append("reasoning_exceeds_output")
        counts.reasoning = counts.output
    return TokenUsage(
        input=counts.input,
        output=counts.output,
        cache_read=counts.cache_read,
        cache_write_5m=counts.cache_write_5m,
        cache_write_1h=counts.cache_write_1h,
        reasoning=counts.reasoning,
        input_audio=counts.input_audio,
        output_audio=counts.output_audio,
        input_image=counts.input_image,
        output_image=counts.output_image,
        web_searches=counts.web_searches,
        search_units=counts.search_units,
        units=tuple(counts.units),
        flags=tuple(counts.flags),
    )


_TICKS_PER_USD = Decimal(10**10)
"""xAI bills in ticks of a dollar: docs.x.ai/developers/cost-tracking."""


def reported_cost(raw: Mapping[str, object] | None) -> str | None:
    """What the provider itself says the call cost, as a decimal string in USD: OpenRouter, Perplexity, xAI. Never raises."""
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


_NAMES: tuple[tuple[str, str], ...] = (
    ("cache_read", semconv.CACHE_READ_TOKENS),
    ("cache_write_5m", semconv.CACHE_WRITE_5M_TOKENS),
    ("cache_write_1h", semconv.CACHE_WRITE_1H_TOKENS),
    ("reasoning", semconv.REASONING_TOKENS),
    ("input_audio", semconv.INPUT_AUDIO_TOKENS),
    ("output_audio", semconv.OUTPUT_AUDIO_TOKENS),
    ("input_image", semconv.INPUT_IMAGE_TOKENS),
    ("output_image", semconv.OUTPUT_IMAGE_TOKENS),
    ("web_searches", semconv.WEB_SEARCHES),
    ("search_units", semconv.SEARCH_UNITS),
)


def usage_attributes(usage: TokenUsage) -> dict[str, AttributeValue]:
    """Span attributes for ``usage``, under the conventions' names and ours; nothing is said of what is not known."""
    attributes: dict[str, AttributeValue] = {semconv.USAGE_STATUS: usage.status}
    if usage.input is not None:
        attributes[semconv.INPUT_TOKENS] = usage.input
    if usage.output is not None:
        attributes[semconv.OUTPUT_TOKENS] = usage.output
    for name, attribute in _NAMES:
        value = getattr(usage, name)
        if value:
            attributes[attribute] = value
    if usage.units:
        attributes[semconv.USAGE_UNITS] = [f"{name}={quantity}" for name, quantity in usage.units]
    if usage.cache_write_5m or usage.cache_write_1h:
        attributes[semconv.CACHE_WRITE_TOKENS] = usage.cache_write_5m + usage.cache_write_1h
    if usage.flags:
        attributes[semconv.USAGE_FLAGS] = usage.flags
    return attributes


def usage_from_attributes(attributes: Mapping[str, object]) -> TokenUsage:
    """The inverse of `usage_attributes`; also reads spans of other instrumentors that follow the conventions. Never raises."""
    status, flags = _status(attributes)
    if status == "invalid":
        return TokenUsage(status="invalid", flags=flags)
    try:
        counts = Counts(
            input=count(attributes, semconv.INPUT_TOKENS),
            output=count(attributes, semconv.OUTPUT_TOKENS),
        )
        for name, attribute in _NAMES:
            setattr(counts, name, count(attributes, attribute) or 0)
        counts.units = units_of(attributes.get(semconv.USAGE_UNITS))
        written = (
            count(attributes, semconv.CACHE_WRITE_TOKENS, semconv.CACHE_WRITE_TOKENS_RENAMED) or 0
        )
    except BadCount as bad:
        return TokenUsage(status="invalid", flags=(f"bad_count:{bad.args[0]}",))
    rest = written - counts.cache_write_5m - counts.cache_write_1h
    if rest > 0:
        counts.cache_write_5m += rest
        counts.flags.append("cache_ttl_assumed")
    if status == "missing":
        return TokenUsage(status="missing", flags=flags)
    operation = attributes.get(semconv.OPERATION)
    usage = _checked(counts, operation if isinstance(operation, str) else None)
    if usage.status == "reported" and status is not None:
        return _restated(usage, status, flags)
    return usage


def units_of(said: object) -> list[tuple[str, int]]:
    """Read the ``name=quantity`` texts of a span. Raise `BadCount` for one that is no count."""
    units: list[tuple[str, int]] = []
    for text in said[:_MOST_UNITS] if isinstance(said, list | tuple) else ():
        name, _, quantity = str(text)[:_LONGEST_UNIT].rpartition("=")
        if not name or not quantity.isdecimal() or len(quantity) > _MOST_DIGITS:
            raise BadCount("units")
        units.append((name, int(quantity)))
    return units


_MOST_UNITS = 16
_LONGEST_UNIT = 96
_MOST_DIGITS = 12


def _status(attributes: Mapping[str, object]) -> tuple[str | None, tuple[str, ...]]:
    status, flags = attributes.get(semconv.USAGE_STATUS), attributes.get(semconv.USAGE_FLAGS)
    known = (
        tuple(flag for flag in flags if isinstance(flag, str))
        if isinstance(flags, list | tuple)
        else ()
    )
    return (status if isinstance(status, str) and status in _STATUSES else None), known


_STATUSES = frozenset({"reported", "missing", "estimated", "reconciled", "invalid"})
_FIELDS = tuple(f.name for f in fields(TokenUsage) if f.name not in ("status", "flags"))


def _restated(usage: TokenUsage, status: str, flags: tuple[str, ...]) -> TokenUsage:
    values = {name: getattr(usage, name) for name in _FIELDS}
    merged = tuple(dict.fromkeys((*flags, *usage.flags)))
    return TokenUsage(**values, status=status, flags=merged)
