"""The price book: the rates of a call, from every source in order.

Order: the user's overrides, genai-prices (with our corrections laid over it), LiteLLM's catalogue
(flagged). The provider's own figure is compared with the computed cost in `charge`.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crewmeter.providers.hosts import canonical_provider, resolve_provider
from crewmeter_cost.pricing.catalogue import catalogue_files
from crewmeter_cost.pricing.catalogue.corrections import Corrected, Corrections, read_corrections
from crewmeter_cost.pricing.charge_result import FrozenRates, Unpriced
from crewmeter_cost.pricing.effective_dates import PriceHistory, prices_at
from crewmeter_cost.pricing.entry_lookup import EntryLookup
from crewmeter_cost.pricing.overrides.schema import SELF_HOSTED, Overrides
from crewmeter_cost.pricing.sellers import (
    CHAINS,
    DEDICATED,
    MAKERS,
    NOBODY,
    PASS_THROUGH,
    prefixed,
    tier_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from crewmeter_cost.pricing.charge_result import Bound
    from crewmeter_cost.pricing.entry_lookup import Found, Source
    from crewmeter_cost.pricing.unit_prices import Plan, Price

__all__ = ["PriceBook"]

_REMEMBERED = 8192
"""Resolutions stored.

A flood of made-up model names starts the memory afresh instead of growing it.
"""
_LONGEST_NAME = 512
_OWN_MACHINES = frozenset(
    {"ollama", "hosted_vllm", "lm_studio", "llamafile", "xinference", SELF_HOSTED}
)
_LESS_THAN_BILLED = frozenset({"region_price_missing", "variant_assumed", "deployment_assumed"})
"""Flags of a price that may be lower than the one billed."""
_ROUTER = re.compile(r"model[-_]router(?:[-_@].*)?")
_ROUTER_PRICE = "0.14"
"""USD per million input tokens that Azure's model router adds to the model that it chose.

