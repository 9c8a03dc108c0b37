"""What a budget's scope has spent in a window, according to the ledger.

Whole hours come from roll-ups, the rest from the calls.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine

    from crewmeter_cost.budgets.definition import Budget

__all__ = ["hourly_pusd", "names_since", "spent_pusd"]

_call = core_tables.call
_rollup = core_tables.rollup_hour
_tag_set = core_tables.tag_set
_label = core_tables.label

HOUR = 3600
SECOND_NS = 10**9

_ROLLUP_KEYS = {
    "everything": ("total", None),
    "crew": ("crew", "key"),
    "agent": ("crew", "key2"),
    "model": ("model", "key2"),
    "team": ("team", "key"),
    "user": ("team", "key2"),
    "tag": ("tag", "key"),
}
"""Scope → (roll-up dimension, which of its keys names the scope).

Flow and session have no roll-up and are summed from calls.
"""

_WIDE = 10**6
"""Calls are summed in two parts, since a sum of many int64 pico-dollars may pass int64."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """A budget's scope in a ledger: its kind, value, and the id of its label."""

    kind: str
    value: str | None
    label: int | None


def spent_pusd(engine: Engine, budget: Budget, *, start: int | None, end: int | None) -> int:
    """Return integer pico-USD spent by the budget's scope in [start, end).

    Times are unix seconds. None is open.
    """
    with engine.connect() as connection:
        label = None
        if budget.scope != "everything":
            label = _label_id(connection, budget.scope, budget.value)
            if label is None:
                return 0
        scope = _Scope(budget.scope, budget.value, label)
        if budget.scope not in _ROLLUP_KEYS:
            return _from_calls(
                connection,
                _call.c[budget.scope] == label,
                start,
                end,
            )
        first = None if start is None else -(-start // HOUR) * HOUR
        last = None if end is None else end // HOUR * HOUR
        if first is not None and last is not None and first > last:
            return _from_calls(
                connection,
                _calls_of(connection, scope),
                start,
                end,
            )
        total = _from_rollups(connection, scope, first, last)
        if first != start:
            total += _from_calls(
                connection,
                _calls_of(connection, scope),
                start,
                first,
            )
        if last != end:
            total += _from_calls(
                connection,
                _calls_of(connection, scope),
                last,
                end,
            )
        return total


def hourly_pusd(
    engine: Engine, *, scope: str, value: str | None, start: int, end: int
) -> dict[int, int]:
    """Return pico-USD per hour in [start, end), for a scope that has a roll-up.

    Keys are unix seconds of an hour's start. Hours without calls are absent.
    """
    with engine.connect() as connection:
        label = None
        if _ROLLUP_KEYS[scope][1] is not None:
            label = _label_id(connection, scope, value)
        rows = _rollup_rows(_Scope(scope, value, label))
        sums = select(
            _rollup.c.hour, func.sum(_rollup.c.cost_whole_usd), func.sum(_rollup.c.cost_pusd)
        )
        query = sums.where(
            _within(
                rows,
                _rollup.c.hour,
                start,
                end,
            )
        ).group_by(_rollup.c.hour)
        return {
            int(hour): _exact_pusd(whole, pusd) for hour, whole, pusd in connection.execute(query)
        }


def names_since(engine: Engine, scope: str, start: int) -> list[str]:
    """Return the sorted names of a scope's kind with calls since `start`.

    `start` is in unix seconds.
    """
    dimension, key = _ROLLUP_KEYS[scope]
    of_kind = _rollup.c.dimension == DIMENSIONS[dimension].code
    ids = select(_rollup.c[key or "key"]).where(of_kind & (_rollup.c.hour >= start)).distinct()
    with engine.connect() as connection:
        return sorted(connection.scalars(select(_label.c.value).where(_label.c.id.in_(ids))))


def _label_id(connection: Connection, kind: str, value: str | None) -> int | None:
    found = (_label.c.kind == kind) & (_label.c.value == value)
    label: int | None = connection.scalar(select(_label.c.id).where(found))
    return label


def _calls_of(connection: Connection, scope: _Scope) -> ColumnElement[bool]:
    """Return the condition for a scope's calls, for hours not wholly in a window."""
    if scope.label is None:
        return _call.c.id.is_not(None)
    if scope.kind == "model":
        return (_call.c.request_model == scope.label) | (_call.c.response_model == scope.label)
    if scope.kind == "tag":
        key, _, value = str(scope.value).partition("=")
        sets = connection.execute(
            select(
                _tag_set.c.id,
                _tag_set.c.tags,
            )
        )
        ids = [row.id for row in sets if json.loads(row.tags).get(key) == value]
        return _call.c.tag_set.in_(ids)
    return _call.c[scope.kind] == scope.label


def _rollup_rows(scope: _Scope) -> ColumnElement[bool]:
    dimension, key = _ROLLUP_KEYS[scope.kind]
    of_kind = _rollup.c.dimension == DIMENSIONS[dimension].code
    if key is None:
        return of_kind
    return of_kind & (_rollup.c[key] == scope.label)


def _from_rollups(connection: Connection, scope: _Scope, start: int | None, end: int | None) -> int:
    sums = select(
        func.sum(_rollup.c.cost_whole_usd),
        func.sum(_rollup.c.cost_pusd),
    )
    rows = _within(
        _rollup_rows(scope),
        _rollup.c.hour,
        start,
        end,
    )
    whole, pusd = connection.execute(sums.where(rows)).one()
    return _exact_pusd(whole, pusd)


def _from_calls(
    connection: Connection, calls: ColumnElement[bool], start: int | None, end: int | None
) -> int:
    start_ns = None if start is None else start * SECOND_NS
    end_ns = None if end is None else end * SECOND_NS
    high_sum = func.sum(_call.c.cost_pusd // _WIDE)
    low_sum = func.sum(_call.c.cost_pusd % _WIDE)
    rows = _within(
        calls,
        _call.c.started_ns,
        start_ns,
        end_ns,
    )
    high, low = connection.execute(select(high_sum, low_sum).where(rows)).one()
    return int(high or 0) * _WIDE + int(low or 0)


def _exact_pusd(whole_usd: int | None, pusd: int | None) -> int:
    return int(whole_usd or 0) * PICO + int(pusd or 0)


def _within(
    rows: ColumnElement[bool], column: ColumnElement[int], start: int | None, end: int | None
) -> ColumnElement[bool]:
    if start is not None:
        rows &= column >= start
    if end is None:
        return rows
    return rows & (column < end)
