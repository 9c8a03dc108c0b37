"""A model's rates at one moment, ready for integer arithmetic. Pure.

A price list (`Prices`) maps a unit to what it costs in USD: token units per million tokens, the
units in `SINGLE` per one. A price that depends on the request's size is a list ``[price, [above,
price], …]``: the whole request is billed at the price of the highest ``above`` (tokens, all input
counted) that it exceeds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import Any

from crewmeter_cost.pricing.charge_result import PICO, Bound, FrozenRates

__all__ = [
    "FREE",
    "GPU_HOUR",
    "SINGLE",
    "Band",
    "Plan",
    "Price",
    "Prices",
    "base_price",
    "canonical",
    "half_even",
    "is_nothing",
    "is_single",
    "plain",
    "scaled",
    "unit_usd",
]

Price = str | list[Any]
"""A decimal string, or ``[price, [above, price], …]``."""
Prices = Mapping[str, Price]

GPU_HOUR = "gpu_hour"
FREE = "free"
SINGLE = frozenset(
    {
        "request",
        "web_search",
        "storage_search",
        "search_unit",
        "text_message",
        "character",
        "page",
        "annotated_page",
        "audio_hour",
        "input_audio_hour",
        "input_second",
        "output_second",
        "image",
        "x_search",
        "image_pixel",
        "video_pixel",
        "search_source",
        "maps_grounding",
        "code_execution",
        "document_search",
        "tool_call",
        "search_response",
        GPU_HOUR,
        FREE,
    }
)
"""Units priced per one. Every other unit is a kind of token and priced per million.

A qualifier follows a colon: ``image:hd:1024x1024``.
"""
_UNCOMMON = frozenset(
    {"request", "search_response", "output_reasoning", "model_router_token", GPU_HOUR, FREE}
)
"""Units charged on a call of text in and text out that are not one of the five common ones."""
_MILLION = 1_000_000


def half_even(numerator: int, denominator: int) -> int:
    """Return ``numerator / denominator`` rounded to the nearest integer.

    Ties go to even (banker's rounding).
    """
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def plain(value: Decimal) -> str:
    """Return a decimal as plain text: ``Decimal("0.30")`` → ``"0.3"``."""
    text = format(value, "f")
    if "." in text:
        return text.rstrip("0").rstrip(".") or "0"
    return text


def base_price(price: Price) -> str:
    """Return the price of a short request."""
    return price if isinstance(price, str) else str(price[0])


def is_nothing(price: Price) -> bool:
    """Whether a price is 0 for requests of every size."""
    parts = (
        [price]
        if isinstance(price, str)
        else [
            price[0],
            *(dear for _, dear in price[1:]),
        ]
    )
    return all(Decimal(str(part)) == 0 for part in parts)


def is_single(unit: str) -> bool:
    """Return whether a unit is priced per one and not per million."""
    return unit in SINGLE or unit.partition(":")[0] in SINGLE


def unit_usd(unit: str, price: str) -> str:
    """Return the price of one single unit as a decimal string of USD."""
    return plain(Decimal(price) if is_single(unit) else Decimal(price).scaleb(-6))


def canonical(prices: Prices) -> str:
    """Return a price list as JSON with one spelling for one content.

    A price version is hashed over it.
    """
    return json.dumps(prices, sort_keys=True, separators=(",", ":"))


def scaled(price: Price, factor: Decimal) -> Price:
    """Return a price times a factor (discount, uplift, currency's rate), exactly."""
    if isinstance(price, str):
        return plain(Decimal(price) * factor)
    base, *above = price
    return [
        plain(Decimal(str(base)) * factor),
        *([start, plain(Decimal(str(dear)) * factor)] for start, dear in above),
    ]


class Band:
    """The rates for requests of one size class.

    ``-1`` is "no such rate". The five common ones share the denominator `den`.
    """

    __slots__ = (
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "den",
        "input",
        "output",
        "rates",
        "usd",
        "usd_of_input",
        "usd_of_output",
    )

    def __init__(self, prices: Mapping[str, str]) -> None:
        self.rates: dict[str, Fraction] = {
            unit: Fraction(price) * (PICO if is_single(unit) else PICO // _MILLION)
            for unit, price in prices.items()
        }
        """Pico-USD per single unit."""
        self.usd: dict[str, str] = {unit: unit_usd(unit, price) for unit, price in prices.items()}
        common = [
            self.rates.get(unit)
            for unit in ("input", "output", "cache_read", "cache_write", "cache_write_1h")
        ]
        self.den = lcm(*(rate.denominator for rate in common if rate is not None))
        self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h = (
            -1 if rate is None else int(rate * self.den) for rate in common
        )
        self.usd_of_input = self.usd.get("input", "")
        self.usd_of_output = self.usd.get("output", "")


class Plan:
    """How to charge one model between two moments."""

    __slots__ = (
        "above",
        "band",
        "bands",
        "bound",
        "flags",
        "frozen",
        "model",
        "prices",
        "provider",
        "quick",
        "source",
        "version",
    )

    def __init__(
        self,
        provider: str,
        model: str,
        source: str,
        prices: Prices,
        *,
        flags: tuple[str, ...] = (),
        bound: Bound = "",
    ) -> None:
        self.provider = provider
        self.model = model
        self.source = source
        self.prices = prices
        self.flags = flags
        self.bound = bound
        """``upper_bound`` or ``lower_bound`` where the rates themselves are not the request's own
        (an unknown tier), else empty.
        """
        rates = canonical(prices)
        digest = hashlib.sha256("\n".join((provider, model, rates)).encode()).hexdigest()
        self.version = digest[:32]
        self.frozen = FrozenRates(
            self.version,
            source,
            provider,
            model,
            rates,
        )
        starts = sorted(
            {
                int(step[0])
                for price in prices.values()
                if not isinstance(price, str)
                for step in price[1:]
            }
        )
        self.above: tuple[int, ...] = tuple(starts)
        self.bands = tuple(
            Band({unit: _at(price, start) for unit, price in prices.items()})
            for start in (-1, *starts)
        )
        self.band = self.bands[0]
        self.quick = (
            not bound
            and not _UNCOMMON & prices.keys()
            and all(band.den == 1 and band.input >= 0 and band.output >= 0 for band in self.bands)
        )
        """Whether `charge` may take its short way.

        Only common units, each a whole number of pico-USD.
        """

    @classmethod
    def thaw(cls, frozen: FrozenRates) -> Plan:
        """Return the plan a price version was frozen from."""
        return cls(
            frozen.provider,
            frozen.model,
            frozen.source,
            json.loads(frozen.rates),
        )


def _at(price: Price, start: int) -> str:
    """Return the price of requests over `start` tokens, up to the next step."""
    if isinstance(price, str):
        return price
    current, *above = price
    for step, dearer in above:
        if int(step) <= start:
            current = dearer
    return str(current)
