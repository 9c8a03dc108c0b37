"""The usage of a call on another's span, and what bears on its counts.

The AI SDK's counts leave out what its common type has no field for: cache writes until version 6,
cached tokens in version 4, the service tier, searches. The providers' packages put it beside them,
as JSON by provider (ai-sdk.dev, "Provider metadata").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from crewmeter import semconv
from crewmeter.providers.usage_reading import read_usage, reported_cost
from crewmeter.usage.token_usage import MISSING, TokenUsage
from crewmeter_cost.intake.coerce import mapping_in, text
from crewmeter_cost.intake.instrumentors.known_faults import allow_for_faults
from crewmeter_cost.intake.instrumentors.span_facts import fact
from crewmeter_cost.intake.instrumentors.stored_exchange import (
    charged_tools_ran,
    refined_usage,
    requested_geo,
    requested_tier,
    response_id_inside,
    served_tier,
    usage_inside,
)
from crewmeter_cost.intake.instrumentors.usage import usage_of, usage_of_raw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.intake.instrumentors.semconv_dialects import Dialect, RawUsage
    from crewmeter_cost.records import Span

__all__ = [
    "NO_METADATA",
    "ProviderMetadata",
    "provider_metadata",
    "response_id_on",
    "usage_on",
]

_ATTRIBUTES = ("ai.response.providerMetadata", "ai.result.providerMetadata")
_EMPTY = ("", "{}", "null", "undefined")
_TOOL_CALLS = "ai.response.toolCalls"
_PROVIDER_RAN = re.compile(r'"providerExecuted":\s?true')
_COUNTS: Final[Mapping[str, str]] = {
    "cacheCreationInputTokens": "gen_ai.usage.cache_creation_input_tokens",
    "cacheWriteInputTokens": "gen_ai.usage.cache_creation_input_tokens",
    "cacheReadInputTokens": "gen_ai.usage.cache_read_input_tokens",
    "cachedPromptTokens": "ai.usage.cachedInputTokens",
    "promptCacheHitTokens": "ai.usage.cachedInputTokens",
    "reasoningTokens": "ai.usage.reasoningTokens",
}
"""Key of a provider's metadata → the attribute whose count it is."""
_BILLED_BESIDE = ("citationTokens", "numSearchQueries")
"""Keys with a price of their own that no attribute has: Perplexity's."""
_GATEWAYS = ("gateway", "openrouter")
"""Sellers whose metadata has what they charge."""
_CACHE_HITS = ("metadata.cache_hit", "litellm.cache_hit", "gen_ai.cache.hit")
"""Attributes that are true where a client answered from its own cache."""
_ANY_CACHE_HIT = "cache_hit"
"""LiteLLM's too, but others may mean the provider's cache of prompts by it."""
_COSTS_NOTHING = re.compile(r"""["']response_cost["']:\s*["']?0(?:\.0+)?["']?\s*[,}]""")
_NEUTRAL_GEO = frozenset({"global", "not_available", "unknown"})
"""Regions of Anthropic's inference that have no surcharge."""
_ANY_TIER = frozenset({"auto", "default", "standard", "standard_only"})
_CHEAPER_TIERS = frozenset({"flex", "batch"})


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The facts of one span's metadata."""

    usage: TokenUsage = MISSING
    """What the provider's own usage object says, where the metadata has one whole."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Else single counts, by the attribute that they belong to."""
    service_tier: str | None = None
    reported_cost_usd: str | None = None
    flags: tuple[str, ...] = ()


NO_METADATA = ProviderMetadata()


def provider_metadata(attributes: Mapping[str, object], provider: str | None) -> ProviderMetadata:
    """Return what the metadata on a span of the AI SDK says."""
    calls = attributes.get(_TOOL_CALLS)
    runs_tools = isinstance(calls, str) and _PROVIDER_RAN.search(calls) is not None
    whole: dict[str, object] = {}
    for name in _ATTRIBUTES:
        whole = whole or mapping_in(attributes.get(name))
    is_unread = not whole and any(_says_something(attributes.get(name)) for name in _ATTRIBUTES)
    if not whole and not runs_tools and not is_unread:
        return NO_METADATA
    usage = MISSING
    counts: dict[str, int] = {}
    flags = ["unknown_usage:providerMetadata"] if is_unread else []
    tier = None
    for key, value in whole.items():
        metadata = mapping_in(value)
        inner = _usage_object(metadata)
        found = read_usage(inner, provider=key if key != "vertex" else provider)
        if found.status == "reported":
            usage = found
        counts |= _single_counts(metadata) | _single_counts(inner)
        flags += [f"unknown_usage:{name}" for name in _BILLED_BESIDE if inner.get(name)]
        tier = tier or _tier(metadata, inner)
        if mapping_in(metadata.get("groundingMetadata")).get("webSearchQueries"):
            flags.append("unknown_usage:groundingMetadata")
    if runs_tools and not usage.web_searches:
        flags.append("unknown_usage:provider_executed_tools")
    return ProviderMetadata(
        usage=usage,
        counts=counts,
        service_tier=tier,
        reported_cost_usd=_cost(whole),
        flags=tuple(dict.fromkeys(flags)),
    )


def _says_something(value: object) -> bool:
    """Return whether an attribute has a text that is not an empty value's."""
    return isinstance(value, str) and "".join(value[:64].split()) not in _EMPTY


def _usage_object(metadata: Mapping[str, object]) -> Mapping[str, object]:
    for key in ("usage", "usageMetadata"):
        inner = mapping_in(metadata.get(key))
        if inner:
            return inner
    return {}


def _single_counts(metadata: Mapping[str, object]) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, attribute in _COUNTS.items():
        number = metadata.get(key)
        if type(number) is int and number > 0:
            found[attribute] = number
    return found


