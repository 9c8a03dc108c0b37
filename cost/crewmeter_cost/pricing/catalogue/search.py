"""The price book as a person looks into it: who lists a model, and how."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from crewmeter_cost.pricing import model_matching
from crewmeter_cost.pricing.catalogue import catalogue_files
from crewmeter_cost.pricing.catalogue.corrections import Corrected, read_corrections
from crewmeter_cost.pricing.effective_dates import prices_at
from crewmeter_cost.pricing.unit_prices import is_nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crewmeter_cost.pricing.catalogue.file_format import Catalogue, Entry
    from crewmeter_cost.pricing.unit_prices import Price

__all__ = ["Disagreement", "Library", "Listing"]

_COMPARED = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "output_audio",
)


@dataclass(frozen=True, slots=True)
class Listing:
    """A model as one source lists it, and the rules that led to it."""

    entry: Entry
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One unit of one model for which genai-prices and LiteLLM give different prices."""

    provider: str
    model: str
    unit: str
    genai: Price
    litellm: Price


class Library:
    """The catalogues that a book prices with, without a user's overrides."""

    def __init__(self) -> None:
        self.genai: Catalogue = catalogue_files.open_genai()
        self.litellm: Catalogue = catalogue_files.open_litellm()
        self._corrected = Corrected(self.genai, read_corrections())

    def newest_price(self, today: date) -> date | None:
        """Return the day of the newest price in force.

        It tells the book's age. Later ones are announced already.
        """
        begun = (
            date.fromisoformat(str(period["from"]))
            for provider in self.genai.providers
            for entry in self.genai.entries(provider)
            for period in entry.periods
            if "from" in period
        )
        return max((day for day in begun if day <= today), default=None)

    def listings(self, name: str, provider: str | None = None) -> list[Listing]:
        """Every provider that lists a model, the better source first."""
        found = []
        for source, catalogue in ((self._corrected, self.genai), (self.litellm, self.litellm)):
            for seller in sorted(catalogue.providers):
                if provider is None or seller == provider:
                    match = model_matching.find(
                        seller,
                        name.lower(),
                        has=source.has,
                    )
                    entry = source.entry(seller, match.name) if match else None
                    if match and entry and (provider or not match.rules):
                        found.append(Listing(entry, match.rules))
        return found

    def disagreements(self, at_ns: int) -> Iterator[Disagreement]:
        """Yield where both sources price a unit of a model differently.

        Prices are those of a moment, for the standard tier.
        """
        for provider in self.litellm.providers:
            for listed in self.litellm.entries(provider):
                match = model_matching.find(
                    provider,
                    listed.model,
                    has=self.genai.has,
                )
                entry = (
                    self.genai.entry(provider, match.name) if match and not match.rules else None
                )
                if entry is not None:
                    ours = prices_at(entry.periods, at_ns, None)
                    theirs = prices_at(listed.periods, at_ns, None)
                    for unit in _COMPARED:
                        if (
                            unit in ours
                            and unit in theirs
                            and ours[unit] != theirs[unit]
                            and not is_nothing(theirs[unit])
                        ):
                            yield Disagreement(
                                provider, listed.model, unit, ours[unit], theirs[unit]
                            )
