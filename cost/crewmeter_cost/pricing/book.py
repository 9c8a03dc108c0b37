"""The price book: which rates apply to a call, from every source in its order, resolved once and remembered.

Order: the user's overrides, genai-prices (with our corrections laid over it), LiteLLM's catalogue (flagged). What a provider
itself reports is kept beside the computed cost (`charge._beside`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter.providers import canonical_provider, resolve_provider
from crewmeter_cost.pricing import matching
from crewmeter_cost.pricing.catalogue import Catalogue
from crewmeter_cost.pricing.outcome import FrozenRates, Unpriced
from crewmeter_cost.pricing.track import Track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crewmeter_cost.pricing.catalogue import Entry
    from crewmeter_cost.pricing.rates import Plan

__all__ = ["DATA", "PriceBook"]

DATA = Path(__file__).with_name("data")
_REMEMBERED = 8192
"""Resolutions kept; a flood of made-up model names starts the memory afresh instead of growing it."""
_LONGEST_NAME = 512
_CHAINS: dict[str, tuple[str, ...]] = {
    "gcp.vertex_ai": ("gcp.vertex_ai", "gcp.gemini"),
    "gcp.gemini": ("gcp.gemini", "gcp.vertex_ai"),
}
"""Providers whose models stand under either name in the catalogues."""
_MAKERS = (
    "openai", "anthropic", "gcp.gemini", "mistral_ai", "deepseek", "x_ai", "cohere", "voyageai", "moonshotai", "zai", "perplexity", "meta",
    "groq", "cerebras", "aws.bedrock",
)  # fmt: skip
"""Where a model named without any provider is looked for, in this order; the charge says ``provider_assumed``."""
_OWN_MACHINES = frozenset({"ollama", "hosted_vllm", "lm_studio", "llamafile", "xinference", "self-hosted"})
_TIERS: dict[str, str | None] = {
    "": None, "default": None, "standard": None, "standard_only": None, "auto": None, "on_demand": None, "on-demand": None,
    "on_demand_flex": "flex", "on_demand_priority": "priority", "batches": "batch",
}  # fmt: skip
"""What providers call a service tier → ours; None is the standard tier."""


class PriceBook:
    """Rates by provider, model, host, tier and moment. Thread-safe: only dictionaries grow, and only by whole values."""

    def __init__(self, sources: Sequence[tuple[str, Catalogue]]) -> None:
        self._sources = tuple(sources)
        self._tracks: dict[tuple[str | None, str | None, str | None, str | None, str | None], Track | Unpriced] = {}
        self._frozen: dict[str, FrozenRates] = {}

    @classmethod
    def load(cls, overrides: Path | None = None) -> PriceBook:
        """The shipped book under the user's overrides (default: ``$CREWMETER_PRICES``)."""
        return cls([(name, Catalogue.open(DATA / f"{name}.txt")) for name in ("genai-prices", "litellm")])

    def plan(
        self, provider: str | None, model: str | None, host: str | None, response_model: str | None, tier: str | None, at_ns: int
    ) -> Plan | Unpriced:
        """The rates for one call, or why there are none. Remembered per combination and stretch of time."""
        key = (provider, model, host, response_model, tier)
        track = self._tracks.get(key)
        if track is None:
            if len(self._tracks) >= _REMEMBERED:
                self._tracks = {}
            track = self._tracks[key] = self._resolve(provider, model, host, response_model, tier)
        if track.__class__ is Unpriced:
            return track
        return track.only or track.at(at_ns)  # type: ignore[union-attr]

    def frozen(self, version_hash: str) -> FrozenRates:
        """The rates behind a charge's version. Raises `KeyError` for a version this book never charged with."""
        return self._frozen[version_hash]

    def reported(self, provider: str) -> FrozenRates:
        """The price version of costs that only the provider itself knows."""
        digest = hashlib.sha256(f"{provider}\nreported".encode()).hexdigest()[:32]
        return self._frozen.setdefault(digest, FrozenRates(digest, "provider", provider, "*", "{}"))

    def register(self, plan: Plan) -> None:
        """Remember a plan's rates, so that `frozen` knows them."""
        self._frozen[plan.version] = plan.frozen

    def _resolve(
        self, declared: str | None, model: str | None, host: str | None, response_model: str | None, tier: str | None
    ) -> Track | Unpriced:
        names = [name for name in (response_model, model) if name]
        if not names:
            return Unpriced("unknown_model", "the call names no model", canonical_provider(declared))
        if bad := next((name for name in names if not name.isprintable() or len(name) > _LONGEST_NAME), None):
            return Unpriced("unknown_model", f"{bad[:80]!r} is no model name", canonical_provider(declared), bad, ("model_name_invalid",))
        provider, assumed = resolve_provider(declared, host)
        if provider in (None, "litellm", "unknown", "custom"):
            provider, names = _prefixed(names) or (provider, names)
        if provider == "aws.bedrock" or any(":" in name for name in names[1:]):
            names.reverse()  # the profile or variant that was asked for sets the price; the response drops it
        tier = _tier(tier)
        if provider is None and host is None:
            return self._guess(names, tier)
        found = self._find(provider or "", names)
        if found is None:
            return _unknown(provider, names[-1], assumed)
        source, entry, rules = found
        return Track(
            self, provider or "", source, entry, tier=tier, flags=_flags(source, rules, assumed=assumed), uplift="global_profile" in rules
        )

    def _guess(self, names: Sequence[str], tier: str | None) -> Track | Unpriced:
        for maker in _MAKERS:
            found = self._find(maker, names)
            if found is not None:
                source, entry, rules = found
                return Track(self, maker, source, entry, tier=tier, flags=_flags(source, rules, assumed=True), uplift=False)
        return _unknown(None, names[-1], False)

    def _find(self, provider: str, names: Sequence[str]) -> tuple[str, Entry, tuple[str, ...]] | None:
        for source, catalogue in self._sources:
            chain = _CHAINS.get(provider, (provider,))
            sellers = (*chain, *(other for each in chain for other in catalogue.fallback(each)))
            for name in names:
                for seller in sellers:
                    for spelled in _unprefixed(name.strip().lower(), chain):
                        match = matching.find(seller, spelled, has=catalogue.has)
                        entry = catalogue.entry(seller, match.name) if match else None
                        if match and entry:
                            return source, entry, match.rules
        return None


