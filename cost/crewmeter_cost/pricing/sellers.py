"""Who sells which models, and what clients call sellers and service tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.providers.hosts import canonical_provider

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CHAINS",
    "DEDICATED",
    "MAKERS",
    "NOBODY",
    "PASS_THROUGH",
    "prefixed",
    "tier_of",
    "unprefixed",
]

CHAINS: dict[str, tuple[str, ...]] = {
    "gcp.vertex_ai": ("gcp.vertex_ai", "gcp.gemini"),
    "gcp.gemini": ("gcp.gemini", "gcp.vertex_ai"),
}
"""Providers whose models stand under either name in the catalogues."""
MAKERS = (
    "openai",
    "anthropic",
    "gcp.gemini",
    "mistral_ai",
    "deepseek",
    "x_ai",
    "cohere",
    "voyageai",
    "moonshotai",
    "zai",
    "perplexity",
    "meta",
    "groq",
    "cerebras",
    "aws.bedrock",
)
"""Where a model named without any provider is looked for, in this order.

The charge says ``provider_assumed``.
"""
NOBODY = (None, "litellm", "litellm_proxy", "unknown", "custom")
PASS_THROUGH = frozenset({"vercel_ai_gateway"})
"""Gateways that bill each maker's list price. The model's name begins with the maker."""
DEDICATED = frozenset(
    {
        "together_ai",
        "fireworks",
        "baseten",
        "deepinfra",
        "huggingface",
        "nebius",
        "friendliai",
        "databricks",
    }
)
"""Sellers of deployments of one's own, billed by the hour: their names are in no price list."""
_TIERS: dict[str, str | None] = {
    "": None,
    "default": None,
    "standard": None,
    "standard_only": None,
    "auto": None,
    "on_demand": None,
    "on-demand": None,
    "on_demand_flex": "flex",
    "on_demand_priority": "priority",
    "batches": "batch",
    "provisioned_throughput": "provisioned",
    "scale": "provisioned",
    "reserved": "provisioned",
}
"""A provider's name of a service tier → ours. None is the standard tier."""


def tier_of(tier: str | None) -> str | None:
    lowered = (tier or "").strip().lower()
    return _TIERS.get(lowered, lowered)


def prefixed(names: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the provider that a ``provider/model`` names, and the names without it."""
    for name in reversed(names):
        prefix, _, rest = name.partition("/")
        provider = canonical_provider(prefix) if rest else None
        if provider:
            return provider, [each.removeprefix(prefix + "/") for each in names]
    return None


def unprefixed(name: str, chain: Sequence[str]) -> tuple[str, ...]:
    prefix, _, rest = name.partition("/")
    if rest and (canonical_provider(prefix) in chain or prefix == "litellm"):
        return (name, rest)
    return (name,)
