"""The lines of a charge, from a usage and one band of rates. Pure.

`charge` writes out the common case for speed. This module has every case: audio, images, searches,
fees and missing rates. Each assumption has a flag, and a direction in which the sum may be off.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from crewmeter_cost.pricing.charge_result import Bound, Item
from crewmeter_cost.pricing.unit_prices import GPU_HOUR, half_even, plain

if TYPE_CHECKING:
    from fractions import Fraction

    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.pricing.unit_prices import Band

__all__ = ["LOWER", "UPPER", "Lines", "lines_of"]

UPPER: Bound = "upper_bound"
LOWER: Bound = "lower_bound"
_READS_ONLY = ("embeddings", "rerank")
_NS_PER_HOUR = 3_600_000_000_000
_MS_PER_HOUR = 3_600_000
_MS_PER_SECOND = 1000
_TIMED: dict[str, tuple[tuple[str, int], ...]] = {
    "input_audio_ms": (
        ("input_audio_hour", _MS_PER_HOUR),
        ("audio_hour", _MS_PER_HOUR),
        ("input_second", _MS_PER_SECOND),
    ),
    "output_audio_ms": (("output_second", _MS_PER_SECOND),),
    "output_video_ms": (("output_second", _MS_PER_SECOND),),
}
"""A unit of time → the prices that may apply to it, and how many of it each is for."""
_MILLISECOND_DIGITS = 18


class Lines:
    """The lines so far, the assumptions behind them, and the direction of each."""

    __slots__ = ("band", "bounds", "flags", "items")

    def __init__(self, band: Band) -> None:
        self.band = band
        self.items: list[Item] = []
        self.flags: list[str] = []
        self.bounds: set[Bound] = set()

    def add(self, item: str, quantity: int, *units: str) -> str | None:
        """Charge a quantity at the first of `units` that has a rate, and return that unit."""
        for unit in units:
            rate = self.band.rates.get(unit)
            if rate is None:
                continue
            if quantity:
                cost = half_even(
                    quantity * rate.numerator,
                    rate.denominator,
                )
                self.items.append(
                    Item(
                        item,
                        quantity,
                        self.band.usd[unit],
                        cost,
                    )
                )
            return unit
        return None

    def note(self, flag: str, bound: Bound) -> None:
        """Record an assumption, and whether the sum is a bound from above or below."""
        if flag not in self.flags:
            self.flags.append(flag)
        self.bounds.add(bound)

    def raise_by(self, factor: Fraction) -> None:
        """Lay a factor on every line so far."""
        raised = []
        for line in self.items:
            cost = half_even(line.cost_pusd * factor.numerator, factor.denominator)
            exact = Decimal(line.rate_usd) * factor.numerator / factor.denominator
            raised.append(Item(line.item, line.quantity, plain(exact), cost))
        self.items = raised

    @property
    def bound(self) -> Bound:
        """The bound of the sum. A sum that may be too low never passes for a ceiling."""
        if LOWER in self.bounds:
            return LOWER
        if UPPER in self.bounds:
            return UPPER
        return ""


def lines_of(
    usage: TokenUsage,
    band: Band,
    *,
    operation: str,
    duration_ns: int | None,
    uplift: Fraction | None = None,
) -> Lines:
    """Return every line of a charge.

    ``usage`` must be consistent (see `charge.contradiction`). ``duration_ns`` prices machines
    that are billed by the hour. ``uplift`` is a factor on tokens, and not on fees.
    """
    lines = Lines(band)
    if GPU_HOUR in band.rates:
        _add_gpu_time(lines, duration_ns)
    elif not _paid_by_characters(usage, band, operation):
        _add_input(lines, usage, operation)
        _add_output(lines, usage, operation)
    if uplift is not None:
        lines.raise_by(uplift)
    _add_fees(lines, usage, operation)
    _add_units(lines, usage, operation)
    return lines


def _paid_by_characters(usage: TokenUsage, band: Band, operation: str) -> bool:
    """Return whether an embedding is billed by its characters.

    Vertex AI's older models are.
    """
    counted = any(name == "character" for name, _ in usage.units)
    return operation == "embeddings" and counted and "character" in band.rates


def _add_gpu_time(lines: Lines, duration_ns: int | None) -> None:
    """Charge a self-hosted model's machine for the time of the answer."""
    if duration_ns is None:
        lines.note("duration_not_known", LOWER)
        return
    duration_ns = max(0, duration_ns)
    rate = lines.band.rates[GPU_HOUR]
    cost = half_even(
        duration_ns * rate.numerator,
        rate.denominator * _NS_PER_HOUR,
    )
    # Displayed per millisecond, computed per nanosecond.
    milliseconds = half_even(duration_ns, 1_000_000)
    usd = _usd_per(rate, _MS_PER_HOUR)
    lines.items.append(Item("gpu_millisecond", milliseconds, usd, cost))


