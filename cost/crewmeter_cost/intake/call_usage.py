"""The usage of a call on another's span, and what bears on its counts.

The AI SDK's counts leave out what its common type has no field for: cache writes until version 6,
cached tokens in version 4, the service tier, searches. The providers' packages put it beside them,
as JSON by provider (ai-sdk.dev, "Provider metadata").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from crewmeter import semconv
from crewmeter.providers.usage_reading import read_usage, reported_cost
from crewmeter.usage.token_usage import MISSING, TokenUsage
from crewmeter_cost.intake.coerce import mapping_in, text
from crewmeter_cost.intake.semconv_dialects import NAMES, Dialect, RawUsage
from crewmeter_cost.intake.usage import usage_of, usage_of_raw
from crewmeter_cost.intake.usage_names import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.records import Span

__all__ = [
    "NO_METADATA",
    "ProviderMetadata",
    "fact",
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
_ID_IN_OUTPUT = re.compile(
    r'\{"id":\s?"(?:'
    r'((?:chatcmpl-|cmpl-|gen-|resp_|msg_)[\w.:-]{6,128})"'
    r'|([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",\s?"choices":)'
)
"""Providers' ids at the start of a response. A structured answer begins with any other id."""
_IDS_INSIDE = (
    re.compile(r'"id":\s?"((?:chatcmpl-|gen-|resp_)[\w.:-]{6,128})"'),
    re.compile(r'"id":\s?"(msg_[\w.:-]{6,128})"'),
)
"""Providers' ids of responses, as LangChain and OpenInference's streams have them inside.

OpenAI calls the parts of a response ``msg_`` too, so that is Anthropic's where there is no other.
"""
_HAS_ID_INSIDE = ('{"generations":', '{"choices":')
_OUTPUT_LIMIT = 65_536
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


def fact(attributes: Mapping[str, object], name: str) -> str | None:
    """Return the first text under the names of a fact, over all dialects."""
    for key in NAMES[name]:
        found = text(attributes.get(key))
        if found:
            return found
    return None


def response_id_on(attributes: Mapping[str, object], operation: str) -> str | None:
    """Return the provider's id of its response.

    OpenInference has it only inside the output. LiteLLM makes one up for embeddings.
    """
    named = fact(attributes, "response_id")
    if named is not None:
        made_up = operation == semconv.EMBEDDINGS and named == attributes.get("litellm.call_id")
        return None if made_up else named
    output = attributes.get("output.value")
    if not isinstance(output, str):
        return None
    match = _ID_IN_OUTPUT.match(output)
    if match is None and output.startswith(_HAS_ID_INSIDE):
        for pattern in _IDS_INSIDE:
            match = match or pattern.search(output, 0, _OUTPUT_LIMIT)
    if match is None:
        return None
    return match[match.lastindex or 1]


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
    geo = fact(attributes, "inference_geo")
    if geo is not None and geo not in _NEUTRAL_GEO:
        return ("unknown_usage:inference_geo",)
    wanted = (fact(attributes, "request_tier") or "auto").lower()
    if wanted in _ANY_TIER or fact(attributes, "service_tier"):
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
    """Return the raw usage where the span carries it, else its counts."""
    attributes = span.attributes
    if counts:
        attributes = {**counts, **attributes}
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
    model = fact(attributes, "request_model") or fact(attributes, "response_model")
    return _allow_for_faults(span, usage, model)


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


Fault = Literal["cache_dropped", "cache_added_twice", "total_as_output"]
_CACHE_BUCKETS = frozenset({"cache_read", "cache_write", "cache_write_5m", "cache_write_1h"})
_CACHE_NAMES = frozenset(name for name, bucket in ATTRIBUTES.items() if bucket in _CACHE_BUCKETS)


@dataclass(frozen=True, slots=True)
class _Known:
    """A known fault of a released instrumentor, which nothing on a span tells."""

    scope: str
    fault: Fault
    flag: str
    """What the usage is flagged with where the fault cannot be undone."""
    fixed_in: tuple[int, ...] | None = None
    """The first version without it. None while there is none."""
    models: re.Pattern[str] | None = None
    """Models that it concerns. None is all."""


_CACHING_MODELS = re.compile(r"claude|nova", re.IGNORECASE)
_FAULTS = (
    # Chat completions arrive with two counts only, of which the input holds the cached tokens.
    *(
        _Known(scope, "cache_dropped", "cached_not_reported")
        for scope in (
            "openinference.instrumentation.openai_agents",
            "opentelemetry.instrumentation.openai_agents",  # traceloop/openllmetry#4060
            "@traceloop/instrumentation-openai",  # traceloop/openllmetry-js#1036
            "mistralai_sdk_tracer",  # mistralai/client-python#614
        )
    ),
    # github.com/traceloop/openllmetry/pull/4398: an AttributeError was swallowed.
    _Known("opentelemetry.instrumentation.groq", "cache_dropped", "cached_not_reported"),
    _Known(
        "opentelemetry.instrumentation.bedrock",
        "cache_dropped",
        "cache_beside_not_reported",
        models=_CACHING_MODELS,
    ),
    # It writes Bedrock's inputTokens, which leave the cache out, and nothing else.
    _Known(
        "opentelemetry.instrumentation.botocore.bedrock-runtime",
        "cache_dropped",
        "cache_beside_not_reported",
        models=_CACHING_MODELS,
    ),
    # github.com/traceloop/openllmetry/issues/3647: the sum stayed, its parts were lost.
    _Known("opentelemetry.instrumentation.anthropic", "cache_dropped", "cache_parts_not_reported"),
    # github.com/Arize-ai/openinference/issues/3013
    _Known(
        "openinference.instrumentation.google_genai",
        "cache_added_twice",
        "cached_added_twice",
        fixed_in=(0, 1, 16),
    ),
    # github.com/google/adk-python/issues/2105
    _Known("gcp.vertex.agent", "total_as_output", "output_may_be_total", fixed_in=(1, 9)),
)
_BY_SCOPE = {known.scope: known for known in _FAULTS}


def _allow_for_faults(span: Span, usage: TokenUsage, model: str | None) -> TokenUsage:
    """Return a usage, corrected or flagged where its instrumentor is wrong."""
    known = _BY_SCOPE.get(span.scope)
    if known is None or usage.status != "reported":
        return usage
    version = _version(span.scope_version)
    if known.fixed_in is not None and version >= known.fixed_in:
        return usage
    if known.models is not None and not known.models.search(model or ""):
        return usage
    match known.fault:
        case "cache_dropped":
            is_wrong = bool(usage.input) and not usage.cache_read
            is_wrong = is_wrong and not _reports_cache(span.attributes)
        case "cache_added_twice":
            if version and usage.cache_read:
                return _without_second(usage)
            is_wrong = usage.cache_read > 0
        case "total_as_output":
            is_wrong = (usage.output or 0) >= (usage.input or 0) > 0
    if is_wrong:
        return replace(usage, flags=(*usage.flags, known.flag))
    return usage


def _without_second(usage: TokenUsage) -> TokenUsage:
    rest = (usage.input or 0) - usage.cache_read
    if rest < usage.cache_read:
        return replace(usage, flags=(*usage.flags, "cached_added_twice"))
    return replace(usage, input=rest)


def _reports_cache(attributes: Mapping[str, object]) -> bool:
    """Return whether a span tells how much was cached, be it 0."""
    return not _CACHE_NAMES.isdisjoint(attributes)


def _version(text: str) -> tuple[int, ...]:
    """Return the numbers a version begins with. Empty where there are none."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    if found is None:
        return ()
    return tuple(int(number) for number in found[0].split(".")[:4])
