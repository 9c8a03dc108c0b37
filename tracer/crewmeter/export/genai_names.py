"""The names of a finished span in the generations of the conventions that go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.semconv import generations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import AttributeValue

    from crewmeter.semconv.generations import Emitted

__all__ = ["named_attributes", "span_name"]

_OPENAI = frozenset({"openai", "azure.ai.openai"})
_FRACTIONS = (semconv.REQUEST_TEMPERATURE, semconv.REQUEST_TOP_P)
"""Attributes that are doubles in the conventions, and whole numbers in many an app."""
_MODALITIES = (
    (
        semconv.INPUT_TOKENS,
        semconv.TEXT_INPUT_TOKENS,
        (semconv.INPUT_AUDIO_TOKENS, semconv.INPUT_IMAGE_TOKENS, semconv.INPUT_VIDEO_TOKENS),
    ),
    (
        semconv.OUTPUT_TOKENS,
        semconv.TEXT_OUTPUT_TOKENS,
        (semconv.OUTPUT_AUDIO_TOKENS, semconv.OUTPUT_IMAGE_TOKENS, semconv.OUTPUT_VIDEO_TOKENS),
    ),
)
"""Whole count, its text part in the new generation, and the parts that are no text."""

_COPIED = frozenset(
    {copy.source for copy in generations.COPIED_ATTRIBUTES}
    | {other for _, _, others in _MODALITIES for other in others}
)
"""Attributes of which the new generation has more to say."""


def span_name(name: str, attributes: Mapping[str, AttributeValue], emitted: Emitted) -> str:
    """Return a span's name: memory, retrieval and plan spans have their operation's."""
    operation = generations.MEMORY_AND_PLAN.get(name) if emitted.new else None
    if operation is None:
        return name
    agent = attributes.get(semconv.AGENT_NAME)
    if operation == semconv.PLAN and agent:
        return f"{operation} {agent}"
    return operation


def named_attributes(
    name: str, attributes: Mapping[str, AttributeValue], emitted: Emitted
) -> dict[str, AttributeValue]:
    """Return the attributes under the names that go out.

    Args:
        name: The span's name in the old generation.
        attributes: Its attributes in the old generation, ours among them. They stay as they are.
        emitted: The generations that go out.
    """
    named = dict(attributes)
    for fraction in _FRACTIONS:
        if type(value := named.get(fraction)) is int:
            named[fraction] = float(value)
    if named.get(semconv.OPERATION) == semconv.EXECUTE_TOOL:
        named[semconv.TOOL_TYPE] = semconv.TOOL_FUNCTION
    if not emitted.new:
        named.pop(semconv.REASONING_LEVEL, None)
        return named
    operation = generations.MEMORY_AND_PLAN.get(name)
    if operation is not None:
        named[semconv.OPERATION] = operation
    elif named.get(semconv.MCP_METHOD) == "tools/call":
        named[semconv.OPERATION] = semconv.EXECUTE_TOOL
    # Most spans have none of these, and one look tells.
    if not _COPIED.isdisjoint(attributes):
        _copy(named, emitted)
    if semconv.USAGE_STATUS in named:
        _add_call_names(named, emitted)
    return named


def _copy(named: dict[str, AttributeValue], emitted: Emitted) -> None:
    """Add what the new generation repeats, and leave out what it renames."""
    _add_text_tokens(named)
    for copy in generations.COPIED_ATTRIBUTES:
        if copy.source in named:
            named[copy.name] = named[copy.source]
            if copy.renamed and not emitted.old:
                del named[copy.source]


def _add_text_tokens(named: dict[str, AttributeValue]) -> None:
    """Say how much of a count is text, where a part of it is said not to be."""
    for whole, text, others in _MODALITIES:
        total = named.get(whole)
        parts = [value for other in others if isinstance(value := named.get(other), int)]
        if parts and isinstance(total, int):
            named[text] = max(0, total - sum(parts))


def _add_call_names(named: dict[str, AttributeValue], emitted: Emitted) -> None:
    """Add what only a model call has: the provider's listed name, its tier, its cost."""
    provider = named.get(semconv.PROVIDER)
    if isinstance(provider, str):
        named[semconv.PROVIDER] = generations.PROVIDER_VALUES.get(provider, provider)
    tier = named.get(semconv.SERVICE_TIER)
    if tier is not None and provider in _OPENAI:
        named[semconv.OPENAI_SERVICE_TIER] = tier
    reported = named.get(semconv.REPORTED_COST_USD)
    if emitted.costs and isinstance(reported, str):
        # Only what the response said: our own charge is computed behind the exporter.
        named[semconv.COST_AMOUNT] = float(reported)
        named[semconv.COST_CURRENCY] = "USD"
        named[semconv.COST_SOURCE] = "provider"
