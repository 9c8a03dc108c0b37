"""Corrections to genai-prices: names and rates that it lacks.

Each has its source and the day it was checked (`data/corrections.toml`).

A correction never changes a rate that genai-prices has: it names a model that clients spell
otherwise, fills in a missing rate of a listed one, or prices one that is not listed.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crewmeter_cost.pricing import model_matching
from crewmeter_cost.pricing.catalogue.file_format import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.pricing.catalogue.file_format import Catalogue

__all__ = ["PATH", "Corrected", "Corrections", "read_corrections"]

PATH = Path(__file__).with_name("data") / "corrections.toml"
_ABOUT = frozenset({"provider", "models", "why", "source", "checked"})


@dataclass(frozen=True, slots=True)
class Corrections:
    """The file's content, by provider and name."""

    aliases: Mapping[tuple[str, str], str] = field(default_factory=dict)
    prices: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """Also ``from``: the day a price of a model that no catalogue lists began."""
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Models known to have no price → why."""
    fees: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Provider → what it charges besides tokens, whatever the model."""

    def reason(self, provider: str, name: str) -> str | None:
        """Why a model has no price, where that is known."""
        found = model_matching.find(
            provider, name, has=lambda seller, spelled, _: (seller, spelled) in self.reasons
        )
        if found:
            return self.reasons[provider, found.name]
        return None


def read_corrections(path: Path = PATH) -> Corrections:
    """Read the corrections.

    Our own file, so nothing in it is checked here: `tests/cost/pricing/test_catalogue.py` does.
    """
    data = tomllib.loads(
        path.read_text(encoding="utf-8"),
        parse_float=Decimal,
    )
    aliases = {
        (entry["provider"], name): entry["of"]
        for entry in data.get("alias", ())
        for name in entry["names"]
    }
    prices = {
        (entry["provider"], model): {
            key: value for key, value in entry.items() if key not in _ABOUT
        }
        for entry in data.get("price", ())
        for model in entry["models"]
    }
    reasons = {
        (entry["provider"], model): entry["reason"]
        for entry in data.get("unpriced", ())
        for model in entry["models"]
    }
    fees = {
        entry["provider"]: {key: value for key, value in entry.items() if key not in _ABOUT}
        for entry in data.get("fee", ())
    }
    return Corrections(aliases, prices, reasons, fees)


class Corrected:
    """A catalogue with corrections laid over it, looked into like a catalogue."""

    def __init__(self, catalogue: Catalogue, corrections: Corrections) -> None:
        self._catalogue = catalogue
        self._corrections = corrections
        self.fallback = catalogue.fallback

    def has(self, provider: str, name: str, open_only: bool = False) -> bool:
        """Whether the name is listed, an alias of a listed one, or priced by a correction."""
        key = (provider, name)
        return self._catalogue.has(provider, name, open_only) or (
            not open_only and (key in self._corrections.aliases or key in self._corrections.prices)
        )

    def entry(self, provider: str, name: str) -> Entry | None:
        """Return the model under this name, with rates the catalogue lacks filled in."""
        listed = self._catalogue.entry(
            provider, self._corrections.aliases.get((provider, name), name)
        )
        prices = self._corrections.prices
        own = prices.get((provider, name))
        if own is not None and listed is not None and listed.model.lower() != name:
            # The catalogue takes this name for another model, whose rates are not all the same.
            laid_over = tuple({**period, **own} for period in listed.periods)
            return replace(
                listed,
                model=name,
                periods=laid_over,
                source="correction",
            )
        fill = prices.get((provider, listed.model if listed else name))
        if fill is None:
            return listed
        if listed is None:
            return Entry(provider, name, (fill,), "correction")
        periods = tuple(
            period if "tier" in period else {**fill, **period} for period in listed.periods
        )
        return replace(listed, periods=periods, source="correction")