def _usd_per(rate: Fraction, parts: int) -> str:
    """Return a rate (pico-USD) divided by `parts`, as USD for display."""
    scaled = half_even(
        rate.numerator * 10**6,
        rate.denominator * parts,
    )
    whole, decimals = divmod(scaled, 10**_MILLISECOND_DIGITS)
    return f"{whole}.{decimals:018d}".rstrip("0").rstrip(".") or "0"


def _add_input(lines: Lines, usage: TokenUsage, operation: str) -> None:
    if usage.input is None:
        if not (operation == "rerank" or usage.search_units or usage.units):
            lines.note("input_not_reported", LOWER)
        return
    rates = lines.band.rates
    rest = usage.input - usage.cache_read - usage.cache_write_5m - usage.cache_write_1h
    media = _Media(usage, rest, lines.band)
    if usage.input_audio and "input_audio" not in lines.band.rates:
        # Billed as text, which is cheaper. Images and video mostly cost as much as text.
        lines.note("audio_rate_missing", LOWER)
    if usage.input_image and "input_image" not in rates and operation == "embeddings":
        # Embeddings of images cost more than those of text, unlike images in a prompt.
        lines.note("image_rate_missing", LOWER)
    if media.is_assumed:
        lines.note("cached_modality_not_reported", UPPER)
    text = rest - media.audio - media.image - media.video
    if lines.add("input", text, "input") is None and text and operation != "rerank":
        lines.note("input_rate_missing", LOWER)
    cached_text = usage.cache_read - media.audio_read - media.image_read
    _add_cached(lines, cached_text, usage.cache_write_5m, usage.cache_write_1h)
    if usage.cache_write_5m and "cache_ttl_assumed" in usage.flags and "cache_write_1h" in rates:
        # Writes for an hour cost more, and nobody reported that these are not.
        lines.note("cache_ttl_assumed", LOWER)
    lines.add("input_audio", media.audio, "input_audio")
    lines.add("cache_audio_read", media.audio_read, "cache_audio_read", "input_audio", "cache_read")
    lines.add("input_image", media.image, "input_image")
    lines.add("cache_image_read", media.image_read, "cache_image_read", "input_image", "cache_read")
    lines.add("input_video", media.video, "input_video")


class _Media:
    """Tokens of media that have a rate of their own, fresh and cached.

    Providers count media inside the input and mostly do not tell how much of it was cached. Then no
    cached token counts as media unless there is no other way.
    """

    __slots__ = ("audio", "audio_read", "image", "image_read", "is_assumed", "video")

    def __init__(self, usage: TokenUsage, fresh: int, band: Band) -> None:
        audio = usage.input_audio if "input_audio" in band.rates else 0
        image = usage.input_image if "input_image" in band.rates else 0
        video = usage.input_video if "input_video" in band.rates else 0
        self.audio_read = min(usage.cache_read_audio, audio)
        self.image_read = min(usage.cache_read_image, image)
        reported = usage.cache_read_audio or usage.cache_read_image
        self.is_assumed = bool((audio or image or video) and usage.cache_read and not reported)
        audio -= self.audio_read
        image -= self.image_read
        overlap = max(
            0,
            audio + image + video - fresh,
        )
        if overlap and audio:
            cached = usage.cache_read - self.audio_read - self.image_read
            moved = min(overlap, audio, cached)
            self.audio_read += moved
            audio -= moved
        self.audio = min(audio, fresh)
        self.image = min(
            image,
            fresh - self.audio,
        )
        self.video = min(
            video,
            fresh - self.audio - self.image,
        )


def _add_cached(lines: Lines, read: int, write: int, write_1h: int) -> None:
    """Charge cached tokens, each at its own rate or the next lower one, with a flag."""
    if read and lines.add("cache_read", read, "cache_read", "input") != "cache_read":
        lines.note("cache_read_rate_missing", UPPER)
    if write and lines.add("cache_write_5m", write, "cache_write", "input") != "cache_write":
        lines.note("cache_write_rate_missing", LOWER)
    if not write_1h:
        return
    units = ("cache_write_1h", "cache_write", "input")
    if lines.add("cache_write_1h", write_1h, *units) != "cache_write_1h":
        lines.note("cache_write_1h_rate_missing", LOWER)


def _add_output(lines: Lines, usage: TokenUsage, operation: str) -> None:
    if operation in _READS_ONLY:
        return
    if usage.output is None:
        if not usage.units:
            lines.note("output_not_reported", LOWER)
        return
    rates = lines.band.rates
    audio = usage.output_audio if "output_audio" in rates else 0
    image = usage.output_image if "output_image" in rates else 0
    video = usage.output_video if "output_video" in rates else 0
    rest = usage.output - audio - image - video
    reasoning = min(usage.reasoning, rest) if "output_reasoning" in rates else 0
    if usage.output_audio and not audio:
        lines.note("audio_rate_missing", LOWER)
    if usage.output_image and not image and not _makes_only_images(usage):
        lines.note("image_rate_missing", LOWER)
    if usage.output_video and not video:
        lines.note("video_rate_missing", LOWER)
    text = rest - reasoning
    if lines.add("output", text, "output") is None and text:
        lines.note("output_rate_missing", LOWER)
    lines.add("output_reasoning", reasoning, "output_reasoning")
    lines.add("output_audio", audio, "output_audio")
    lines.add("output_image", image, "output_image")
    lines.add("output_video", video, "output_video")


