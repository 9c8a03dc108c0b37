"""Counts on their way to a `TokenUsage`.

They are read one by one, then checked against each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from crewmeter import semconv
from crewmeter.usage.token_usage import MISSING, TokenUsage, Unit

__all__ = ["LARGEST_COUNT", "BadCount", "Raw", "UsageDraft", "count", "items", "part"]

Raw = Mapping[str, object]
"""A usage object as a provider, an SDK or a CrewAI event wrote it."""
LARGEST_COUNT = 2**40
"""Tokens in one request beyond this are a broken counter, not usage."""
_READS_ONLY = frozenset({semconv.EMBEDDINGS, semconv.RERANK})


class BadCount(ValueError):
    """A count that is negative, absurd, or no whole number. ``args[0]`` names the key."""


def count(raw: Raw, *keys: str) -> int | None:
    """Return the first of ``keys`` that is above zero.

    Where none is, it returns zero if any was there, and None otherwise.

    Raises:
        BadCount: Where the value is negative, absurd or no whole number.
    """
    found: int | None = None
    for key in keys:
        value = raw.get(key)
        if value is None:
            continue
        if type(value) is float and value.is_integer():
            value = int(value)  # Cohere sends its billed units as 5.0
        if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
            raise BadCount(key)
        if value:
            return value
        found = 0
    return found


def part(raw: Raw, *keys: str) -> Raw:
    """Return the first nested mapping under one of ``keys``, else {}.

    An object with fields counts as one.
    """
    for key in keys:
        value = raw.get(key)
        if type(value) is dict or isinstance(value, Mapping):  # the first is quicker, and the rule
            return value
        if value is not None and hasattr(value, "__dict__"):
            return vars(value)
    return {}


def items(raw: Raw, *keys: str) -> list[Raw]:
    """Return the mappings of the first list under one of ``keys``."""
    for key in keys:
        value = raw.get(key)
        if isinstance(value, list | tuple):
            return [item for item in value if isinstance(item, Mapping)]
    return []


class UsageDraft:
    """Counts as read, with totals (input with cached tokens, output with reasoning).

    The fields are those of `TokenUsage`. They are the class's own until one is set, since a draft
    is made for every answer and most of its counts stay zero.
    """

    cache_read = 0
    cache_write_5m = 0
    cache_write_1h = 0
    reasoning = 0
    input_audio = 0
    output_audio = 0
    input_image = 0
    output_image = 0
    web_searches = 0
    search_units = 0
    input_video = 0
    output_video = 0
    cache_read_audio = 0
    cache_read_image = 0

    def __init__(self, input: int | None = None, output: int | None = None) -> None:
        self.input = input
        self.output = output
        self.units: dict[str, int] = {}
        self.flags: list[str] = []

    def take(self, raw: Raw, fields: Mapping[str, str]) -> None:
        """Set counts from keys of ``raw``: key → the count's name here."""
        for key in raw:
            if key in fields:
                number = count(raw, key)
                if number:
                    setattr(self, fields[key], number)

    def add_unit(self, name: str, number: int | None) -> None:
        """Count ``number`` more of the unit ``name``.

        None and zero change nothing.
        """
        if number:
            self.units[name] = self.units.get(name, 0) + number

    def add_cache_writes(
        self, total: int | None, five: int | None, hour: int | None, *, one_kind: bool = False
    ) -> int:
        """Book cache-write tokens by their time to live, and return how many they are.

        ``one_kind`` is true where the provider has a single sort of cache write. Elsewhere tokens
        without a time to live count as five-minute writes, flagged ``cache_ttl_assumed``.
        """
        split = (five or 0) + (hour or 0)
        if total and split > total:
            self.flags.append("counts_disagree")
        total = max(total or 0, split)
        rest = total - split
        if rest and not one_kind:
            self.flags.append("cache_ttl_assumed")
        self.cache_write_5m = (five or 0) + rest
        self.cache_write_1h = hour or 0
        return total

    def finish(self, operation: str | None) -> TokenUsage:
        """Return the usage, missing or invalid where its parts do not fit the whole."""
        if self.output is None and operation in _READS_ONLY:
            self.output = 0
        total_in = self.input
        total_out = self.output
        if self.units and total_in is None and total_out is None:
            return self._value()
        if total_in is None or total_out is None:
            return self._one_sided()
        if not self._fits(total_in, total_out):
            flags = (*self.flags, "parts_exceed_whole")
            return TokenUsage(status="invalid", flags=flags)
        fees = self.search_units or self.web_searches or self.units
        if not (total_in or total_out or fees):
            return TokenUsage(status="missing", flags=("zero_usage",))
        if self.reasoning > total_out:
            self.flags.append("reasoning_exceeds_output")
            self.reasoning = total_out
        return self._value()

    def _one_sided(self) -> TokenUsage:
        if not (self.input or self.output):
            return MISSING
        return TokenUsage(status="missing", flags=("split_not_reported",))

    def _fits(self, total_in: int, total_out: int) -> bool:
        cached = self.cache_read + self.cache_write_5m + self.cache_write_1h
        media_in = self.input_audio + self.input_image + self.input_video
        media_out = self.output_audio + self.output_image + self.output_video
        cached_media = self.cache_read_audio + self.cache_read_image
        return (
            cached <= total_in
            and media_in <= total_in
            and media_out <= total_out
            and cached_media <= self.cache_read
        )

    def _value(self) -> TokenUsage:
        units: tuple[Unit, ...] = tuple(sorted(self.units.items())) if self.units else ()
        return TokenUsage(
            self.input,
            self.output,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.reasoning,
            self.input_audio,
            self.output_audio,
            self.input_image,
            self.output_image,
            self.web_searches,
            self.search_units,
            self.input_video,
            self.output_video,
            self.cache_read_audio,
            self.cache_read_image,
            units,
            "reported",
            tuple(self.flags),
        )
