"""Two sources' listings of one model, compared. Pure.

No source is always right: one may be behind, and one may lack the price of long requests. Where
they contradict each other, neither figure is exact.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from crewmeter_cost.pricing.effective_dates import prices_at
from crewmeter_cost.pricing.unit_prices import base_price

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crewmeter_cost.pricing.catalogue.file_format import Entry
    from crewmeter_cost.pricing.charge_result import Bound
    from crewmeter_cost.pricing.unit_prices import Price, Prices

__all__ = ["disagreement", "same_standard", "with_long_context"]

_LATEST_NS = 2**62
"""After every dated price."""
_TEXT = ("input", "output")
_ROUNDING = Decimal("0.03")
"""Sources round prices: 0.15 is 0.15001 elsewhere."""
_EXPLAINED = (Decimal(1), Decimal("1.1"), 1 / Decimal("1.1"))
"""Ratios of two right prices: the same, or one with the uplift of a region and one without."""


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

    Nothing where ``other`` lists a price that ``entry`` has or had at some time.
    """
    theirs = prices_at(other.periods, _LATEST_NS, None)
    own = [_prices(period) for period in entry.periods if "tier" not in period]
    if not own or any(_alike(prices, theirs) for prices in own):
        return ""
    latest = prices_at(entry.periods, _LATEST_NS, None)
    is_dearer = all(_base(latest, unit) >= _base(theirs, unit) for unit in _TEXT)
    return "upper_bound" if is_dearer else "lower_bound"


def _prices(period: object) -> Prices:
    assert isinstance(period, dict)
    return period


def _alike(one: Prices, other: Prices) -> bool:
    pairs = [(_base(one, unit), _base(other, unit)) for unit in _TEXT]
    # A missing or zero rate says nothing: embeddings have no output.
    ratios = [first / second for first, second in pairs if first and second]
    if not ratios:
        return True
    return any(_within(ratios, explained) for explained in _EXPLAINED)


def _within(ratios: Iterable[Decimal], expected: Decimal) -> bool:
    return all(abs(ratio / expected - 1) <= _ROUNDING for ratio in ratios)


def _base(prices: Prices, unit: str) -> Decimal:
    price = prices.get(unit)
    return Decimal(0) if price is None else Decimal(base_price(price))


def _standard(prices: Prices, unit: str) -> str | None:
    price = prices.get(unit)
    return None if price is None else base_price(price)