def _makes_only_images(usage: TokenUsage) -> bool:
    """Return whether every output token is of an image.

    Models of the images endpoint (gpt-image-1) are listed with one output rate: that of images.
    """
    return usage.output == usage.output_image


def _add_fees(lines: Lines, usage: TokenUsage, operation: str) -> None:
    rates = lines.band.rates
    counted = {name.partition(":")[0] for name, _ in usage.units}
    if "request" not in counted:
        lines.add("request", 1, "request")
        if "request" in rates and any(unit.startswith("request:") for unit in rates):
            # The listed fee is that of the most expensive size of search context.
            lines.note("search_context_assumed", UPPER)
    if "model_router_token" not in counted:
        lines.add("model_router", usage.input or 0, "model_router_token")
    if "search_response" in rates:
        # Every response of these models is a search, whether or not anyone counted it.
        lines.add("web_search", usage.web_searches or 1, "search_response")
    elif usage.web_searches and ("request" not in rates or "web_search" in rates):
        # A fee for each request pays for its searches (docs.perplexity.ai, "Pricing"), unless
        # searches have a price as well.
        if lines.add("web_search", usage.web_searches, "web_search") is None:
            lines.note("web_search_rate_missing", LOWER)
        elif any(unit.startswith("web_search:") for unit in rates):
            lines.note("search_context_assumed", UPPER)
    units = usage.search_units
    if operation == "rerank" and not units and "search_unit" in lines.band.rates:
        # One query is the least that a rerank request is billed for.
        units = 1
        lines.note("search_units_assumed", LOWER)
    if units and lines.add("search_unit", units, "search_unit") is None:
        lines.note("search_unit_rate_missing", LOWER)


_UNIT_RATES: dict[str, tuple[str, ...]] = {
    "citation_token": ("citation_token", "output_citation", "output"),
    "annotated_page": ("annotated_page", "page"),
}
"""A unit → the prices that may apply to it, where they are not of its own name."""


def _add_units(lines: Lines, usage: TokenUsage, operation: str) -> None:
    """Charge what is billed by time, pages, images or as a fee."""
    for name, quantity in usage.units:
        if not quantity:
            continue
        kind = name.partition(":")[0]
        if operation == "embeddings" and kind == "character":
            if "character" in lines.band.rates:
                lines.add(name, quantity, name)
            continue
        if _paid_by_tokens(lines, usage, kind):
            continue
        if kind in _TIMED:
            charged = _add_time(lines, kind, quantity)
        elif kind == "image":
            charged = _add_images(lines, name, quantity)
        else:
            charged = (
                lines.add(
                    name,
                    quantity,
                    *_UNIT_RATES.get(name, (name,)),
                )
                is not None
            )
        if not charged:
            lines.note(f"{kind}_rate_missing", LOWER)


_STANDARD_IMAGE = "standard:1024x1024"


def _add_images(lines: Lines, name: str, quantity: int) -> bool:
    """Charge images by their quality and size, or at the one price there is."""
    rates = lines.band.rates
    sized = [unit for unit in rates if unit.startswith("image:")]
    if name in sized or not sized:
        return lines.add(name, quantity, name, "image") is not None
    _, _, mark = name.partition(":")
    quality, _, size = (mark or _STANDARD_IMAGE).partition(":")
    if quality in ("", "auto", "standard") and f"image:standard:{size}" in sized:
        return (
            lines.add(
                name,
                quantity,
                f"image:standard:{size}",
            )
            is not None
        )
    return False


def _paid_by_tokens(lines: Lines, usage: TokenUsage, kind: str) -> bool:
    """Return whether a model counts what it made in tokens, and is priced by them."""
    if kind not in ("image", "input_audio_ms", "output_audio_ms", "output_video_ms", "character"):
        return False
    return bool(usage.output or usage.input) and "output" in lines.band.rates


def _add_time(lines: Lines, name: str, milliseconds: int) -> bool:
    """Charge milliseconds at a price per hour or second. Return whether there was one."""
    for unit, parts in _TIMED[name]:
        rate = lines.band.rates.get(unit)
        if rate is not None:
            cost = half_even(
                milliseconds * rate.numerator,
                rate.denominator * parts,
            )
            lines.items.append(
                Item(
                    name,
                    milliseconds,
                    _usd_per(rate, parts),
                    cost,
                )
            )
            return True
    return False
