"""What a budget's scope has spent in a window, according to the ledger: whole hours from roll-ups, the rest from the calls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from crewmeter_cost.ledger.schema.tables import CallRow, Label, RollupHour, TagSet, table_of
from crewmeter_cost.ledger.write.rollups import DIMENSIONS
from crewmeter_cost.pricing.charge import PICO

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine

    from crewmeter_cost.budgets.definition import Budget

__all__ = ["hourly_pusd", "names_since", "spent_pusd"]

_call = table_of(CallRow)
_rollup = table_of(RollupHour)
_tag_set = table_of(TagSet)
_label = table_of(Label)

_ROLLUP = {
    "everything": ("total", None),
    "crew": ("crew", "key"),
    "agent": ("crew", "key2"),
    "model": ("model", "key2"),
    "team": ("team", "key"),
    "user": ("team", "key2"),
    "tag": ("tag", "key"),
}
"""Scope → (roll-up dimension, which of its keys names the scope). Flow and session have no roll-up and are summed from calls."""

_WIDE = 10**6
"""Single calls are summed in two parts, because the sum of many int64 pico-dollars may pass int64."""


def spent_pusd(engine: Engine, budget: Budget, *, start: int | None, end: int | None) -> int:
    """Integer pico-USD spent by the budget's scope in [start, end), unix seconds; None is open."""
    with engine.connect() as connection:
        label = None
        if budget.scope != "everything":
            label = connection.scalar(
                select(_label.c.id).where(
                    (_label.c.kind == budget.scope) & (_label.c.value == budget.value)
                )
            )
            if label is None:
                return 0
        if budget.scope not in _ROLLUP:
            return _from_calls(connection, _call.c[budget.scope] == label, start, end)
        first = None if start is None else -(-start // 3600) * 3600
        last = None if end is None else end // 3600 * 3600
        if first is not None and last is not None and first > last:
            return _from_calls(connection, _match(connection, budget, label), start, end)
        total = _from_rollups(connection, budget.scope, label, first, last)
        if first != start:
            total += _from_calls(connection, _match(connection, budget, label), start, first)
        if last != end:
            total += _from_calls(connection, _match(connection, budget, label), last, end)
        return total


def hourly_pusd(
    engine: Engine, *, scope: str, value: str | None, start: int, end: int
) -> dict[int, int]:
    """Integer pico-USD per hour (unix seconds of its start) in [start, end) for a scope that has a roll-up; quiet hours are absent."""
    dimension, key = _ROLLUP[scope]
    with engine.connect() as connection:
        where = _within(
            _rollup.c.dimension == DIMENSIONS[dimension].code, _rollup.c.hour, start, end
        )
        if key is not None:
            label = connection.scalar(
                select(_label.c.id).where((_label.c.kind == scope) & (_label.c.value == value))
            )
            where &= _rollup.c[key] == label
        sums = select(
            _rollup.c.hour, func.sum(_rollup.c.cost_whole_usd), func.sum(_rollup.c.cost_pusd)
        )
        rows = connection.execute(sums.where(where).group_by(_rollup.c.hour))
        return {int(hour): int(whole or 0) * PICO + int(pusd or 0) for hour, whole, pusd in rows}


def names_since(engine: Engine, scope: str, start: int) -> list[str]:
    """The names of a scope's kind (``team`` → every team) with calls since `start` (unix seconds), sorted."""
    dimension, key = _ROLLUP[scope]
    with engine.connect() as connection:
        used = (
            select(_rollup.c[key or "key"])
            .where((_rollup.c.dimension == DIMENSIONS[dimension].code) & (_rollup.c.hour >= start))
            .distinct()
        )
        return sorted(connection.scalars(select(_label.c.value).where(_label.c.id.in_(used))))


def _match(connection: Connection, budget: Budget, label: int | None) -> ColumnElement[bool]:
    """The calls of a scope, for the part of an hour that roll-ups can't tell."""
    if label is None:
        return _call.c.id.is_not(None)
    if budget.scope == "model":
        return (_call.c.request_model == label) | (_call.c.response_model == label)
    if budget.scope == "tag":
        key, _, value = str(budget.value).partition("=")
        sets = connection.execute(select(_tag_set.c.id, _tag_set.c.tags)).all()
        return _call.c.tag_set.in_(
            [row.id for row in sets if json.loads(row.tags).get(key) == value]
        )
    return _call.c[budget.scope] == label


def _from_rollups(
    connection: Connection, scope: str, label: int | None, start: int | None, end: int | None
) -> int:
    dimension, key = _ROLLUP[scope]
    where = _rollup.c.dimension == DIMENSIONS[dimension].code
    if key is not None:
        where &= _rollup.c[key] == label
    sums = select(func.sum(_rollup.c.cost_whole_usd), func.sum(_rollup.c.cost_pusd))
    whole, pusd = connection.execute(sums.where(_within(where, _rollup.c.hour, start, end))).one()
    return int(whole or 0) * PICO + int(pusd or 0)


def _from_calls(
    connection: Connection, match: ColumnElement[bool], start: int | None, end: int | None
) -> int:
    scaled = None if start is None else start * 10**9, None if end is None else end * 10**9
    high, low = connection.execute(
        select(func.sum(_call.c.cost_pusd // _WIDE), func.sum(_call.c.cost_pusd % _WIDE)).where(
            _within(match, _call.c.started_ns, *scaled)
        )
    ).one()
    return int(high or 0) * _WIDE + int(low or 0)


def _within(
    where: ColumnElement[bool], column: ColumnElement[int], start: int | None, end: int | None
) -> ColumnElement[bool]:
    if start is not None:
        where &= column >= start
    return where if end is None else where & (column < end)
