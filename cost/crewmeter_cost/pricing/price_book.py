"""The price book: which rates apply to a call, from every source in its order, resolved once and remembered.

Order: the user's overrides, genai-prices (with our corrections laid over it), LiteLLM's catalogue (flagged). What a provider
itself reports is kept beside the computed cost (`charge._beside`).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from crewmeter.providers.hosts import canonical_provider, resolve_provider
from crewmeter_cost.pricing import model_matching
from crewmeter_cost.pricing.catalogue import files
from crewmeter_cost.pricing.catalogue.corrections import Corrected, Corrections, read_corrections
from crewmeter_cost.pricing.charge_result import FrozenRates, Unpriced
from crewmeter_cost.pricing.effective_dates import PriceHistory
from crewmeter_cost.pricing.overrides.schema import SELF_HOSTED, Overrides
from crewmeter_cost.pricing.regions import is_regional

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crewmeter_cost.pricing.catalogue.file_format import Entry
    from crewmeter_cost.pricing.unit_prices import Plan

__all__ = ["PriceBook"]

_GEOGRAPHIC = Decimal("1.1")
"""Bedrock bills geographic profiles (``us.``, ``eu.`` …) 10 % above ``global.`` ones."""
_REMEMBERED = 8192
"""Resolutions kept; a flood of made-up model names starts the memory afresh instead of growing it."""
_LONGEST_NAME = 512
_CHAINS: dict[str, tuple[str, ...]] = {
    "gcp.vertex_ai": ("gcp.vertex_ai", "gcp.gemini"),
    "gcp.gemini": ("gcp.gemini", "gcp.vertex_ai"),
}
"""Providers whose models stand under either name in the catalogues."""
_MAKERS = (
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
"""Where a model named without any provider is looked for, in this order; the charge says ``provider_assumed``."""
_OWN_MACHINES = frozenset(
    {"ollama", "hosted_vllm", "lm_studio", "llamafile", "xinference", SELF_HOSTED}
)
_NOBODY = (None, "litellm", "litellm_proxy", "unknown", "custom")
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
}
"""What providers call a service tier → ours; None is the standard tier."""


class Source(Protocol):
    """A catalogue as resolution sees it."""

    def has(self, provider: str, name: str, open_only: bool = False, /) -> bool:
        """Whether a provider lists a name."""

    def entry(self, provider: str, name: str, /) -> Entry | None:
        """The model under a name."""

    def fallback(self, provider: str, /) -> tuple[str, ...]:
        """Providers whose models this one resells at their prices."""


class _Found(NamedTuple):
    """A catalogue entry, and how a call's names led to it."""

    seller: str
    entry: Entry
    name: str
    rules: tuple[str, ...]


