"""The price book: which rates apply to a call, from every source in its order, resolved once and remembered.

Order: the user's overrides, genai-prices (with our corrections laid over it), LiteLLM's catalogue (flagged). What a provider
itself reports is kept beside the computed cost (`charge._beside`).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from crewmeter.providers import canonical_provider, resolve_provider
from crewmeter_cost.pricing import matching, shelf
from crewmeter_cost.pricing.corrections import Corrected, Corrections, read_corrections
from crewmeter_cost.pricing.outcome import FrozenRates, Unpriced
from crewmeter_cost.pricing.overrides import SELF_HOSTED, Overrides
from crewmeter_cost.pricing.track import Track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crewmeter_cost.pricing.catalogue import Entry
    from crewmeter_cost.pricing.rates import Plan

__all__ = ["PriceBook"]

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
_OWN_MACHINES = frozenset({"ollama", "hosted_vllm", "lm_studio", "llamafile", "xinference", SELF_HOSTED})
_NOBODY = (None, "litellm", "litellm_proxy", "unknown", "custom")
_TIERS: dict[str, str | None] = {
    "": None, "default": None, "standard": None, "standard_only": None, "auto": None, "on_demand": None, "on-demand": None,
    "on_demand_flex": "flex", "on_demand_priority": "priority", "batches": "batch",
}  # fmt: skip
"""What providers call a service tier → ours; None is the standard tier."""


class Source(Protocol):
    """A catalogue as resolution sees it."""

    def has(self, provider: str, name: str, open_only: bool = False, /) -> bool:
        """Whether a provider lists a name."""

    def entry(self, provider: str, name: str, /) -> Entry | None:
        """The model under a name."""

    def fallback(self, provider: str, /) -> tuple[str, ...]:
        """Providers whose models this one resells at their prices."""


class PriceBook:
    """Rates by provider, model, host, tier and moment. Thread-safe: only dictionaries grow, and only by whole values."""

    def __init__(self, sources: Sequence[Source], overrides: Overrides | None = None, corrections: Corrections | None = None) -> None:
        self._sources = tuple(sources)
        self._corrections = corrections or Corrections()
        self._overrides = overrides or Overrides()
        self._tracks: dict[tuple[str | None, str | None, str | None, str | None, str | None], Track] = {}
        self._frozen: dict[str, FrozenRates] = {}

    @classmethod
    def load(cls, overrides: Path | None = None) -> PriceBook:
        """The shipped book (or the user's newer one) under the user's overrides (default: ``$CREWMETER_PRICES``).

        ``Path(os.devnull)`` is a book without overrides, whatever the environment says.

        Raises `CrewMeterError` for an overrides file that is not understood.
        """
        named = overrides or (Path(path) if (path := os.environ.get("CREWMETER_PRICES")) else None)
        rules = None
        if named is not None and str(named) != os.devnull:  # the null device says: none, whatever the environment holds
            from crewmeter_cost.pricing.overrides_file import read_overrides

            rules = read_overrides(named.expanduser())
        corrections = read_corrections()
        return cls([Corrected(shelf.open_genai(), corrections), shelf.open_litellm()], rules, corrections)

    def plan(
        self, provider: str | None, model: str | None, host: str | None, response_model: str | None, tier: str | None, at_ns: int
    ) -> Plan | Unpriced:
        """The rates for one call, or why there are none. Remembered per combination and stretch of time."""
        try:
            track = self._tracks[provider, model, host, response_model, tier]
        except KeyError:
            track = self._remember(provider, model, host, response_model, tier)
        return track.only or track.at(at_ns)

    def _remember(self, provider: str | None, model: str | None, host: str | None, response_model: str | None, tier: str | None) -> Track:
        if len(self._tracks) >= _REMEMBERED:
            self._tracks = {}
        found = self._resolve(provider, model, host, response_model, tier)
        track = self._tracks[provider, model, host, response_model, tier] = Track.without(found) if isinstance(found, Unpriced) else found
        return track

    def frozen(self, version_hash: str) -> FrozenRates:
        """The rates behind a charge's version. Raises `KeyError` for a version this book never charged with."""
        return self._frozen[version_hash]

    def reported(self, provider: str) -> FrozenRates:
        """The price version of costs that only the provider itself knows."""
        digest = hashlib.sha256(f"{provider}\nreported".encode()).hexdigest()[:32]
        return self._frozen.setdefault(digest, FrozenRates(digest, "provider", provider, "*", "{}"))

    def _made(self, plan: Plan) -> None:
        self._frozen[plan.version] = plan.frozen

    def _resolve(
        self, declared: str | None, model: str | None, host: str | None, response_model: str | None, tier: str | None
    ) -> Track | Unpriced:
        names = [name.strip() for name in (response_model, model) if name and name.strip()]
        if not names:
            return Unpriced("unknown_model", "the call names no model", canonical_provider(declared))
        if bad := next((name for name in names if not name.isprintable() or len(name) > _LONGEST_NAME), None):
            return Unpriced("unknown_model", f"{bad[:80]!r} is no model name", canonical_provider(declared), bad, ("model_name_invalid",))
        mapped = self._overrides.provider_of(host)
        provider, assumed = (mapped, False) if mapped else resolve_provider(declared, host)
        if provider in _NOBODY:
            provider, names = _prefixed(names) or (provider, names)
        if provider == "aws.bedrock" or (len(names) > 1 and ":" in names[1]):
            names.reverse()  # the profile or variant that was asked for sets the price; the response drops it
        return self._track(provider, [name.lower() for name in names], host, _tier(tier), assumed=assumed)

    def _track(self, provider: str | None, names: list[str], host: str | None, tier: str | None, *, assumed: bool) -> Track | Unpriced:
        asked = names[-1]
        aliased = [self._overrides.alias(provider, name) for name in names]
        renamed = next(((seller, name) for (seller, name), old in zip(aliased, names, strict=True) if name != old), None)
        flags: tuple[str, ...] = ()
        if renamed is not None:
            provider, names, assumed, flags = renamed[0], [renamed[1].lower()], False, ("matched_alias",)
        found = None
        for seller in (provider,) if provider is not None else _MAKERS if host is None else ():
            found = self._find(seller, names)
            if found is not None:
                assumed = assumed or provider is None
                provider = seller
                break
        entry, matched = found or (None, ())
        rules = self._overrides.about(provider, host, [*names, asked, *([entry.model] if entry else [])])
        if entry is None and not any(rule.kind != "discount" for rule in rules):
            return self._unknown(provider, asked, assumed)
        flags += tuple(f"matched_{rule}" for rule in matched)
        flags += ("provider_assumed",) if assumed and not rules else ()
        flags += ("litellm_price",) if entry and entry.source == "litellm" else ()
        return Track(provider or "unknown", names[-1], entry, tier=tier, flags=flags, rules=rules, made=self._made)

    def _find(self, provider: str, names: Sequence[str]) -> tuple[Entry, tuple[str, ...]] | None:
        """The catalogue entry of the first name that any source lists, better sources first, and the rules that led to it."""
        chain = _CHAINS.get(provider, (provider,))
        for source in self._sources:
            sellers = (*chain, *(other for each in chain for other in source.fallback(each)))
            for name in names:
                for seller in sellers:
                    for spelled in _unprefixed(name, chain):
                        match = matching.find(seller, spelled, has=source.has)
                        entry = source.entry(seller, match.name) if match else None
                        if match and entry:
                            return entry if seller in chain else _resold(entry), match.rules
        return None

    def _unknown(self, provider: str | None, model: str, assumed: bool) -> Unpriced:
        known = next(
            (why for each in _CHAINS.get(provider or "", (provider or "",)) if (why := self._corrections.reason(each, model))), None
        )
        where = f" at {provider}" if provider else "; its provider is not known either"
        if known is not None:
            reason = f"{model!r} has no price{where}: {known}; declare it under [[free]] or give it one under [[price]]"
        elif provider in _OWN_MACHINES:
            reason = f"{provider} runs on your own machines: declare {model!r} under [[free]], or its $/GPU-hour under [[self_hosted]]"
        else:
            reason = f"no price for {model!r}{where}; add it to your prices file ($CREWMETER_PRICES) or map it under [aliases]"
        return Unpriced("unknown_model", reason, provider, model, ("provider_assumed",) if assumed else ())


def _resold(entry: Entry) -> Entry:
    """Another provider's model as this one sells it: at the standard price only, tiers are each provider's own."""
    return replace(entry, periods=tuple(period for period in entry.periods if "tier" not in period))


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
