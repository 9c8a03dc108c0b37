"""A model's rates by tier and request size, and a charge, as JSON documents."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from crewmeter.providers.hosts import canonical_provider
from crewmeter_cost.money import exact_usd
from crewmeter_cost.pricing.charge import Charge, Unpriced
from crewmeter_cost.pricing.unit_prices import FREE, SINGLE, unit_usd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crewmeter_cost.pricing.charge import Outcome
    from crewmeter_cost.pricing.price_book import PriceBook
    from crewmeter_cost.pricing.unit_prices import Plan

__all__ = ["Rate", "RateTable", "charge_document", "charge_items", "read_rates"]

STANDARD = "standard"
_TIERS = ("batch", "flex", "priority")
_FIRST = ("input", "cache_read", "cache_write", "cache_write_1h", "output")


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one unit on one tier, for requests over so many input tokens."""

    item: str
    tier: str
    above_tokens: int
    price: str
    """USD per million tokens, or per one of a unit in `SINGLE`."""

    @property
    def unit(self) -> str:
        """What the price is for."""
        if self.item in SINGLE:
            return "each"
        return "1M tokens"


@dataclass(frozen=True, slots=True)
class RateTable:
    """A model's rates. Where it has none, `reason` says why."""

    provider: str | None
    model: str
    status: str
    rates: tuple[Rate, ...] = ()
    source: str | None = None
    version: str | None = None
    flags: tuple[str, ...] = ()
    reason: str | None = None

    def document(self) -> dict[str, object]:
        """Return the contract's JSON.

        It has the rates of every tier beside the standard items.
        """
        standard = [rate for rate in self.rates if rate.tier == self.tiers()[0]]
        return {
            "cost_usd": None,
            "cost_status": self.status,
            "provider": self.provider,
            "model": self.model,
            "items": [
                {
                    "item": rate.item,
                    "quantity": None,
                    "rate_usd": unit_usd(rate.item, rate.price),
                    "cost_usd": None,
                }
                for rate in standard
                if not rate.above_tokens
            ],
            "price_source": self.source,
            "price_version": self.version,
            "rates": list(self.rows()),
        }

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield every rate as a record."""
        for rate in self.rates:
            yield {
                "item": rate.item,
                "tier": rate.tier,
                "above_tokens": rate.above_tokens,
                "unit": rate.unit,
                "usd": rate.price,
            }

    def tiers(self) -> list[str]:
        """Return the tiers that have rates, the standard one first."""
        return list(dict.fromkeys(rate.tier for rate in self.rates)) or [STANDARD]

    def cells(self) -> list[tuple[str, dict[str, str]]]:
        """Return a line for each item and request size: its label, and tier to price."""
        lines: dict[tuple[str, int], dict[str, str]] = {}
        for rate in self.rates:
            line = lines.setdefault(
                (rate.item, rate.above_tokens),
                {},
            )
            line[rate.tier] = _price_text(rate)
        return [(_label(item, above), prices) for (item, above), prices in lines.items()]


def _price_text(rate: Rate) -> str:
    """Return a price with at least two decimals: ``$2.50``."""
    price = Decimal(rate.price)
    decimals = max(
        2,
        -int(price.normalize().as_tuple().exponent),
    )
    return f"${price:,.{decimals}f}"


def _label(item: str, above: int) -> str:
    """Return what a line is called: ``input, over 200k tokens``.

    Fees say that they are each.
    """
    label = item.replace("_", " ")
    if item in SINGLE:
        label += " (each)"
    if above:
        label += f", over {above // 1000:,}k tokens"
    return label


def read_rates(
    book: PriceBook,
    *,
    provider: str | None,
    model: str,
    host: str | None,
    at_ns: int,
    tier: str | None,
) -> RateTable:
    """Return the rates of a model.

    Of one tier where given, else of every tier it is sold on.
    """

    def plan_of(wanted: str | None) -> Plan | Unpriced:
        return book.plan(
            provider,
            model,
            host,
            None,
            wanted,
            at_ns,
        )

    plan = plan_of(tier)
    if isinstance(plan, Unpriced):
        billed_by = plan.provider or canonical_provider(provider)
        return RateTable(
            billed_by,
            plan.model or model,
            plan.status,
            reason=plan.reason,
        )
    rates = list(
        _of_plan(
            plan,
            tier or STANDARD,
        )
    )
    if tier is None:
        for name in _TIERS:
            other = plan_of(name)
            # A bound marks a tier that the book does not list for this model.
            if not isinstance(other, Unpriced) and not other.bound and other.prices != plan.prices:
                rates += _of_plan(other, name)
    return RateTable(
        plan.provider,
        plan.model,
        "priced",
        tuple(rates),
        plan.source,
        plan.version,
        plan.flags,
    )


def _of_plan(plan: Plan, tier: str) -> Iterator[Rate]:
    """Yield the rates of a plan, the common items first."""
    items = [item for item in _FIRST if item in plan.prices]
    items += [item for item in plan.prices if item not in _FIRST and item != FREE]
    for item in items:
        price = plan.prices[item]
        if isinstance(price, str):
            yield Rate(item, tier, 0, price)
            continue
        base, *steps = price
        yield Rate(item, tier, 0, str(base))
        for above, dearer in steps:
            yield Rate(
                item,
                tier,
                int(above),
                str(dearer),
            )


def charge_document(outcome: Outcome, *, provider: str | None, model: str) -> dict[str, object]:
    """Return the contract's JSON of a charge, or of the reason why there is none.

    `provider` and `model` are the requested ones, for an outcome that names none.
    """
    priced = outcome if isinstance(outcome, Charge) else None
    return {
        "cost_usd": priced and exact_usd(priced.cost_pusd),
        "cost_status": outcome.status,
        "provider": outcome.provider or provider,
        "model": outcome.model or model,
        "items": charge_items(outcome),
        "price_source": priced and priced.source,
        "price_version": priced and priced.version,
    }


def charge_items(outcome: Outcome) -> list[dict[str, object]]:
    """Return the lines of a charge.

    None where there is no charge.
    """
    if not isinstance(outcome, Charge):
        return []
    return [
        {
            "item": line.item,
            "quantity": line.quantity,
            "rate_usd": line.rate_usd,
            "cost_usd": exact_usd(line.cost_pusd),
        }
        for line in outcome.items
    ]
