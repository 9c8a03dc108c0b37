"""The provider's own figure for a call, beside the computed one. Pure."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from crewmeter_cost.pricing.charge_result import EXACT, PICO, Charge, Outcome

if TYPE_CHECKING:
    from crewmeter_cost.pricing.price_book import PriceBook

__all__ = ["beside"]

_AGREES_WITHIN = Decimal("0.0001")
_AGREES_USD = Decimal("0.000001")
"""A reported cost diverges where it is off by more than 0.01 % and a millionth of a USD.

That is what rounding explains; a discount of 1 % is already another bill.
"""
_FREE_MODELS_AT = frozenset({"openrouter"})
"""Sellers of models that cost nothing (``:free``), whose zero is a price."""
_LARGEST_REPORT = 10**6
"""USD. A report beyond it for one call is in another unit."""


def beside(outcome: Outcome, reported_cost_usd: str, book: PriceBook) -> Outcome:
    """Compare the provider's own figure with the computed one.

    It stands where none could be computed exactly, or where the user books this provider's own
    figures. A divergence from an exact computation makes that a bound: one of the two is wrong.
    """
    reported = _amount(reported_cost_usd)
    if reported is None:
        return outcome._replace(flags=(*outcome.flags, "reported_cost_invalid"))
    if not isinstance(outcome, Charge):
        if not reported and outcome.provider not in _FREE_MODELS_AT:
            # A gateway reports nothing for a model whose price it does not know either.
            return outcome._replace(flags=(*outcome.flags, "reported_zero"))
        return _reported(outcome, reported, book, (outcome.status,))
    diverges = _diverges(outcome, reported)
    marks = ("reported_divergence",) if diverges else ()
    if book.books_reported(outcome.provider):
        return _reported(outcome, reported, book, marks)
    if outcome.source == "override":
        # The user's own contract: the public figure is not the bill.
        return outcome._replace(flags=(*outcome.flags, *marks))
    if outcome.status not in EXACT and reported:
        return _reported(
            outcome,
            reported,
            book,
            (outcome.status, *marks),
        )
    if not diverges:
        return outcome
    status = outcome.status
    if status in EXACT:
        computed = Decimal(outcome.cost_pusd).scaleb(-12)
        status = "lower_bound" if reported > computed else "upper_bound"
    # A report of nothing makes no ceiling of a sum that may be too low.
    return outcome._replace(
        status=status,
        flags=(*outcome.flags, *marks),
    )


def _amount(text: str) -> Decimal | None:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount <= _LARGEST_REPORT:
        return None
    return amount


def _diverges(charged: Charge, reported: Decimal) -> bool:
    computed = Decimal(charged.cost_pusd).scaleb(-12)
    allowed = max(
        _AGREES_WITHIN * max(computed, reported),
        _AGREES_USD,
    )
    return abs(computed - reported) > allowed


def _reported(
    outcome: Outcome, reported: Decimal, book: PriceBook, marks: tuple[str, ...]
) -> Charge:
    """Return the provider's own figure as the charge."""
    frozen = book.reported(outcome.provider or "unknown")
    return Charge(
        int((reported * PICO).to_integral_value(rounding="ROUND_HALF_EVEN")),
        "provider_reported",
        (),
        frozen.provider,
        outcome.model or "unknown",
        "provider",
        frozen.hash,
        (*outcome.flags, *marks),
    )
