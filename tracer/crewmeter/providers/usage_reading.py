"""A provider's usage object, in whatever shape it came, as a `TokenUsage`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from crewmeter.providers.hosts import canonical_provider
from crewmeter.providers.registry import SHAPES
from crewmeter.providers.reported_cost import reported_cost
from crewmeter.providers.unknown_usage import unknown_paths
from crewmeter.usage.draft import BadCount
from crewmeter.usage.token_usage import MISSING, TokenUsage

__all__ = ["read_usage", "reported_cost"]


def read_usage(
    raw: Mapping[str, object] | None, *, provider: str | None = None, operation: str | None = None
) -> TokenUsage:
    """Return the usage that a provider, an SDK or a CrewAI event reports. Never raises.

    ``provider`` (any spelling) and ``operation`` only decide what the keys leave open. Both token
    counts of a ``reported`` usage are known. Nothing recognised, or all zeros, is ``missing``. A
    count that is negative, absurd or no whole number, or parts that exceed the whole, are
    ``invalid``. Neither has counts. What no reader knows is flagged ``unknown_usage:PATH``.
    """
    if type(raw) is not dict and not isinstance(raw, Mapping):  # the first is quicker, and the rule
        return MISSING
    provider = canonical_provider(provider)
    for shape in SHAPES:
        if raw.get(shape.requires) is None:
            continue
        if shape.any_of and not any(key in raw for key in shape.any_of):
            continue
        try:
            usage = shape.read(raw, provider).finish(operation)
        except BadCount as bad:
            return TokenUsage(status="invalid", flags=(f"bad_count:{bad.args[0]}",))
        unknown = unknown_paths(raw, shape.known)
        return replace(usage, flags=(*usage.flags, *unknown)) if unknown else usage
    return MISSING
