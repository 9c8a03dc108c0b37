"""The catalogue entry of a model: at a seller, in a region, over several sources."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, Protocol

from crewmeter_cost.pricing import model_matching
from crewmeter_cost.pricing.regions import bedrock_region, geographies, is_regional
from crewmeter_cost.pricing.sellers import CHAINS, unprefixed
from crewmeter_cost.pricing.source_comparison import (
    disagreement,
    same_standard,
    with_long_context,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crewmeter_cost.pricing.catalogue.file_format import Entry
    from crewmeter_cost.pricing.charge_result import Bound

__all__ = ["EntryLookup", "Found", "Source"]

_LISTED_REGIONS = frozenset({"us-east-1", "us-east-2", "us-west-2"})
"""Bedrock regions whose prices are the ones listed without a region."""
_REGIONS = (
    "ap-northeast-1",
    "ap-south-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-south-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-west-1",
)
"""Commercial Bedrock regions for which LiteLLM's catalogue has prices."""
_PARTITIONS = ("us-gov-", "cn-")
_GEOGRAPHIC = Decimal("1.1")
"""Bedrock bills geographic profiles (``us.``, ``eu.`` …) 10 % above ``global.`` ones."""
_FEES = frozenset({"web_search", "storage_search", "search_response"})
"""Fees of a maker that its resellers do not bill: Azure searches with Bing, at Bing's price."""
_ELSEWHERE = frozenset({"geo_profile", "regional_uplift", "region_path"})
"""Rules that lead to the price of another geography than the one that the name has."""


class Source(Protocol):
    """A catalogue as resolution sees it."""

    def has(self, provider: str, name: str, open_only: bool = False, /) -> bool:
        """Return whether a provider lists a name."""

    def entry(self, provider: str, name: str, /) -> Entry | None:
        """Return the model under a name."""

    def fallback(self, provider: str, /) -> tuple[str, ...]:
        """Return the providers whose models this one resells at their prices."""


class Found(NamedTuple):
    """A catalogue entry, and how a call's names led to it."""

    seller: str
    entry: Entry
    name: str
    rules: tuple[str, ...]
    source: Source
    region: str = ""
    """The region whose price it is, or "?" where the catalogue has prices of other regions."""