class PriceBook:
    """Rates by provider, model, host, tier and moment. Thread-safe: only dictionaries grow, and only by whole values."""

    def __init__(
        self,
        sources: Sequence[Source],
        overrides: Overrides | None = None,
        corrections: Corrections | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._corrections = corrections or Corrections()
        self._overrides = overrides or Overrides()
        self._tracks: dict[
            tuple[str | None, str | None, str | None, str | None, str | None], PriceHistory
        ] = {}
        self._frozen: dict[str, FrozenRates] = {}

    @classmethod
    def load(cls, overrides: Path | None = None) -> PriceBook:
        """The shipped book (or the user's newer one) under the user's overrides (default: ``$CREWMETER_PRICES``).

        ``Path(os.devnull)`` is a book without overrides, whatever the environment says.

        Raises `CrewMeterError` for an overrides file that is not understood.
        """
        named = overrides or (Path(path) if (path := os.environ.get("CREWMETER_PRICES")) else None)
        rules = None
        if (
            named is not None and str(named) != os.devnull
        ):  # the null device says: none, whatever the environment holds
            from crewmeter_cost.pricing.overrides.reader import read_overrides

            rules = read_overrides(named.expanduser())
        corrections = read_corrections()
        return cls(
            [Corrected(files.open_genai(), corrections), files.open_litellm()], rules, corrections
        )

    def plan(
        self,
        provider: str | None,
        model: str | None,
        host: str | None,
        response_model: str | None,
        tier: str | None,
        at_ns: int,
    ) -> Plan | Unpriced:
        """The rates for one call, or why there are none. Remembered per combination and stretch of time."""
        try:
            track = self._tracks[provider, model, host, response_model, tier]
        except KeyError:
            track = self._remember(provider, model, host, response_model, tier)
        return track.only or track.at(at_ns)

    def _remember(
        self,
        provider: str | None,
        model: str | None,
        host: str | None,
        response_model: str | None,
        tier: str | None,
    ) -> PriceHistory:
        if len(self._tracks) >= _REMEMBERED:
            self._tracks = {}
        found = self._resolve(provider, model, host, response_model, tier)
        track = self._tracks[provider, model, host, response_model, tier] = (
            PriceHistory.without(found) if isinstance(found, Unpriced) else found
        )
        return track

    def frozen(self, version_hash: str) -> FrozenRates:
        """The rates behind a charge's version. Raises `KeyError` for a version this book never charged with."""
        return self._frozen[version_hash]

    def reported(self, provider: str) -> FrozenRates:
        """The price version of costs that only the provider itself knows."""
        digest = hashlib.sha256(f"{provider}\nreported".encode()).hexdigest()[:32]
        return self._frozen.setdefault(digest, FrozenRates(digest, "provider", provider, "*", "{}"))

    def books_reported(self, provider: str) -> bool:
        """Return whether the user books this provider's own figures (``[reported]``)."""
        return provider in self._overrides.reported

    def _made(self, plan: Plan) -> None:
        self._frozen[plan.version] = plan.frozen

    def _resolve(
        self,
        declared: str | None,
        model: str | None,
        host: str | None,
        response_model: str | None,
        tier: str | None,
    ) -> PriceHistory | Unpriced:
        names = [name.strip() for name in (response_model, model) if name and name.strip()]
        if not names:
            return Unpriced(
                "unknown_model", "the call names no model", canonical_provider(declared)
            )
        if bad := next(
            (name for name in names if not name.isprintable() or len(name) > _LONGEST_NAME), None
        ):
            return Unpriced(
                "unknown_model",
                f"{bad[:80]!r} is no model name",
                canonical_provider(declared),
                bad,
                ("model_name_invalid",),
            )
        asked = names[-1]
        mapped = self._overrides.provider_of(host)
        provider, assumed = (mapped, False) if mapped else resolve_provider(declared, host)
        if provider in _NOBODY:
            provider, names = _prefixed(names) or (provider, names)
        if provider == "aws.bedrock" or (len(names) > 1 and ":" in names[1]):
            names.reverse()  # the profile or variant that was asked for sets the price; the response drops it
        provider, spelled = self._renamed(provider, [name.lower() for name in names])
        sellers = (provider,) if provider is not None else _MAKERS if host is None else ()
        found = next(
            (hit for seller in sellers if (hit := self._find(seller, list(spelled)))), None
        )
        if found is not None and provider is None:
            provider, assumed = found.seller, True
        names_known = [*spelled, asked.lower(), *([found.entry.model] if found else [])]
        rules = self._overrides.about(provider, host, names_known)
        if found is None and not any(rule.kind != "discount" for rule in rules):
            return self._unknown(provider, asked, assumed)
        uplift = self._uplift(provider or "", found, host) if found else None
        flags = _flags(found, spelled, assumed=assumed and not rules, uplift=uplift)
        entry = found.entry if found else None
        return PriceHistory(
            provider or "unknown",
            asked,
            entry,
            tier=_tier(tier),
            flags=flags,
            rules=rules,
            uplift=uplift,
            made=self._made,
        )

    def _renamed(
        self, provider: str | None, names: Sequence[str]
    ) -> tuple[str | None, dict[str, bool]]:
        """The names with the user's aliases put in their place, and whether each is one; an alias may name another provider."""
        spelled: dict[str, bool] = {}
        for name in names:
            seller, known_as = self._overrides.alias(provider, name)
            if seller != provider:
                return seller, {known_as.lower(): True}
            spelled[known_as.lower()] = known_as != name
        return provider, spelled

    def _uplift(self, provider: str, found: _Found, host: str | None) -> Decimal | None:
        """The factor for a call kept within a region: as Bedrock's profile or the host says, where that model has one."""
        if "regional_uplift" in found.rules:
            return _GEOGRAPHIC
        if is_regional(provider, host):
            for source in reversed(
                self._sources
            ):  # LiteLLM's, the lower source, is the one that lists these factors
                match = model_matching.find(provider, found.name, has=source.has)
                entry = source.entry(provider, match.name) if match else None
                if entry is not None and "uplift" in entry.periods[0]:
                    return Decimal(str(entry.periods[0]["uplift"]))
        return None

    def _find(self, provider: str, names: Sequence[str]) -> _Found | None:
        """The catalogue entry of the first name that any source lists, better sources first."""
        chain = _CHAINS.get(provider, (provider,))
        for source in self._sources:
            sellers = (*chain, *(other for each in chain for other in source.fallback(each)))
            for name in names:
                for seller in sellers:
                    for spelled in _unprefixed(name, chain):
                        match = model_matching.find(seller, spelled, has=source.has)
                        entry = source.entry(seller, match.name) if match else None
                        if match and entry:
                            return _Found(
                                provider,
                                entry if seller in chain else _resold(entry),
                                name,
                                match.rules,
                            )
        return None

    def _unknown(self, provider: str | None, model: str, assumed: bool) -> Unpriced:
        known = next(
            (
                why
                for each in _CHAINS.get(provider or "", (provider or "",))
                if (why := self._corrections.reason(each, model.lower()))
            ),
            None,
        )
        where = f" at {provider}" if provider else "; its provider is not known either"
        if known is not None:
            reason = f"{model!r} has no price{where}: {known}; declare it under [[free]] or give it one under [[price]]"
        elif provider in _OWN_MACHINES:
            reason = f"{provider} runs on your own machines: declare {model!r} under [[free]], or its $/GPU-hour under [[self_hosted]]"
        else:
            reason = f"no price for {model!r}{where}; add it to your prices file ($CREWMETER_PRICES) or map it under [aliases]"
        return Unpriced(
            "unknown_model", reason, provider, model, ("provider_assumed",) if assumed else ()
        )


def _flags(
    found: _Found | None, spelled: Mapping[str, bool], *, assumed: bool, uplift: Decimal | None
) -> tuple[str, ...]:
    """What was assumed to find the rates: the rules that matched, then the provider and the source."""
    rules = found.rules if found else ()
    flags = [f"matched_{rule}" for rule in rules]
    if spelled.get(found.name) if found else any(spelled.values()):
        flags.insert(0, "matched_alias")
    if uplift is not None and "regional_uplift" not in rules:
        flags.append("regional_uplift")
    if assumed:
        flags.append("provider_assumed")
    if found and found.entry.source == "litellm":
        flags.append("litellm_price")
    return tuple(flags)


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
    return (
        (name, rest)
        if rest and (canonical_provider(prefix) in chain or prefix == "litellm")
        else (name,)
    )
