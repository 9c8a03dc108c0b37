"""A price catalogue as committed text, one model a line, read lazily.

    {"book": "genai-prices", "version": "0.2.3", …}
    = openai<TAB>{"fallback": […]}
    gpt-4o<TAB>gpt-4o gpt-4o-2024-08-06<TAB>open names<TAB>[{"input": "2.5", …}, …]

These are the header, a provider by its convention name, and a model with its names, open names and
periods. `names` match exactly (or by the rules of `matching`), `open names` are those the source
itself matches as a prefix or part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from crewmeter_cost.pricing.effective_dates import Period

__all__ = ["FORMAT", "Catalogue", "Entry", "Listed", "render"]

FORMAT = 1
_HEAD = b"\n= "
"""Starts a provider's part; no model's name has a space."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of one provider, with every price it has had."""

    provider: str
    model: str
    periods: tuple[Period, ...]
    source: str = ""
    """``genai-prices`` | ``litellm`` | ``correction``."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as a compiler lists it, to be rendered as one line."""

    model: str
    names: Sequence[str]
    open_names: Sequence[str]
    periods: Sequence[Period]


@dataclass(slots=True)
class _ProviderSection:
    """One provider's part of the file: where each name's line starts."""

    fallback: tuple[str, ...] = ()
    names: dict[str, int] = field(default_factory=dict)
    open_names: set[str] = field(default_factory=set)


class Catalogue:
    """A catalogue file.

    The text stays as bytes. A provider is indexed and a model parsed when first needed.
    """

    def __init__(self, data: bytes, origin: str) -> None:
        self._data = data
        self.origin = origin
        """Path or name of the file, for messages."""
        self._sections: dict[str, _ProviderSection] = {}
        self.header: Mapping[str, object] = self._read_header()

    @classmethod
    def open(cls, path: Path) -> Catalogue:
        """Read a catalogue file.

        Raises `CrewMeterError` where it is missing or no catalogue.
        """
        try:
            return cls(path.read_bytes(), str(path))
        except OSError as error:
            raise CrewMeterError(
                f"price catalogue {path} can't be read: {error.strerror}",
                hint="reinstall crewmeter, or delete that file",
            ) from error

    def _read_header(self) -> Mapping[str, object]:
        line = self._data.partition(b"\n")[0]
        try:
            header = json.loads(line)
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise CrewMeterError(
                f"{self.origin} is no price catalogue of format {FORMAT}",
                hint="make one with `crewmeter prices update`, or delete the file",
            )
        return header

    @property
    def version(self) -> str:
        """The version of the source it was compiled from."""
        return str(self.header.get("version", ""))

    @cached_property
    def _offsets(self) -> dict[str, int]:
        """Provider → where its lines start."""
        found: dict[str, int] = {}
        at = self._data.find(_HEAD)
        while at >= 0:
            end = self._data.index(b"\t", at)
            found[self._data[at + len(_HEAD) : end].decode()] = at + 1
            at = self._data.find(_HEAD, end)
        return found

    @property
    def providers(self) -> tuple[str, ...]:
        """Every provider in the file."""
        return tuple(self._offsets)

    def _section(self, provider: str) -> _ProviderSection | None:
        section = self._sections.get(provider)
        if section is None and provider in self._offsets:
            section = self._sections[provider] = self._index(self._offsets[provider])
        return section

    def _index(self, start: int) -> _ProviderSection:
        data = self._data
        end_of_head = data.index(b"\n", start)
        head_start = data.index(b"\t", start)
        head = json.loads(data[head_start:end_of_head])
        section = _ProviderSection(tuple(head.get("fallback", ())))
        stop = data.find(_HEAD, end_of_head)
        if stop < 0:
            stop = len(data)
        at = end_of_head + 1
        lines = data[at:stop].decode()
        for line in lines.split("\n"):
            if line:
                _, names, open_names, _ = line.split("\t", 3)
                for name in names.split():
                    section.names.setdefault(name, at)
                for name in open_names.split():
                    section.names.setdefault(name, at)
                    section.open_names.add(name)
            at += len(line.encode()) + 1
        return section

    def fallback(self, provider: str) -> tuple[str, ...]:
        """Return providers whose models this one resells (Azure sells OpenAI's)."""
        section = self._section(provider)
        return section.fallback if section else ()

    def has(self, provider: str, name: str, open_only: bool = False) -> bool:
        """Return whether a provider lists this very name.

        With `open_only`, return whether it matches it openly.
        """
        section = self._section(provider)
        return section is not None and name in (section.open_names if open_only else section.names)

    def entry(self, provider: str, name: str) -> Entry | None:
        """Return the model a provider lists under this very name."""
        section = self._section(provider)
        at = section.names.get(name) if section else None
        if at is None:
            return None
        end = self._data.find(b"\n", at)
        line = self._data[at : end if end >= 0 else len(self._data)].decode()
        model, _, _, periods = line.split("\t", 3)
        return Entry(
            provider,
            model,
            tuple(json.loads(periods)),
            str(self.header["book"]),
        )

    def entries(self, provider: str) -> Iterator[Entry]:
        """Every model of a provider, in the file's order."""
        section = self._section(provider)
        for at in dict.fromkeys(sorted(section.names.values())) if section else ():
            line = self._data[at : self._data.find(b"\n", at)].decode()
            model, _, _, periods = line.split("\t", 3)
            yield Entry(
                provider,
                model,
                tuple(json.loads(periods)),
                str(self.header["book"]),
            )


def render(
    header: Mapping[str, object], providers: Iterable[tuple[str, Sequence[str], Sequence[Listed]]]
) -> str:
    """Return a catalogue file's text from (provider, fallback providers, models)."""
    lines = [json.dumps({"format": FORMAT, **header})]
    for provider, fallback, models in providers:
        lines.append(
            f"= {provider}\t{json.dumps({'fallback': list(fallback)} if fallback else {})}"
        )
        for listed in models:
            periods = json.dumps(
                listed.periods,
                separators=(",", ":"),
            )
            lines.append(
                "\t".join(
                    (listed.model, " ".join(listed.names), " ".join(listed.open_names), periods)
                )
            )
    return "\n".join(lines) + "\n"
