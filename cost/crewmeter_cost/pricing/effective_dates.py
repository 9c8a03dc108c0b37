"""The prices of a model through time, under the user's rules. Pure.

A catalogue entry is a list of periods, each a price list with optional conditions: ``from`` (a UTC
date), ``hours`` (``"01:00-04:00"`` UTC) and ``tier``. Among those without a tier the last that
applies is the standard price. Those of the requested tier are laid over it, the first that applies
winning per unit. genai-prices reads its periods the same way, with one difference: there, a price
by the hour reaches back before the dated price that it follows in the list.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, NamedTuple, cast

from crewmeter_cost.pricing.charge_result import Unpriced
from crewmeter_cost.pricing.unit_prices import FREE, Plan, is_nothing, scaled

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from crewmeter_cost.pricing.catalogue.file_format import Entry
    from crewmeter_cost.pricing.charge_result import Bound
    from crewmeter_cost.pricing.overrides.schema import Rule
    from crewmeter_cost.pricing.unit_prices import Price, Prices

__all__ = ["CONDITIONS", "Moments", "Period", "PriceHistory", "date_ns", "prices_at", "tier_known"]

Period = Mapping[str, object]
CONDITIONS = frozenset({"from", "hours", "tier", "uplift"})
"""Keys of a period that are no prices.

``uplift`` is the factor for a provider's regional endpoints (`regions`).
"""
_DAY_S = 86_400
_NS = 1_000_000_000
_FOREVER = 2**63


def date_ns(text: str) -> int:
    """Return a date's UTC midnight in nanoseconds since 1970."""
    day = date.fromisoformat(text)
    return (
        int(
            datetime(
                day.year,
                day.month,
                day.day,
                tzinfo=UTC,
            ).timestamp()
        )
        * _NS
    )


def _hours(text: str) -> tuple[int, int]:
    """Return ``"01:00-04:00"`` as seconds of the day.

    The end is exclusive. It lies before the start for hours over midnight.
    """
    start, end = map(
        _second_of_day,
        text.split("-"),
    )
    return start, end


def _second_of_day(text: str) -> int:
    return int(text[:2]) * 3600 + int(text[3:5]) * 60


def _prices(period: Period) -> Prices:
    return cast(
        "Prices",
        {unit: price for unit, price in period.items() if unit not in CONDITIONS},
    )


def _applies(period: Period, at_ns: int, since_ns: int) -> bool:
    start = period.get("from")
    if start is not None and at_ns < date_ns(str(start)):
        return False
    hours = period.get("hours")
    if hours is None:
        return True
    if at_ns < since_ns:
        return False
    opens, closes = _hours(str(hours))
    second = at_ns // _NS % _DAY_S
    if opens <= closes:
        return opens <= second < closes
    return second >= opens or second < closes


def prices_at(periods: Sequence[Period], at_ns: int, tier: str | None) -> Prices:
    """Return the price list in force at a moment, for a tier.

    None is the standard tier.
    """
    standard: Prices | None = None
    since_ns = 0
    over: dict[str, Price] = {}
    first: Prices | None = None
    for period in periods:
        of_tier = period.get("tier")
        if of_tier is None:
            if first is None:
                first = _prices(period)
            if _applies(period, at_ns, since_ns):
                standard = _prices(period)
            if "from" in period:
                since_ns = max(
                    since_ns,
                    date_ns(str(period["from"])),
                )
        elif of_tier == tier and _applies(period, at_ns, 0):
            for unit, price in _prices(period).items():
                over.setdefault(unit, price)
    if standard is None:
        standard = first or {}
    return {**standard, **over}


def tier_known(periods: Sequence[Period], at_ns: int, tier: str) -> bool:
    """Return whether the catalogue prices this tier at this moment."""
    return any(period.get("tier") == tier and _applies(period, at_ns, 0) for period in periods)


class Moments:
    """The moments at which prices change.

    Between two of them one plan is good for every call.
    """

    __slots__ = ("dates", "hours")

    def __init__(self, dates: Set[int], hours: Set[int]) -> None:
        self.dates = tuple(sorted(dates))
        self.hours = tuple(sorted(hours))

    @classmethod
    def of(cls, periods: Sequence[Period], more: Set[int] = frozenset()) -> Moments:
        """Return every date and hour that periods mention, and `more` moments (ns)."""
        dates = more | {date_ns(str(period["from"])) for period in periods if "from" in period}
        hours = {
            edge for period in periods if "hours" in period for edge in _hours(str(period["hours"]))
        }
        return cls(dates, hours)

    def segment(self, at_ns: int) -> tuple[int, int]:
        """Return the stretch of the calendar and of the day that a moment falls into."""
        second = at_ns // _NS % _DAY_S
        return bisect_right(self.dates, at_ns), bisect_right(self.hours, second)

    def around(self, segment: tuple[int, int]) -> tuple[int, int]:
        """Return when a stretch of the calendar begins and ends (ns)."""
        index = segment[0]
        begins = self.dates[index - 1] if index else 0
        ends = self.dates[index] if index < len(self.dates) else _FOREVER
        return begins, ends


_NOTHING = Unpriced("unknown_model", "never displayed")
_CHEAPER_TIERS = frozenset({"batch", "flex", "provisioned"})


class _Listed(NamedTuple):
    """A catalogue's prices at a moment."""

    prices: dict[str, Price]
    source: str
    of_tier: bool
    """Whether they are the requested tier's own."""


