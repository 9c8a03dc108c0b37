"""From usage and one band of rates to the lines of a charge, with what had to be assumed. Pure; every guard is named here.

The common case is written out in `charge.charge`; this is the whole truth, for audio, images, searches, missing rates and the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_cost.pricing.charge_result import Item
from crewmeter_cost.pricing.unit_prices import GPU_HOUR, half_even

if TYPE_CHECKING:
    from fractions import Fraction

    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.pricing.unit_prices import Band

__all__ = ["Lines", "measure"]

_READS_ONLY = ("embeddings", "rerank")
_NS_PER_HOUR = 3_600_000_000_000
_UPPER, _PARTIAL = "upper_bound", "partial"


class Lines:
    """The lines so far, and what they leave open: `flags` say what was assumed, `bounds` in which direction the sum may be off."""

    __slots__ = ("band", "bounds", "flags", "items")

    def __init__(self, band: Band) -> None:
        self.band = band
        self.items: list[Item] = []
        self.flags: list[str] = []
        self.bounds: set[str] = set()

    def add(self, item: str, quantity: int, *units: str) -> str | None:
        """Charge `quantity` at the first of `units` that has a rate; returns that unit, or None where none has."""
        for unit in units:
            rate = self.band.rates.get(unit)
            if rate is not None:
                if quantity:
                    cost = half_even(quantity * rate.numerator, rate.denominator)
                    self.items.append(Item(item, quantity, self.band.usd[unit], cost))
                return unit
        return None

    def note(self, flag: str, bound: str) -> None:
        """Something was assumed: by this name, and the sum is a bound from above or below."""
        if flag not in self.flags:
            self.flags.append(flag)
        self.bounds.add(bound)

    @property
    def bound(self) -> str:
        """``partial`` outweighs ``upper_bound``: a sum that may be too low must not pass for a ceiling."""
        return _PARTIAL if _PARTIAL in self.bounds else _UPPER if _UPPER in self.bounds else ""


def measure(usage: TokenUsage, band: Band, *, operation: str, duration_ns: int | None) -> Lines:
    """Every line of a charge. ``usage`` must be consistent (see `charge.contradiction`)."""
    lines = Lines(band)
    if GPU_HOUR in band.rates:
        _gpu_time(lines, duration_ns)
    else:
        _input(lines, usage, operation)
        _output(lines, usage, operation)
    _fees(lines, usage, operation)
    return lines


def _gpu_time(lines: Lines, duration_ns: int | None) -> None:
    """Self-hosted: what the machine cost while it answered. Shown per millisecond, computed per nanosecond."""
    if duration_ns is None:
        lines.note("duration_not_known", _PARTIAL)
        return
    duration_ns = max(0, duration_ns)
    rate = lines.band.rates[GPU_HOUR]
    cost = half_even(duration_ns * rate.numerator, rate.denominator * _NS_PER_HOUR)
    lines.items.append(
        Item("gpu_millisecond", half_even(duration_ns, 1_000_000), _per_millisecond(rate), cost)
    )


def _per_millisecond(rate: Fraction) -> str:
    """USD per millisecond with 18 decimals; shown only, the cost is computed exactly."""
    scaled = half_even(rate.numerator * 10**6, rate.denominator * 3_600_000)
    return f"{scaled // 10**18}.{scaled % 10**18:018d}".rstrip("0").rstrip(".") or "0"


def _input(lines: Lines, usage: TokenUsage, operation: str) -> None:
    if usage.input is None:
        if not (operation == "rerank" or usage.search_units):
            lines.note("input_not_reported", _PARTIAL)
        return
    rates = lines.band.rates
    rest = usage.input - usage.cache_read - usage.cache_write_5m - usage.cache_write_1h
    read, write, write_1h, audio_read = (
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        0,
    )
    audio = usage.input_audio if "input_audio" in rates else 0
    image = usage.input_image if "input_image" in rates else 0
    if usage.input_audio and not audio:
        lines.note("audio_rate_missing", _PARTIAL)  # billed as text, which is cheaper
    if (audio or image) and read:
        lines.note(
            "cached_modality_not_reported", _UPPER
        )  # none of the cached tokens is taken for audio or image unless it must be
    overlap = max(0, audio + image - rest)
    if overlap and audio:
        audio_read = min(overlap, audio, read)
        audio, read = min(audio - audio_read, rest), read - audio_read
    image = min(image, rest - audio)
    text = rest - audio - image
    if lines.add("input", text, "input") is None and text and operation != "rerank":
        lines.note("input_rate_missing", _PARTIAL)
    _cached(lines, read, write, write_1h)
    lines.add("input_audio", audio, "input_audio")
    lines.add("cache_audio_read", audio_read, "cache_audio_read", "input_audio")
    lines.add("input_image", image, "input_image")


def _cached(lines: Lines, read: int, write: int, write_1h: int) -> None:
    """Cached tokens, each at its own rate; where that is missing at the next lower one, and said so."""
    if read and lines.add("cache_read", read, "cache_read", "input") != "cache_read":
        lines.note("cache_read_rate_missing", _UPPER)
    if write and lines.add("cache_write_5m", write, "cache_write", "input") != "cache_write":
        lines.note("cache_write_rate_missing", _PARTIAL)
    if (
        write_1h
        and lines.add("cache_write_1h", write_1h, "cache_write_1h", "cache_write", "input")
        != "cache_write_1h"
    ):
        lines.note("cache_write_1h_rate_missing", _PARTIAL)


def _output(lines: Lines, usage: TokenUsage, operation: str) -> None:
    if operation in _READS_ONLY:
        return
    if usage.output is None:
        lines.note("output_not_reported", _PARTIAL)
        return
    rates = lines.band.rates
    audio = usage.output_audio if "output_audio" in rates else 0
    image = usage.output_image if "output_image" in rates else 0
    reasoning = (
        min(usage.reasoning, usage.output - audio - image) if "output_reasoning" in rates else 0
    )
    if usage.output_audio and not audio:
        lines.note("audio_rate_missing", _PARTIAL)
    if usage.output_image and not image:
        lines.note("image_rate_missing", _PARTIAL)
    text = usage.output - audio - image - reasoning
    if lines.add("output", text, "output") is None and text:
        lines.note("output_rate_missing", _PARTIAL)
    lines.add("output_reasoning", reasoning, "output_reasoning")
    lines.add("output_audio", audio, "output_audio")
    lines.add("output_image", image, "output_image")


def _fees(lines: Lines, usage: TokenUsage, operation: str) -> None:
    lines.add("request", 1, "request")
    if usage.web_searches and lines.add("web_search", usage.web_searches, "web_search") is None:
        lines.note("web_search_rate_missing", _PARTIAL)
    units = usage.search_units
    if operation == "rerank" and not units and "search_unit" in lines.band.rates:
        units = 1
        lines.note(
            "search_units_assumed", _PARTIAL
        )  # one query is the least a rerank request is billed for
    if units and lines.add("search_unit", units, "search_unit") is None:
        lines.note("search_unit_rate_missing", _PARTIAL)
