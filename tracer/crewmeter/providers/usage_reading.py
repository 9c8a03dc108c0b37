"""A provider's usage object, in whatever shape it came, as a `TokenUsage`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from crewmeter.providers.hosts import canonical_provider
from crewmeter.providers.registry import SHAPES
from crewmeter.providers.reported_cost import reported_cost
from crewmeter.providers.unknown_usage import unknown_paths
from crewmeter.usage.draft import BadCount
from crewmeter.usage.token_usage import MISSING, TokenUsage

if TYPE_CHECKING:
    from crewmeter.providers.provider_protocol import UsageShape

__all__ = ["read_usage", "reported_cost"]


def read_usage(
    raw: Mapping[str, object] | None, *, provider: str | None = None, operation: str | None = None
) -> TokenUsage:
    """Return the usage that a provider, an SDK or a CrewAI event reports.

    Never raises. ``provider`` (any spelling) and ``operation`` only decide what the keys leave
    open. Both token counts of a ``reported`` usage are known. Nothing recognised, or all zeros, is
    ``missing``. A count that is negative, absurd or no whole number, or parts that exceed the
    whole, are ``invalid``. Neither has counts. What no reader knows is flagged
    ``unknown_usage:PATH``.
    """
    if type(raw) is not dict and not isinstance(raw, Mapping):  # the first is quicker, and the rule
        return MISSING
    shape = _shape_of(raw)
    if shape is None:
        return MISSING
    if shape.read_plain is not None:
        plain = shape.read_plain(raw)
        if plain is not None:
            return plain
    try:
        usage = shape.read(raw, canonical_provider(provider)).finish(operation)
    except BadCount as bad:
        return TokenUsage(
            status="invalid",
            flags=(f"bad_count:{bad.args[0]}",),
        )
    unknown = unknown_paths(raw, shape.known)
    if unknown:
        return replace(
            usage,
            flags=(*usage.flags, *unknown),
        )
    return usage


_MOST_CACHED_KEYS = 64


def _shape_of(raw: Mapping[str, object]) -> UsageShape | None:
    """Return the first shape whose keys ``raw`` has, with a value in the one required."""
    # Objects with more keys are nobody's usage, and would fill the cache.
    find = _candidates if len(raw) <= _MOST_CACHED_KEYS else _candidates.__wrapped__
    for shape in find(tuple(raw)):
        if raw.get(shape.requires) is not None:
            return shape
    return None


@lru_cache(maxsize=1024)
def _candidates(names: tuple[str, ...]) -> tuple[UsageShape, ...]:
    """Return the shapes that an object with these keys may have, in their order."""
    found = [shape for shape in SHAPES if shape.requires in names]
    return tuple(shape for shape in found if not shape.any_of or not shape.any_of.isdisjoint(names))
