"""Which of a ledger's models the book of today can price."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import text

from crewmeter_cost.ledger.location import ledger_url, sqlite_path
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.charge_result import Unpriced
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Covered", "of_ledger"]

_MODELS = """
    SELECT provider, request_model, response_model, COUNT(*) AS calls, SUM(unpriced) AS unpriced
    FROM calls {} GROUP BY provider, request_model, response_model ORDER BY calls DESC
"""


class Covered(NamedTuple):
    """One model's calls, how many lack a cost, and what would price it today."""

    provider: str
    model: str
    calls: int
    unpriced: int
    today: str | None
    """The source that has its price, or None."""
    reason: str
    """Why there is none, else empty."""


def of_ledger(
    url: str | None, *, since: datetime | None = None, until: datetime | None = None
) -> list[Covered] | None:
    """Return every model called in [since, until), most calls first.

    Whole seconds. None where there is no ledger yet and none was named.
    """
    file = sqlite_path(ledger_url(url))
    if url is None and file is not None and not file.exists():
        return None
    with Ledger.open(url, read_only=True) as ledger:
        return _covered(ledger, PriceBook.load(), since, until)


def _covered(
    ledger: Ledger, book: PriceBook, since: datetime | None, until: datetime | None
) -> list[Covered]:
    window = {
        name: math.ceil(moment.timestamp())
        for name, moment in (("since", since), ("until", until))
        if moment is not None
    }
    bounds = [
        f"time {sign} :{name}" for name, sign in (("since", ">="), ("until", "<")) if name in window
    ]
    with ledger.reading() as connection:
        rows = connection.execute(
            text(_MODELS.format(f"WHERE {' AND '.join(bounds)}" if bounds else "")), window
        ).all()
    now = time.time_ns()
    covered: dict[tuple[str, str], Covered] = {}
    for row in rows:
        plan = book.plan(
            row.provider,
            row.request_model,
            None,
            row.response_model,
            None,
            now,
        )
        today, reason = (None, plan.reason) if isinstance(plan, Unpriced) else (plan.source, "")
        key = (row.provider or "–", row.request_model or row.response_model or "–")
        sofar = covered.get(
            key,
            Covered(*key, 0, 0, today, reason),
        )
        covered[key] = sofar._replace(
            calls=sofar.calls + int(row.calls), unpriced=sofar.unpriced + int(row.unpriced)
        )
    return sorted(
        covered.values(),
        key=lambda each: -each.calls,
    )