class PriceHistory:
    """A catalogue entry under the user's rules, for one provider and tier.

    The plan for a moment is built once, for every call in the same stretch of time.
    """

    __slots__ = (
        "_bound",
        "_entry",
        "_flags",
        "_made",
        "_model",
        "_moments",
        "_now",
        "_plans",
        "_provider",
        "_rules",
        "_surcharge",
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
        surcharge: Mapping[str, Price] | None = None,
        bound: Bound = "",
        made: Callable[[Plan], None],
    ) -> None:
        """Prepare the history of a model.

        Args:
            provider: Who bills it.
            model: Its name, where no catalogue has it.
            entry: The catalogue's entry.
            tier: The service tier, None for the standard one.
            flags: What was assumed to find the entry.
            rules: The user's entries about it, the most specific first.
            uplift: The factor on the catalogue's prices of a call within a region.
            surcharge: Prices beside the catalogue's, for what the provider bills besides.
            bound: The direction in which the catalogue's prices may be off.
            made: Called with every plan, so that the book can freeze its rates.
        """
        self._provider = provider
        self._model = entry.model if entry else model
        self._entry = entry
        self._tier = tier
        self._flags = flags
        self._rules = tuple(rules)
        self._uplift = uplift
        self._surcharge = dict(surcharge or {})
        self._bound = bound
        self._made = made
        listed = entry.periods if entry else ()
        periods = [period for period in listed if period.get("tier") in (None, tier)]
        moments = {moment for rule in rules for moment in rule.moments}
        self._moments = Moments.of(periods, moments)
        self._plans: dict[tuple[int, int], Plan | Unpriced] = {}
        # The stretch of the calendar of the last call, one value so that threads see it whole.
        self._now: tuple[int, int, Plan | Unpriced] = (0, 0, _NOTHING)
        self.only: Plan | Unpriced | None = None
        """The plan of a model whose price never changes."""
        if not self._moments.dates and not self._moments.hours:
            self.only = self._build(0)

    @classmethod
    def without(cls, unpriced: Unpriced) -> PriceHistory:
        """Return the history of a model that has no price at any time."""
        history = cls.__new__(cls)
        history.only = unpriced
        return history

    def at(self, at_ns: int) -> Plan | Unpriced:
        """Return the plan in force at a moment."""
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
        hosted = next(
            (rule for rule in rules if rule.kind == "self_hosted"),
            None,
        )
        if hosted is not None:
            return self._plan("override", _in_usd(hosted, at_ns))
        negotiated = self._negotiated(rules)
        listed = self._listed(at_ns)
        prices = listed.prices
        source = listed.source
        tier_priced = listed.of_tier and bool(prices)
        if negotiated is not None:
            prices = {**prices, **_in_usd(negotiated, at_ns)}
            source = "override"
            tier_priced = tier_priced or negotiated.tier == self._tier
        flags = self._flags
        bound: Bound = "" if negotiated is not None else self._bound
        if self._tier and not tier_priced:
            flags = (*flags, "tier_assumed")
            of_tier: Bound = "upper_bound" if self._tier in _CHEAPER_TIERS else "lower_bound"
            bound = of_tier if bound in ("", of_tier) else "estimated"
        discount = next(
            (rule for rule in rules if rule.kind == "discount"),
            None,
        )
        if discount is not None:
            factor = discount.factor
            prices = {unit: scaled(price, factor) for unit, price in prices.items()}
            source = "override"
        by_user = negotiated is not None or discount is not None
        if not by_user and all(is_nothing(price) for price in prices.values()):
            return self._unpriced(flags)
        return self._plan(
            source,
            {**self._surcharge, **prices},
            flags=flags,
            bound=bound,
        )

    def _listed(self, at_ns: int) -> _Listed:
        """Return the catalogue's prices at a moment."""
        if self._entry is None:
            return _Listed({}, "override", self._tier is None)
        periods = self._entry.periods
        prices = dict(
            prices_at(
                periods,
                at_ns,
                self._tier,
            )
        )
        uplift = self._uplift
        if uplift is not None:
            prices = {unit: scaled(price, uplift) for unit, price in prices.items()}
        known = self._tier is None or tier_known(
            periods,
            at_ns,
            self._tier,
        )
        return _Listed(prices, self._entry.source, known)

    def _negotiated(self, rules: Sequence[Rule]) -> Rule | None:
        """Return the user's price for this tier.

        Where no catalogue knows the model, the user's standard price serves every tier.
        """
        prices = [rule for rule in rules if rule.kind == "price"]
        own = next(
            (rule for rule in prices if rule.tier == self._tier),
            None,
        )
        if own is not None or self._entry is not None:
            return own
        return next(
            (rule for rule in prices if rule.tier is None),
            None,
        )

    def _plan(
        self,
        source: str,
        prices: dict[str, Price],
        *,
        flags: tuple[str, ...] | None = None,
        bound: Bound = "",
    ) -> Plan:
        if flags is None:
            flags = self._flags
        plan = Plan(
            self._provider,
            self._model,
            source,
            prices,
            flags=flags,
            bound=bound,
        )
        self._made(plan)
        return plan

    def _unpriced(self, flags: tuple[str, ...]) -> Unpriced:
        if self._entry is None:
            reason = (
                f"the entry for {self._model!r} in the prices file does not apply at this time; "
                "give it another from or until"
            )
        else:
            reason = (
                f"{self._model!r} is listed at {self._provider} without a price; "
                "add one under [[price]] or declare it under [[free]]"
            )
        return Unpriced(
            "unknown_model",
            reason,
            self._provider,
            self._model,
            flags,
        )


def _in_usd(rule: Rule, at_ns: int) -> dict[str, Price]:
    """Return a rule's prices in USD at a moment."""
    if rule.currency is None:
        return dict(rule.prices)
    factor = rule.currency.usd(at_ns)
    return {unit: scaled(price, factor) for unit, price in rule.prices.items()}