class EntryLookup:
    """Finds models in several catalogues, better ones first."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = tuple(sources)

    def find(self, provider: str, names: Sequence[str], host: str | None) -> Found | None:
        """Return the entry of the first name that any source lists, better sources first."""
        chain = CHAINS.get(provider, (provider,))
        region = bedrock_region(host) if provider == "aws.bedrock" else None
        if region is not None:
            regional = self._in_region(provider, names, region)
            if regional is not None:
                return regional
        for source in self._sources:
            sellers = (*chain, *(other for each in chain for other in source.fallback(each)))
            for name in names:
                for seller in sellers:
                    hit = _listed(source, seller, name, chain)
                    if hit is None:
                        continue
                    entry, rules = hit
                    if seller not in chain:
                        own = self._listed_otherwise(chain, name, entry)
                        if own is not None:
                            return Found(provider, *own)
                        entry = _resold(entry)
                    nearer = self._listed_nearer(chain, name, rules, entry)
                    if nearer is not None:
                        return Found(provider, *nearer)
                    elsewhere = region is not None and self._differs(name, region, entry)
                    return Found(
                        provider,
                        entry,
                        name,
                        rules,
                        source,
                        "?" if elsewhere else "",
                    )
        return None

    def _listed_nearer(
        self, chain: Sequence[str], name: str, rules: Sequence[str], taken: Entry
    ) -> tuple[Entry, str, tuple[str, ...], Source] | None:
        """Return a listing of the very geography of a name, where its price is another.

        ``eu.amazon.nova-lite`` costs more than the ``amazon.nova-lite`` that stands for it
        in a source without European profiles.
        """
        if not _ELSEWHERE.intersection(rules):
            return None
        factor = _GEOGRAPHIC if "regional_uplift" in rules else Decimal(1)
        for source in self._sources:
            for seller in chain:
                hit = _listed(source, seller, name, chain)
                if hit is None or _ELSEWHERE.intersection(hit[1]):
                    continue
                if not same_standard(taken, hit[0], factor):
                    return hit[0], name, hit[1], source
        return None

    def _listed_otherwise(
        self, chain: Sequence[str], name: str, resold: Entry
    ) -> tuple[Entry, str, tuple[str, ...], Source] | None:
        """Return a seller's own listing of a model, where its price is not the maker's."""
        for source in self._sources:
            for seller in chain:
                hit = _listed(source, seller, name, chain)
                if hit is not None and not same_standard(resold, hit[0]):
                    return hit[0], name, hit[1], source
        return None

    def _in_region(self, provider: str, names: Sequence[str], region: str) -> Found | None:
        """Return the entry of a Bedrock region's own price list."""
        for source in self._sources:
            for name in names:
                for spelled, rules, _ in model_matching.spellings(provider, name):
                    if {"geo_profile", "regional_uplift"} & set(rules):
                        # A profile over several regions has a price of its own.
                        continue
                    entry = source.entry(
                        provider,
                        f"{region}/{spelled}",
                    )
                    if entry is not None:
                        used = tuple(dict.fromkeys(rules))
                        return Found(provider, entry, name, used, source, region)
        return None

    def _differs(self, name: str, region: str, entry: Entry) -> bool:
        """Return whether a model has prices by region, and none for this region."""
        if region in _LISTED_REGIONS:
            return False
        if region.startswith(_PARTITIONS):
            return True  # GovCloud and China have price lists of their own
        bare = [
            spelled
            for spelled, rules, _ in model_matching.spellings("aws.bedrock", name)
            if not {"geo_profile", "regional_uplift"} & set(rules)
        ]
        if any(self._lists(f"{other}/{spelled}") for other in _REGIONS for spelled in bare):
            return True
        # A profile of the geography at another price: the region in it has that one, or its own.
        profiles = [f"{geography}.{each}" for geography in geographies(region) for each in bare]
        listed = [
            source.entry("aws.bedrock", profile) for source in self._sources for profile in profiles
        ]
        return any(each is not None and not same_standard(entry, each) for each in listed)

    def _lists(self, name: str) -> bool:
        return any(source.entry("aws.bedrock", name) is not None for source in self._sources)

    def disagreement(self, found: Found) -> Bound:
        """Return how the price may be off where another source lists another one."""
        if found.entry.source == "litellm" or found.region:
            return ""
        chain = CHAINS.get(found.seller, (found.seller,))
        if found.seller == "gcp.gemini" and found.name.startswith("gemini"):
            chain = chain[:1]  # Vertex AI sells the same models at prices of its own
        for source in self._sources:
            if source is found.source or found.seller == "openrouter":
                continue
            for seller in chain:
                other = source.entry(seller, found.name)
                if other is not None:
                    return disagreement(found.entry, other)
        return ""

    def with_lower_tiers(self, found: Found) -> Entry:
        """Return the entry with the service tiers and long requests of lower sources."""
        entry = found.entry
        known = {period.get("tier") for period in entry.periods}
        for lower in self.lower_entries(found):
            added = [period for period in lower.periods if period.get("tier") not in known]
            agrees = same_standard(entry, lower)
            entry = with_long_context(entry, lower)
            if added and agrees:
                entry = replace(
                    entry,
                    periods=(*entry.periods, *added),
                )
        return entry

    def lower_entries(self, found: Found) -> Iterator[Entry]:
        """Yield what the other sources list of the same model at the same seller."""
        if found.seller == "openrouter":
            # It resells many makers' models and bills no fees of theirs.
            return
        chain = CHAINS.get(
            found.seller,
            (found.seller,),
        )
        for source in self._sources:
            if source is found.source:
                continue
            entries = (
                _listed(
                    source,
                    seller,
                    found.name,
                    chain,
                )
                for seller in chain
            )
            hit = next(
                (entry for entry in entries if entry is not None),
                None,
            )
            if hit is not None:
                yield hit[0]

    def uplift(self, provider: str, found: Found, host: str | None) -> Decimal | None:
        """Return the factor for a call that was handled within a region.

        Bedrock's profile or the host tells, for models that have one.
        """
        if "regional_uplift" in found.rules:
            return _GEOGRAPHIC
        if not is_regional(provider, host):
            return None
        # LiteLLM's, the lower source, is the one that lists these factors.
        for source in reversed(self._sources):
            match = model_matching.find(
                provider,
                found.name,
                has=source.has,
            )
            entry = source.entry(provider, match.name) if match else None
            if entry is not None and "uplift" in entry.periods[0]:
                return Decimal(str(entry.periods[0]["uplift"]))
        return None


def _listed(
    source: Source, seller: str, name: str, chain: Sequence[str]
) -> tuple[Entry, tuple[str, ...]] | None:
    """Return a source's entry for a name, and the rules that led to it."""
    for spelled in unprefixed(name, chain):
        match = model_matching.find(
            seller,
            spelled,
            has=source.has,
        )
        entry = source.entry(seller, match.name) if match else None
        if match and entry:
            return entry, match.rules
    return None


def _resold(entry: Entry) -> Entry:
    """Return another provider's model as this one sells it.

    At the standard price only: tiers and fees are each provider's own.
    """
    standard = tuple(
        {unit: price for unit, price in period.items() if unit not in _FEES}
        for period in entry.periods
        if "tier" not in period
    )
    return replace(entry, periods=standard)