def _tier(metadata: Mapping[str, object], inner: Mapping[str, object]) -> str | None:
    speed = text(inner.get("speed"))
    if speed not in (None, "standard"):
        return speed
    return text(metadata.get("serviceTier")) or text(inner.get("service_tier"))


def _cost(whole: Mapping[str, object]) -> str | None:
    """Return what a gateway says it charges for the request."""
    for key in _GATEWAYS:
        metadata = mapping_in(whole.get(key))
        cost = reported_cost(metadata) or reported_cost(mapping_in(metadata.get("usage")))
        if cost is not None:
            return cost
    return None


def response_id_on(attributes: Mapping[str, object], operation: str) -> str | None:
    """Return the provider's id of its response.

    OpenInference has it only inside the output. LiteLLM makes one up for embeddings.
    """
    named = fact(attributes, "response_id")
    if named is not None:
        made_up = operation == semconv.EMBEDDINGS and named == attributes.get("litellm.call_id")
        return None if made_up else named
    return response_id_inside(attributes)


def usage_on(
    span: Span,
    dialect: Dialect,
    operation: str,
    provider: str | None,
    metadata: ProviderMetadata,
) -> TokenUsage:
    """Return the usage on a span, with the flags of what surrounds it."""
    usage = metadata.usage
    if usage.status != "reported":
        usage = _reported_usage(span, dialect, operation, provider, metadata.counts)
    flags = (*metadata.flags, *_circumstances(span))
    if flags:
        usage = replace(usage, flags=tuple(dict.fromkeys((*usage.flags, *flags))))
    return usage


def _circumstances(span: Span) -> tuple[str, ...]:
    """Return the flags of what stands beside the counts: a cache's answer, a tier."""
    attributes = span.attributes
    if any(attributes.get(name) in (True, "True", "true") for name in _CACHE_HITS):
        return ("not_sent",)
    if attributes.get(_ANY_CACHE_HIT) in (True, "True", "true"):
        is_litellm = "litellm" in span.scope.lower()
        return ("not_sent",) if is_litellm else ("cache_hit_assumed",)
    hidden = attributes.get("hidden_params")
    if isinstance(hidden, str) and _COSTS_NOTHING.search(hidden):
        # LiteLLM says so of an answer from its cache, but also of models it has no price for.
        return ("cache_hit_assumed",)
    return (*_region(attributes), *_tier_requested(attributes))


def _region(attributes: Mapping[str, object]) -> tuple[str, ...]:
    """Return the flag of where Anthropic ran the inference, or was to run it."""
    if fact(attributes, "inference_geo") == "us":
        return ("us_inference",)
    geo = fact(attributes, "inference_geo") or requested_geo(attributes)
    if geo is not None and geo not in _NEUTRAL_GEO:
        return ("unknown_usage:inference_geo",)
    return ()


def _tier_requested(attributes: Mapping[str, object]) -> tuple[str, ...]:
    """Return the flag of a tier that was requested where none is said to have served."""
    wanted = fact(attributes, "request_tier") or requested_tier(attributes) or "auto"
    wanted = wanted.lower()
    if wanted in _ANY_TIER or fact(attributes, "service_tier") or served_tier(attributes):
        return ()
    if wanted in _CHEAPER_TIERS:
        return ("cheaper_tier_requested",)
    return ("dearer_tier_requested",)


def _reported_usage(
    span: Span,
    dialect: Dialect,
    operation: str,
    provider: str | None,
    counts: Mapping[str, int],
) -> TokenUsage:
    """Return what the span's counts say, in the detail of the response that it stores."""
    attributes = span.attributes
    if counts:
        attributes = {**counts, **attributes}
    counted = _counted_usage(attributes, dialect, operation, provider)
    inside = usage_inside(attributes, provider, operation)
    usage = refined_usage(counted, inside)
    if usage is not inside and not _has_raw_usage(attributes, dialect):
        model = fact(attributes, "request_model") or fact(attributes, "response_model")
        usage = allow_for_faults(span, usage, model)
    if charged_tools_ran(attributes) and not usage.web_searches:
        usage = replace(usage, flags=(*usage.flags, "tool_fees_not_counted"))
    return usage


def _has_raw_usage(attributes: Mapping[str, object], dialect: Dialect) -> bool:
    """Return whether a span has its usage as one text, which loses no part."""
    return any(raw_usage.found_in(attributes) for raw_usage in dialect.raw_usage)


def _counted_usage(
    attributes: Mapping[str, object], dialect: Dialect, operation: str, provider: str | None
) -> TokenUsage:
    """Return the raw usage where the span carries it, else its counts."""
    for raw_usage in dialect.raw_usage:
        raw = raw_usage.found_in(attributes)
        if raw:
            usage = _raw_usage(raw, raw_usage, operation, provider)
            if usage.status == "reported":
                return usage
    usage = usage_of(attributes, operation, provider=provider)
    if dialect.name == "crewai" and usage.input == 0 and usage.output:
        # CrewAI's own Gemini spans say that the input is 0: that is invalid, not free.
        return TokenUsage(status="invalid", flags=("input_not_reported",))
    if usage.input == 0 and usage.output and operation == semconv.CHAT:
        # LangChain's streams on Claude: every request has an input.
        return replace(
            usage,
            input=None,
            flags=(*usage.flags, "input_not_reported"),
        )
    return usage


def _raw_usage(
    raw: dict[str, object], raw_usage: RawUsage, operation: str, provider: str | None
) -> TokenUsage:
    if raw_usage.names is not None and raw_usage.marker in raw:
        names = raw_usage.names
        return usage_of_raw(
            raw,
            operation,
            names,
            provider=provider,
            beside=raw_usage.beside,
        )
    return read_usage(raw, provider=provider, operation=operation)
