"""Which of a ledger's models the book of today can price."""

from __future__ import annotations

import time
from typing import NamedTuple

from sqlalchemy import Engine, text

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.book import PriceBook
from crewmeter_cost.pricing.outcome import Unpriced

__all__ = ["Covered", "of_ledger"]

_MODELS = text(
    """
    SELECT provider, request_model, response_model, COUNT(*) AS calls, SUM(unpriced) AS unpriced
    FROM calls GROUP BY provider, request_model, response_model ORDER BY calls DESC
    """
)


class Covered(NamedTuple):
    """One model of the ledger: how many calls it has, how many without a cost, and what would price it today."""

    provider: str
    model: str
    calls: int
    unpriced: int
    today: str | None
    """The source that has its price, or None."""
    reason: str
    """Why there is none, else empty."""


def of_ledger(url: str | None) -> list[Covered] | None:
    """Every model in a ledger, the busiest first; None where there is no ledger (and none was named)."""
    try:
        with Ledger.open(url, read_only=True) as ledger:
            return _covered(ledger.engine, PriceBook.load())
    except CrewMeterError:
        if url is not None:
            raise
        return None


def _covered(engine: Engine, book: PriceBook) -> list[Covered]:
    with engine.connect() as connection:
        rows = connection.execute(_MODELS).all()
    now = time.time_ns()
    covered: dict[tuple[str, str], Covered] = {}
    for row in rows:
        plan = book.plan(row.provider, row.request_model, None, row.response_model, None, now)
        today, reason = (None, plan.reason) if isinstance(plan, Unpriced) else (plan.source, "")
        key = (row.provider or "–", row.request_model or row.response_model or "–")
        sofar = covered.get(key, Covered(*key, 0, 0, today, reason))
        covered[key] = sofar._replace(calls=sofar.calls + int(row.calls), unpriced=sofar.unpriced + int(row.unpriced))
    return sorted(covered.values(), key=lambda each: -each.calls)