https://azure.microsoft.com/pricing/details/cognitive-services/openai-service (2026-11-26)
"""
_FILLED = re.compile(
    r"(?:image|character|page|annotated_page|input_second|output_second|maps_grounding|web_search"
    r"|output_image|cache_image_read|input_audio|output_audio|input_video|output_video"
    r"|citation_token)(?::.*)?"
)
"""Units that a lower source adds to an entry that lacks them. Text tokens are never mixed."""


class _Key(NamedTuple):
    """What a call says of itself: enough to find its rates."""

    provider: str | None
    model: str | None
    host: str | None
    response_model: str | None
    tier: str | None


class PriceBook:
    """Rates by provider, model, host, tier and moment.

    Thread-safe: only dictionaries grow, and only by whole values.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        overrides: Overrides | None = None,
        corrections: Corrections | None = None,
    ) -> None:
        self._lookup = EntryLookup(sources)
        self._corrections = corrections or Corrections()
        self._overrides = overrides or Overrides()
        self._histories: dict[_Key, PriceHistory] = {}
        self._frozen: dict[str, FrozenRates] = {}

    @classmethod
    def load(cls, overrides: Path | None = None) -> PriceBook:
        """Return the shipped book (or the user's newer one) under the user's overrides.

        Args:
            overrides: The file, default ``$CREWMETER_PRICES``. ``Path(os.devnull)`` is a book
                without overrides, whatever the environment says.

        Raises:
            CrewMeterError: The overrides file is not understood.
        """
        named = overrides
        if named is None and (path := os.environ.get("CREWMETER_PRICES")):
            named = Path(path)
        rules = None
        if named is not None and str(named) != os.devnull:
            from crewmeter_cost.pricing.overrides.reader import read_overrides

            rules = read_overrides(named.expanduser())
        corrections = read_corrections()
        sources: list[Source] = [
            Corrected(catalogue_files.open_genai(), corrections),
            catalogue_files.open_litellm(),
        ]
        return cls(sources, rules, corrections)

    def plan(
        self,
        provider: str | None,
        model: str | None,
        host: str | None,
        response_model: str | None,
        tier: str | None,
        at_ns: int,
    ) -> Plan | Unpriced:
        """Return the rates for one call, or why there are none.

        The answer is remembered per combination and stretch of time.
        """
        try:
            # A plain tuple equals its `_Key` and costs half as much to make.
            key = (provider, model, host, response_model, tier)
            history = self._histories[key]  # type: ignore[index]
        except KeyError:
            history = self._remember(
                _Key(
                    provider,
                    model,
                    host,
                    response_model,
                    tier,
                )
            )
        return history.only or history.at(at_ns)

    def _remember(self, key: _Key) -> PriceHistory:
        if len(self._histories) >= _REMEMBERED:
            self._histories = {}
        found = self._resolve(key)
        history = PriceHistory.without(found) if isinstance(found, Unpriced) else found
        self._histories[key] = history
        return history

    def frozen(self, version_hash: str) -> FrozenRates:
        """Return the rates behind a charge's version.

        Raises `KeyError` for a version that this book never charged with.
        """
        return self._frozen[version_hash]

    def reported(self, provider: str) -> FrozenRates:
        """Return the price version of costs that only the provider itself knows."""
        digest = hashlib.sha256(f"{provider}\nreported".encode()).hexdigest()[:32]
        return self._frozen.setdefault(
            digest,
            FrozenRates(digest, "provider", provider, "*", "{}"),
        )

    def books_reported(self, provider: str) -> bool:
        """Return whether the user books this provider's own figures (``[reported]``)."""
        return provider in self._overrides.reported

    def _made(self, plan: Plan) -> None:
        self._frozen[plan.version] = plan.frozen

    def _resolve(self, key: _Key) -> PriceHistory | Unpriced:
        """Find the catalogue entry and the user's rules for a call."""
        named = (key.response_model, key.model)
        names = [name.strip() for name in named if name and name.strip()]
        refused = _no_model(names, key.provider)
        if refused is not None:
            return refused
        requested = names[-1]
        provider, assumed = self._biller(key)
        if provider in NOBODY:
            provider, names = prefixed(names) or (provider, names)
        if provider == "aws.bedrock" or (len(names) > 1 and ":" in names[1]):
            # The requested profile or variant sets the price, and the response leaves it out.
            names.reverse()
        provider, spelled = self._renamed(
            provider,
            [name.lower() for name in names],
        )
        found = self._found(
            provider,
            list(spelled),
            key.host,
        )
        if found is not None and provider is None:
            provider = found.seller
            assumed = True
        names_known = [*spelled, requested.lower()]
        if found is not None:
            names_known.append(found.entry.model)
        rules = self._overrides.about(
            provider,
            key.host,
            names_known,
        )
        if found is None and not any(rule.kind != "discount" for rule in rules):
            return self._unknown(provider, requested, assumed)
        entry = None
        uplift = None
        surcharge: dict[str, Price] = {}
        if found is not None:
            entry = self._lookup.with_lower_tiers(found)
            uplift = self._lookup.uplift(
                provider or "",
                found,
                key.host,
            )
            surcharge = self._surcharge(
                provider or "",
                found,
                requested,
            )
        flags = _flags(
            found,
            spelled,
            assumed=assumed and not rules,
            uplift=uplift,
        )
        bound: Bound = ""
        if found is not None:
            if _lacks_variant(provider, requested, found):
                flags = (*flags, "variant_assumed")
            if not any(spelled.values()) and self._is_deployment(provider, requested, key.host):
                flags = (*flags, "deployment_assumed")
            bound = self._lookup.disagreement(found)
            if bound:
                flags = (*flags, "sources_disagree")
        if bound != "estimated" and _LESS_THAN_BILLED.intersection(flags):
            bound = "lower_bound"
        return PriceHistory(
            provider or "unknown",
            requested,
            entry,
            tier=tier_of(key.tier),
            flags=flags,
            rules=rules,
            uplift=uplift,
            surcharge=surcharge,
            bound=bound,
            made=self._made,
        )

    def _is_deployment(self, provider: str | None, requested: str, host: str | None) -> bool:
        """Return whether a request named a deployment, and only the answer its model."""
        if provider not in DEDICATED:
            return False
        name = requested.lower()
        return "/deployments/" in name or self._lookup.find(provider, [name], host) is None

    def _biller(self, key: _Key) -> tuple[str | None, bool]:
        """Return who billed a call, and whether that is assumed."""
        mapped = self._overrides.provider_of(key.host)
        if mapped:
            return mapped, False
        return resolve_provider(key.provider, key.host)

    def _found(self, provider: str | None, names: Sequence[str], host: str | None) -> Found | None:
        """Return the entry at the provider, or at the first maker that lists the model."""
        sellers: tuple[str, ...] = ()
        if provider is not None:
            sellers = (provider,)
        elif host is None:
            sellers = MAKERS
        for seller in sellers:
            hit = self._lookup.find(seller, names, host)
            if hit is not None:
                return hit
        if provider in PASS_THROUGH:
            passed = prefixed(names)
            if passed is not None:
                return self._lookup.find(
                    passed[0],
                    passed[1],
                    None,
                )
        return None

    def _renamed(
        self, provider: str | None, names: Sequence[str]
    ) -> tuple[str | None, dict[str, bool]]:
        """Return the names with the user's aliases applied, and whether each is one.

        An alias may name another provider.
        """
        spelled: dict[str, bool] = {}
        for name in names:
            seller, known_as = self._overrides.alias(provider, name)
            if seller != provider:
                return seller, {known_as.lower(): True}
            spelled[known_as.lower()] = known_as != name
        return provider, spelled

    def _surcharge(self, provider: str, found: Found, requested: str) -> dict[str, Price]:
        """Return prices beside the entry's own.

        They are fees, and media that only a lower source prices.
        """
        prices: dict[str, Price] = dict(self._corrections.fees.get(provider, {}))
        for entry in self._lookup.lower_entries(found):
            first = prices_at(entry.periods, 0, None)
            filled = {unit: price for unit, price in first.items() if _FILLED.fullmatch(unit)}
            prices = {**prices, **filled}
        if any("request" in period for period in found.entry.periods):
            # Its fee pays for the searches, unless it lists a price for those itself.
            prices = {
                unit: price
                for unit, price in prices.items()
                if unit.partition(":")[0] != "web_search"
            }
        if provider == "azure.ai.openai" and _ROUTER.fullmatch(requested.lower()):
            prices["model_router_token"] = _ROUTER_PRICE
        return prices

    def _unknown(self, provider: str | None, model: str, assumed: bool) -> Unpriced:
        chain = CHAINS.get(
            provider or "",
            (provider or "",),
        )
        reasons = (self._corrections.reason(each, model.lower()) for each in chain)
        known = next(
            (why for why in reasons if why),
            None,
        )
        where = f" at {provider}" if provider else "; its provider is not known either"
        if known is not None:
            reason = (
                f"{model!r} has no price{where}: {known}; "
                "declare it under [[free]] or give it one under [[price]]"
            )
        elif provider in _OWN_MACHINES:
            reason = (
                f"{provider} runs on your own machines: declare {model!r} under [[free]], "
                "or its $/GPU-hour under [[self_hosted]]"
            )
        else:
            reason = (
                f"no price for {model!r}{where}; "
                "add it to your prices file ($CREWMETER_PRICES) or map it under [aliases]"
            )
        flags = ("provider_assumed",) if assumed else ()
        return Unpriced("unknown_model", reason, provider, model, flags)


