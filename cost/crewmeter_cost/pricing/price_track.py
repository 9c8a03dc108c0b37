"""One resolved model through time: builds the plan for a moment once, and hands it out for every call in the same stretch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_cost.pricing.charge_result import Unpriced
from crewmeter_cost.pricing.effective_dates import Moments, prices_at, tier_known
from crewmeter_cost.pricing.unit_prices import FREE, Plan, is_nothing, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from crewmeter_cost.pricing.catalogue.file_format import Entry
    from crewmeter_cost.pricing.overrides.schema import Rule
    from crewmeter_cost.pricing.unit_prices import Price

__all__ = ["Track"]

_NOTHING = Unpriced("unknown_model", "never shown")
_CHEAPER_TIERS = frozenset({"batch", "flex"})


class Track:
    """A catalogue entry (if there is one) under the user's rules, for one provider and tier."""

    __slots__ = (
        "_entry",
        "_flags",
        "_made",
        "_model",
        "_moments",
        "_now",
        "_plans",
        "_provider",
        "_rules",
        "_tier",
        "_uplift",
        "only",
    )

    def __init__(
        self,
        provider: str,
        model: str,
        entry: Entry | None,
        *,
        tier: str | None,
        flags: tuple[str, ...],
        rules: Sequence[Rule] = (),
        uplift: Decimal | None = None,
        made: Callable[[Plan], None],
    ) -> None:
        self._provider = provider
        self._model = entry.model if entry else model
        self._entry = entry
        self._tier = tier
        self._flags = flags
        self._rules = tuple(rules)
        self._uplift = uplift
        """The factor on the catalogue's prices where the call was kept within a region."""
        self._made = made
        """Told of every plan, so that the book can freeze its rates."""
        periods = [
            period
            for period in (entry.periods if entry else ())
            if period.get("tier") in (None, tier)
        ]
        self._moments = Moments.of(periods, {moment for rule in rules for moment in rule.moments})
        self._plans: dict[tuple[int, int], Plan | Unpriced] = {}
        self._now: tuple[int, int, Plan | Unpriced] = (0, 0, _NOTHING)
        """The stretch of the calendar that was asked for last, one value so that threads see it whole."""
        self.only: Plan | Unpriced | None = (
            None if self._moments.dates or self._moments.hours else self._build(0)
        )
        """The plan of a model whose price never changes."""

    @classmethod
    def without(cls, unpriced: Unpriced) -> Track:
        """A track for a model that has no price at any time."""
        track = cls.__new__(cls)
        track.only = unpriced
        return track

    def at(self, at_ns: int) -> Plan | Unpriced:
        """The plan in force at a moment."""
        since, until, plan = self._now
        if since <= at_ns < until:
            return plan
        segment = self._moments.segment(at_ns)
        found = self._plans.get(segment)
        if found is None:
            found = self._plans[segment] = self._build(at_ns)
        if not self._moments.hours:
            self._now = (*self._moments.around(segment), found)
        return found

    def _build(self, at_ns: int) -> Plan | Unpriced:
        rules = [rule for rule in self._rules if rule.active(at_ns)]
        if any(rule.kind == "free" for rule in rules):
            return self._plan("override", {FREE: "0"})
        hosted = next((rule for rule in rules if rule.kind == "self_hosted"), None)
        if hosted is not None:
            return self._plan("override", _in_usd(hosted, at_ns))
        negotiated = self._negotiated(rules)
        prices, bound, source = self._listed(at_ns)
        flags = self._flags
        if negotiated is not None:
            prices, source = {**prices, **_in_usd(negotiated, at_ns)}, "override"
        if (
            self._tier
            and not (bound == "" and prices)
            and (negotiated is None or negotiated.tier != self._tier)
        ):
            flags, bound = (
                (*flags, "tier_assumed"),
                "upper_bound" if self._tier in _CHEAPER_TIERS else "partial",
            )
        else:
            bound = ""
        discount = next((rule for rule in rules if rule.kind == "discount"), None)
        if discount is not None:
            prices, source = (
                {unit: scaled(price, discount.factor) for unit, price in prices.items()},
                "override",
            )
        if (
            negotiated is None
            and discount is None
            and all(is_nothing(price) for price in prices.values())
        ):
            return self._unpriced(flags)
        return self._plan(source, prices, flags=flags, bound=bound)

    def _listed(self, at_ns: int) -> tuple[dict[str, Price], str, str]:
        """The catalogue's prices, ``assumed`` where they are not this tier's own, and the catalogue's name."""
        if self._entry is None:
            return {}, "assumed" if self._tier else "", "override"
        prices = dict(prices_at(self._entry.periods, at_ns, self._tier))
        if self._uplift is not None:
            prices = {unit: scaled(price, self._uplift) for unit, price in prices.items()}
        known = self._tier is None or tier_known(self._entry.periods, at_ns, self._tier)
        return prices, "" if known else "assumed", self._entry.source

    def _negotiated(self, rules: Sequence[Rule]) -> Rule | None:
        """The user's price for this tier; the one for the standard tier where that is asked for, or no catalogue knows the model."""
        prices = [rule for rule in rules if rule.kind == "price"]
        own = next((rule for rule in prices if rule.tier == self._tier), None)
        return own or (
            next((rule for rule in prices if rule.tier is None), None)
            if self._entry is None
            else None
        )

    def _plan(
        self,
        source: str,
        prices: dict[str, Price],
        *,
        flags: tuple[str, ...] | None = None,
        bound: str = "",
    ) -> Plan:
        plan = Plan(
            self._provider,
            self._model,
            source,
            prices,
            flags=self._flags if flags is None else flags,
            bound=bound,
        )
        self._made(plan)
        return plan

    def _unpriced(self, flags: tuple[str, ...]) -> Unpriced:
        if self._entry is None:
            reason = f"the entry for {self._model!r} in the prices file does not apply at this time; give it another from or until"
        else:
            reason = f"{self._model!r} is listed at {self._provider} without a price; add one under [[price]] or declare it under [[free]]"
        return Unpriced("unknown_model", reason, self._provider, self._model, flags)


def _in_usd(rule: Rule, at_ns: int) -> dict[str, Price]:
    """A rule's prices in USD at a moment."""
    if rule.currency is None:
        return dict(rule.prices)
    factor = rule.currency.usd(at_ns)
    return {unit: scaled(price, factor) for unit, price in rule.prices.items()}
