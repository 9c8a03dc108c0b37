"""What the user says about prices. Values only.

`overrides_file` reads them from TOML or YAML; `track` lays them over the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from crewmeter.providers.hosts import canonical_provider

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crewmeter_cost.pricing.unit_prices import Price

__all__ = ["SELF_HOSTED", "Money", "Overrides", "Rule"]

SELF_HOSTED = "self-hosted"
"""The provider of hosts that are the user's own machines."""


@dataclass(frozen=True, slots=True)
class Money:
    """A currency's dated rates: (from, USD for one unit), oldest first."""

    rates: tuple[tuple[int, Decimal], ...]

    def usd(self, at_ns: int) -> Decimal:
        """Return USD for one unit at a moment.

        Before the first date it is the first rate.
        """
        rate = self.rates[0][1]
        for start, value in self.rates:
            if start <= at_ns:
                rate = value
        return rate


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the file: for which models, when, and what.

    Times are nanoseconds since 1970. None is open.
    """

    kind: str
    """``price`` | ``discount`` | ``free`` | ``self_hosted``."""
    provider: str | None
    models: tuple[str, ...]
    """Lower-case names; ``*`` at the end stands for any rest."""
    start_ns: int | None = None
    end_ns: int | None = None
    tier: str | None = None
    prices: Mapping[str, Price] = field(default_factory=dict)
    factor: Decimal = Decimal(1)
    """What remains to be paid after a discount; for ``self_hosted``, the number of GPUs."""
    currency: Money | None = None
    """None is USD."""
    host: str | None = None

    def covers(self, provider: str | None, host: str | None, names: Iterable[str]) -> bool:
        """Whether this entry speaks of a model under any of its names."""
        if self.provider is not None and self.provider != provider:
            return False
        if self.host is not None and self.host != host:
            return False
        return any(_fits(pattern, name) for pattern in self.models for name in names)

    def active(self, at_ns: int) -> bool:
        """Whether it applies at a moment."""
        return (self.start_ns is None or at_ns >= self.start_ns) and (
            self.end_ns is None or at_ns < self.end_ns
        )

    @property
    def sort_ns(self) -> int:
        """Its start for sorting: before all others where it has none."""
        return -1 if self.start_ns is None else self.start_ns

    @property
    def reach(self) -> int:
        """Return how specific it is.

        An exact name outweighs a pattern, a longer pattern a shorter one.
        """
        return max(len(name) * 2 + (not name.endswith("*")) for name in self.models) + (
            self.host is not None
        )

    @property
    def moments(self) -> set[int]:
        """The moments at which it begins, ends or is worth something else in USD."""
        edges = {edge for edge in (self.start_ns, self.end_ns) if edge is not None}
        if self.currency:
            return edges | {start for start, _ in self.currency.rates}
        return edges


def _fits(pattern: str, name: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern


@dataclass(frozen=True, slots=True)
class Overrides:
    """Everything in a price file. Empty where there is none."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    """``model`` or ``provider/model`` (lower case) → ``model`` or ``provider/model``."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    reported: frozenset[str] = frozenset()
    """Providers whose own figure is the charge, where they report one."""

    def provider_of(self, host: str | None) -> str | None:
        """Return the provider that the user gave a host.

        A leading dot in the file covers its subdomains.
        """
        if not host or not self.hosts:
            return None
        name = host.lower().rstrip(".")
        found = self.hosts.get(name)
        while found is None and "." in name:
            name = name.partition(".")[2]
            found = self.hosts.get("." + name)
        return found

    def alias(self, provider: str | None, model: str) -> tuple[str | None, str]:
        """Return the provider and model a name means, itself where it has no alias."""
        for key, aliased in self.aliases.items():
            prefix, slash, rest = key.partition("/")
            if key == model or (slash and rest == model and canonical_provider(prefix) == provider):
                seller, cut, name = aliased.partition("/")
                known = canonical_provider(seller) if cut and name else None
                if known is not None and known != provider and _is_seller(seller):
                    return (known, name)
                return (provider, aliased)
        return provider, model

    def about(
        self, provider: str | None, host: str | None, names: Sequence[str]
    ) -> tuple[Rule, ...]:
        """Return the entries about a model, the most specific first."""
        found = [rule for rule in self.rules if rule.covers(provider, host, names)]
        return tuple(
            sorted(
                found,
                key=lambda rule: -rule.reach,
            )
        )


def _is_seller(prefix: str) -> bool:
    """Return whether the part before a slash names a provider, not a maker.

    ``openai/gpt-4o`` is a provider's, ``meta-llama/llama-3`` a maker's.
    """
    return canonical_provider(prefix) in _SELLERS


_SELLERS = frozenset(
    {
        "openai",
        "anthropic",
        "aws.bedrock",
        "azure.ai.openai",
        "gcp.gemini",
        "gcp.vertex_ai",
        "mistral_ai",
        "x_ai",
        "groq",
        "deepseek",
        "cohere",
        "openrouter",
        "fireworks",
        "together_ai",
        "perplexity",
        "cerebras",
        "voyageai",
        "moonshotai",
        "deepinfra",
        "dashscope",
        "snowflake",
        "databricks",
        "nvidia_nim",
        "sambanova",
        "ibm.watsonx.ai",
        "novita",
        "zai",
        "ollama",
        "hosted_vllm",
    }
)
