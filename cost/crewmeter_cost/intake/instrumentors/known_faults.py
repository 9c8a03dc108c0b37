"""Known faults of released instrumentors, which nothing on a span tells.

Decision 151: a fault that can be undone is undone, another makes the charge a bound.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from crewmeter_cost.intake.instrumentors.usage_names import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.records import Span

__all__ = ["allow_for_faults"]

Fault = Literal["cache_dropped", "cache_added_twice", "total_as_output"]
_CACHE_BUCKETS = frozenset({"cache_read", "cache_write", "cache_write_5m", "cache_write_1h"})
_CACHE_NAMES = frozenset(name for name, bucket in ATTRIBUTES.items() if bucket in _CACHE_BUCKETS)
_THOUGHT_NAMES = frozenset(
    name for name, bucket in ATTRIBUTES.items() if bucket in ("reasoning", "total")
)


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
_THINKING_MODELS = re.compile(r"gemini-(?:[3-9]|2\.5)", re.IGNORECASE)
"""Models whose own output count leaves their thoughts out."""
_TWO_COUNTS = (
    # Chat completions arrive with two counts only, of which the input holds the cached tokens.
    "openinference.instrumentation.openai_agents",
    "opentelemetry.instrumentation.openai_agents",  # traceloop/openllmetry#4060
    "@traceloop/instrumentation-openai",  # traceloop/openllmetry-js#1036
    "mistralai_sdk_tracer",  # mistralai/client-python#614
    # github.com/traceloop/openllmetry/pull/4398: an AttributeError was swallowed.
    "opentelemetry.instrumentation.groq",
    # Two counts are all that the newest published versions write, seen in their sources.
    "semantic_kernel.utils.telemetry.model_diagnostics.decorators",
    "mlflow.tracing.provider",  # under the names of the conventions
    "openinference.instrumentation.autogen_agentchat",
    "openinference.instrumentation.beeai",
    "openinference.instrumentation.google_adk",
    "openinference.instrumentation.haystack",
    "openinference.instrumentation.mistralai",
    "openinference.instrumentation.portkey",
    "openinference.instrumentation.smolagents",
    "openinference.instrumentation.vertexai",
    "opentelemetry.instrumentation.openai_v2",  # chat completions
    "opentelemetry.instrumentation.agno",
    "opentelemetry.instrumentation.crewai",
    "opentelemetry.instrumentation.genai.agno",
    "opentelemetry.instrumentation.genai.smolagents",
    "opentelemetry.instrumentation.together",
)
_FAULTS = (
    *(_Known(scope, "cache_dropped", "cached_not_reported") for scope in _TWO_COUNTS),
    # OpenTelemetry's own has no version and two counts. OpenLLMetry's of the same name has more.
    _Known(
        "opentelemetry.instrumentation.vertexai",
        "cache_dropped",
        "cached_not_reported",
        fixed_in=(0, 62),
    ),
    _Known(
        "opentelemetry.util.genai.handler",
        "cache_dropped",
        "cached_not_reported",
        fixed_in=(1, 0),
    ),
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
_AI_SDK_COUNT = "ai.usage.promptTokens"
_AI_SDK_METADATA = ("ai.response.providerMetadata", "ai.result.providerMetadata")
"""Versions 4 and 5 of the AI SDK write two counts of an answer that is not streamed."""
_BY_SCOPE = {known.scope: known for known in _FAULTS}


def allow_for_faults(span: Span, usage: TokenUsage, model: str | None) -> TokenUsage:
    """Return a usage, corrected or flagged where its instrumentor is wrong."""
    if _AI_SDK_COUNT in span.attributes:
        return _without_ai_sdk_cache(span.attributes, usage)
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
            return _without_cache(span, usage, known, model or "")
        case "cache_added_twice":
            if version and usage.cache_read:
                return _without_second(usage)
            is_wrong = usage.cache_read > 0
        case "total_as_output":
            is_wrong = (usage.output or 0) >= (usage.input or 0) > 0
    if is_wrong:
        return replace(usage, flags=(*usage.flags, known.flag))
    return usage


def _without_cache(span: Span, usage: TokenUsage, known: _Known, model: str) -> TokenUsage:
    """Return a usage flagged with what an instrumentor of two counts leaves out."""
    if not usage.input or usage.cache_read or _reports(span.attributes, _CACHE_NAMES):
        return usage
    flags = [known.flag]
    if known.flag == "cached_not_reported" and _CACHING_MODELS.search(model):
        # Their own input count leaves the cached tokens out, and nobody here adds them.
        flags.append("cache_beside_not_reported")
    if _THINKING_MODELS.search(model) and not _reports(span.attributes, _THOUGHT_NAMES):
        flags.append("thoughts_location_assumed")
    return replace(usage, flags=(*usage.flags, *flags))


def _without_ai_sdk_cache(attributes: Mapping[str, object], usage: TokenUsage) -> TokenUsage:
    """Return a usage of the AI SDK, flagged where nothing has the cached tokens."""
    is_counted = usage.status == "reported" and bool(usage.input)
    if not is_counted or usage.cache_read or _reports(attributes, _CACHE_NAMES):
        return usage
    for name in _AI_SDK_METADATA:
        stored = attributes.get(name)
        if isinstance(stored, str) and "cache" in stored.lower():
            return usage
    return replace(usage, flags=(*usage.flags, "cached_not_reported"))


def _without_second(usage: TokenUsage) -> TokenUsage:
    rest = (usage.input or 0) - usage.cache_read
    if rest < usage.cache_read:
        return replace(usage, flags=(*usage.flags, "cached_added_twice"))
    return replace(usage, input=rest)


def _reports(attributes: Mapping[str, object], names: frozenset[str]) -> bool:
    """Return whether a span has one of the counts, be it 0."""
    return not names.isdisjoint(attributes)


def _version(text: str) -> tuple[int, ...]:
    """Return the numbers a version begins with. Empty where there are none."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    if found is None:
        return ()
    return tuple(int(number) for number in found[0].split(".")[:4])