def _tier(tier: str | None) -> str | None:
    lowered = (tier or "").strip().lower()
    return _TIERS.get(lowered, lowered)


def _prefixed(names: Sequence[str]) -> tuple[str, list[str]] | None:
    """LiteLLM's ``provider/model``: the prefix names the provider where nobody else does."""
    for name in reversed(names):
        prefix, _, rest = name.partition("/")
        if rest and (provider := canonical_provider(prefix)):
            return provider, [each.removeprefix(prefix + "/") for each in names]
    return None


def _unprefixed(name: str, chain: Sequence[str]) -> tuple[str, ...]:
    prefix, _, rest = name.partition("/")
    return (name, rest) if rest and (canonical_provider(prefix) in chain or prefix == "litellm") else (name,)


def _flags(source: str, rules: Sequence[str], *, assumed: bool) -> tuple[str, ...]:
    flags = [f"matched_{rule}" for rule in rules]
    if assumed:
        flags.append("provider_assumed")
    if source == "litellm":
        flags.append("litellm_price")
    return tuple(flags)


def _unknown(provider: str | None, model: str, assumed: bool) -> Unpriced:
    flags = ("provider_assumed",) if assumed else ()
    if provider in _OWN_MACHINES:
        reason = f"{provider} runs on your own machines: declare {model!r} under [[free]], or its $/GPU-hour under [[self_hosted]]"
    else:
        where = f" at {provider}" if provider else "; its provider is not known either"
        reason = f"no price for {model!r}{where}; add it to your prices file ($CREWMETER_PRICES) or map it under [aliases]"
    return Unpriced("unknown_model", reason, provider, model, flags)
