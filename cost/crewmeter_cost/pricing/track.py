"""One resolved model through time: builds the plan for a moment once, and hands it out for every call in the same stretch."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from crewmeter_cost.pricing.outcome import Unpriced
from crewmeter_cost.pricing.rates import Plan, scaled
from crewmeter_cost.pricing.timeline import Moments, prices_at, tier_known

if TYPE_CHECKING:
    from crewmeter_cost.pricing.book import PriceBook
    from crewmeter_cost.pricing.catalogue import Entry
    from crewmeter_cost.pricing.rates import Price

__all__ = ["Track"]

_REGIONAL = Decimal("1.1")
"""Bedrock bills geographic profiles (``us.``, ``eu.`` …) 10 % above ``global.`` ones."""
_CHEAPER_TIERS = frozenset({"batch", "flex"})


class Track:
    """A catalogue entry for one provider, tier and set of assumptions."""

    __slots__ = ("_book", "_entry", "_flags", "_moments", "_plans", "_provider", "_source", "_tier", "_uplift", "only")

    def __init__(
        self, book: PriceBook, provider: str, source: str, entry: Entry, *, tier: str | None, flags: tuple[str, ...], uplift: bool
    ) -> None:
        self._book = book
        self._provider = provider
        self._source = source
        self._entry = entry
        self._tier = tier
        self._flags = flags
        self._uplift = uplift
        self._moments = Moments.of([period for period in entry.periods if period.get("tier") in (None, tier)])
        self._plans: dict[tuple[int, int], Plan | Unpriced] = {}
        self.only: Plan | Unpriced | None = None if self._moments.dates or self._moments.hours else self._build(0)
        """The plan of an entry whose price never changes."""

    def at(self, at_ns: int) -> Plan | Unpriced:
        """The plan in force at a moment."""
        segment = self._moments.segment(at_ns)
        plan = self._plans.get(segment)
        if plan is None:
            plan = self._plans[segment] = self._build(at_ns)
        return plan

    def _build(self, at_ns: int) -> Plan | Unpriced:
        flags, bound = self._flags, ""
        if self._tier and not tier_known(self._entry.periods, at_ns, self._tier):
            flags, bound = (*flags, "tier_assumed"), "upper_bound" if self._tier in _CHEAPER_TIERS else "partial"
        prices: dict[str, Price] = dict(prices_at(self._entry.periods, at_ns, self._tier))
        if self._uplift:
            flags = (*flags, "regional_uplift")
            prices = {unit: scaled(price, _REGIONAL) for unit, price in prices.items()}
        if not any(price != "0" for price in prices.values()):
            reason = (
                f"{self._entry.model!r} is listed at {self._provider} without a price; add one under [[price]] or declare it under [[free]]"
            )
            return Unpriced("unknown_model", reason, self._provider, self._entry.model, flags)
        plan = Plan(self._provider, self._entry.model, self._source, prices, flags=flags, bound=bound)
        self._book.register(plan)
        return plan