def _lacks_variant(provider: str | None, requested: str, found: Found) -> bool:
    """Return whether the price is that of another variant (``:nitro``, ``:online``).

    OpenRouter's variants choose among sellers with prices of their own, or add a search.
    """
    return provider == "openrouter" and ":" in requested and ":" not in found.name


def _no_model(names: Sequence[str], declared: str | None) -> Unpriced | None:
    """Return why the names of a call are none, or None."""
    provider = canonical_provider(declared)
    if not names:
        return Unpriced("unknown_model", "the call names no model", provider)
    for name in names:
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            reason = f"{name[:80]!r} is no model name"
            return Unpriced("unknown_model", reason, provider, name, ("model_name_invalid",))
    return None


def _flags(
    found: Found | None, spelled: Mapping[str, bool], *, assumed: bool, uplift: Decimal | None
) -> tuple[str, ...]:
    """Return what was assumed to find the rates: rules, provider, region and source."""
    rules = found.rules if found else ()
    flags = [f"matched_{rule}" for rule in rules]
    if spelled.get(found.name) if found else any(spelled.values()):
        flags.insert(0, "matched_alias")
    if uplift is not None and "regional_uplift" not in rules:
        flags.append("regional_uplift")
    if assumed:
        flags.append("provider_assumed")
    if found and found.region == "?":
        flags.append("region_price_missing")
    if found and found.entry.source == "litellm":
        flags.append("litellm_price")
    return tuple(flags)
