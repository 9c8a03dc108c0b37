"""Two sources' listings of one model, compared. Pure.

No source is always right: one may be behind, and one may lack the price of long requests. Where
they contradict each other, neither figure is exact.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Context, Decimal
from typing import TYPE_CHECKING, cast

from crewmeter_cost.pricing.effective_dates import Moments, prices_at
from crewmeter_cost.pricing.unit_prices import base_price

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crewmeter_cost.pricing.catalogue.file_format import Entry
    from crewmeter_cost.pricing.charge_result import Bound
    from crewmeter_cost.pricing.unit_prices import Price, Prices

__all__ = ["disagreement", "same_standard", "with_long_context"]

_SECOND_NS = 10**9
_DAY_NS = 86_400 * _SECOND_NS
_LATEST_NS = 2**62
"""After every dated price."""
_TEXT = ("input", "output")
_DIRECTION = (*_TEXT, "cache_read")
"""Units whose prices tell whether a whole charge may be too high or too low."""
_FOUR_DIGITS = Context(prec=4)
"""Sources round prices: 0.15 is 0.15001 elsewhere."""
_UPLIFTS = (Decimal("1.1"), 1 / Decimal("1.1"))
"""Ratios of two right prices, one with the uplift of a region and one without."""
_WITH_UPLIFT = frozenset({"openai", "azure.ai.openai", "anthropic", "aws.bedrock", "gcp.vertex_ai"})
"""Sellers that bill a tenth more for a region."""


def same_standard(one: Entry, other: Entry, factor: Decimal = Decimal(1)) -> bool:
    """Return whether two listings agree on today's price of plain text.

    ``factor`` is laid on the price of the first.
    """
    first = prices_at(one.periods, _LATEST_NS, None)
    second = prices_at(other.periods, _LATEST_NS, None)
    if factor == 1:
        return all(_standard(first, unit) == _standard(second, unit) for unit in _TEXT)
    return all(_base(first, unit) * factor == _base(second, unit) for unit in _TEXT)


def with_long_context(entry: Entry, other: Entry) -> Entry:
    """Return ``entry`` with the prices of long requests that only ``other`` has.

    Only where both have the same price for short ones.
    """
    latest = prices_at(other.periods, _LATEST_NS, None)
    stepped = {unit: price for unit, price in latest.items() if isinstance(price, list)}
    if not stepped:
        return entry
    periods = []
    for period in entry.periods:
        added: dict[str, Price] = {}
        if "tier" not in period:
            added = {
                unit: price
                for unit, price in stepped.items()
                if period.get(unit) == base_price(price)
            }
        periods.append({**period, **added} if added else period)
    return replace(entry, periods=tuple(periods))


def disagreement(entry: Entry, other: Entry) -> Bound:
    """Return the direction in which a price may be off, by what ``other`` lists.

    Nothing where ``other`` lists a price that ``entry`` has or had at some time. No direction,
    but an estimate, where one unit or hour may be cheaper and another dearer.
    """
    theirs = prices_at(other.periods, _LATEST_NS, None)
    has_uplift = entry.provider in _WITH_UPLIFT
    own = []
    for period in entry.periods:
        if "tier" not in period:
            prices = cast("Prices", period)
            own.append(prices)
    if not own:
        return ""
    for prices in own:
        if _alike(prices, theirs, has_uplift=has_uplift):
            return ""
    is_dearer = False
    is_cheaper = False
    for prices in _in_force(entry):
        for ours, listed in _pairs(prices, theirs, _DIRECTION):
            if ours > listed:
                is_dearer = True
            elif ours < listed:
                is_cheaper = True
    if is_dearer and is_cheaper:
        return "estimated"
    if is_dearer:
        return "upper_bound"
    return "lower_bound"


def _in_force(entry: Entry) -> list[Prices]:
    """Return the latest prices of every hour of the day."""
    midnight = _LATEST_NS - _LATEST_NS % _DAY_NS
    seconds = (0, *Moments.of(entry.periods).hours)
    return [prices_at(entry.periods, midnight + second * _SECOND_NS, None) for second in seconds]


def _alike(one: Prices, other: Prices, *, has_uplift: bool) -> bool:
    pairs = _pairs(one, other, _TEXT)
    if _agree(pairs, Decimal(1)):
        return True
    if not has_uplift:
        return False
    return any(_agree(pairs, ratio) for ratio in _UPLIFTS)


def _agree(pairs: Iterable[tuple[Decimal, Decimal]], ratio: Decimal) -> bool:
    for first, second in pairs:
        expected = second * ratio
        if _rounded(first) != _rounded(expected):
            return False
    return True


def _pairs(one: Prices, other: Prices, units: Iterable[str]) -> list[tuple[Decimal, Decimal]]:
    """Return both prices of each unit that both list.

    A missing or zero rate says nothing: embeddings have no output.
    """
    pairs = []
    for unit in units:
        first = _base(one, unit)
        second = _base(other, unit)
        if unit == "output" and _only_speaks(one, other):
            continue
        if first and second:
            pairs.append((first, second))
    return pairs


def _only_speaks(one: Prices, other: Prices) -> bool:
    """Return whether one list calls output what the other calls output audio."""
    if "output_audio" in one:
        return False
    spoken = _base(other, "output_audio")
    return bool(spoken) and spoken == _base(one, "output")


def _rounded(price: Decimal) -> Decimal:
    return _FOUR_DIGITS.plus(price)


def _base(prices: Prices, unit: str) -> Decimal:
    price = prices.get(unit)
    return Decimal(0) if price is None else Decimal(base_price(price))


def _standard(prices: Prices, unit: str) -> str | None:
    price = prices.get(unit)
    return None if price is None else base_price(price)
