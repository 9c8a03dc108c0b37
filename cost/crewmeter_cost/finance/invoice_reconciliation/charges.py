"""The prices that calls were charged at: each frozen price list and its period."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, func, or_, select

from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.money import moment, nanoseconds

if TYPE_CHECKING:
    from datetime import datetime

    from crewmeter_cost.ledger.store import Ledger
    from crewmeter_cost.pricing.unit_prices import Prices

__all__ = ["Charged", "charged"]

_CALL = core_tables.call
_LABEL = core_tables.label
_VERSION = core_tables.price_version


class Charged(NamedTuple):
    """One frozen price list and the calls of the model that were charged at it."""

    source: str
    provider: str
    model: str
    """The catalogue's name of it."""
    prices: Prices
    calls: int
    first_call: str
    """When it was first charged, RFC 3339 in UTC."""
    last_call: str


def charged(
    ledger: Ledger,
    model: str,
    provider: str | None,
    *,
    since: datetime | None,
    until: datetime | None,
) -> list[Charged]:
    """Return the price lists used for `model` in [since, until), by first use.

    The model is matched by requested or response name.
    """
    start = nanoseconds(since)
    end = nanoseconds(until)
    c = _CALL.c
    named = select(_LABEL.c.id).where(func.lower(_LABEL.c.value) == model.lower())
    within = [c.started_ns >= start] if start is not None else []
    within += [c.started_ns < end] if end is not None else []
    requested = or_(
        c.request_model.in_(named),
        c.response_model.in_(named),
        func.lower(_VERSION.c.model) == model.lower(),
    )
    joined = _CALL.join(
        _VERSION,
        _VERSION.c.id == c.price_version,
    )
    columns = (_VERSION.c.source, _VERSION.c.provider, _VERSION.c.model, _VERSION.c.rates)
    first = func.min(c.started_ns)
    query = (
        select(*columns, func.count(), first, func.max(c.started_ns))
        .select_from(joined)
        .where(and_(requested, *within))
    )
    with ledger.reading() as connection:
        rows = connection.execute(
            query.group_by(
                _VERSION.c.id,
                *columns,
            ).order_by(first)
        ).all()
    return [
        Charged(source, seller, name, json.loads(rates), int(calls), moment(began), moment(ended))
        for source, seller, name, rates, calls, began, ended in rows
        if provider is None or seller == provider
    ]
