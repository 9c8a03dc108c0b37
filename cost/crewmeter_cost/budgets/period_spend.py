"""What a budget's scope has spent in a window, according to the ledger.

Whole hours come from roll-ups, the rest from the calls.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.read.query import started_within, within
from crewmeter_cost.ledger.read.rollup_windows import hour_parts
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS
from crewmeter_cost.ledger.sql import Sql, any_of, column, one_of, sql, where
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.ledger.session import Session

__all__ = ["hourly_pusd", "names_since", "spent_pusd"]

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


def spent_pusd(session: Session, budget: Budget, *, start: int | None, end: int | None) -> int:
    """Return integer pico-USD spent by the budget's scope in [start, end).

    Times are unix seconds. None is open.
    """
    label = None
    if budget.scope != "everything":
        label = _label_id(session, budget.scope, budget.value)
        if label is None:
            return 0
    scope = _Scope(budget.scope, budget.value, label)
    calls = _calls_of(session, scope)
    if budget.scope not in _ROLLUP_KEYS:
        return _from_calls(session, calls, start, end)
    (first, last), edges = hour_parts(start, end)
    total = _from_rollups(session, scope, first, last)
    return total + sum(_from_calls(session, calls, *edge) for edge in edges)


def hourly_pusd(
    session: Session, *, scope: str, value: str | None, start: int, end: int
) -> dict[int, int]:
    """Return pico-USD per hour in [start, end), for a scope that has a roll-up.

    Keys are unix seconds of an hour's start. Hours without calls are absent.
    """
    label = None
    if _ROLLUP_KEYS[scope][1] is not None:
        label = _label_id(session, scope, value)
    conditions = _rollup_rows(_Scope(scope, value, label))
    conditions += within("hour", start, end)
    query = sql(
        "SELECT hour, sum(cost_whole_usd), sum(cost_pusd) FROM rollup_hour",
        where(conditions),
        "GROUP BY hour",
    )
    spent = {}
    for hour, whole, pusd in session.rows(query):
        spent[int(hour)] = _exact_pusd(whole, pusd)
    return spent


def names_since(session: Session, scope: str, start: int) -> list[str]:
    """Return the sorted names of a scope's kind with calls since `start`.

    `start` is in unix seconds.
    """
    dimension, key = _ROLLUP_KEYS[scope]
    of_kind = Sql("dimension = ? AND hour >= ?", (DIMENSIONS[dimension].code, start))
    ids = sql("SELECT", key or "key", "FROM rollup_hour", where([of_kind]))
    named = one_of("id", ids)
    rows = session.rows(sql("SELECT value FROM label", where([named])))
    return sorted(name for (name,) in rows)


def _label_id(session: Session, kind: str, value: str | None) -> int | None:
    query = Sql("SELECT id FROM label WHERE kind = ? AND value = ?", (kind, value))
    label: int | None = session.value(query)
    return label


def _calls_of(session: Session, scope: _Scope) -> list[Sql]:
    """Return the conditions for a scope's calls, for hours not wholly in a window."""
    if scope.label is None:
        return []
    if scope.kind == "model":
        requested = Sql("call.request_model = ?", (scope.label,))
        answered = Sql("call.response_model = ?", (scope.label,))
        return [any_of([requested, answered])]
    if scope.kind == "tag":
        key, _, value = str(scope.value).partition("=")
        sets = session.rows(Sql("SELECT id, tags FROM tag_set"))
        ids = [number for number, tags in sets if json.loads(tags).get(key) == value]
        return [one_of("call.tag_set", ids)]
    subject = column("call", scope.kind)
    return [Sql(f"{subject} = ?", (scope.label,))]


def _rollup_rows(scope: _Scope) -> list[Sql]:
    dimension, key = _ROLLUP_KEYS[scope.kind]
    code = DIMENSIONS[dimension].code
    conditions = [Sql("dimension = ?", (code,))]
    if key is not None:
        conditions.append(Sql(f"{key} = ?", (scope.label,)))
    return conditions


def _from_rollups(session: Session, scope: _Scope, start: int | None, end: int | None) -> int:
    conditions = _rollup_rows(scope)
    conditions += within("hour", start, end)
    query = sql(
        "SELECT sum(cost_whole_usd), sum(cost_pusd) FROM rollup_hour",
        where(conditions),
    )
    ((whole, pusd),) = session.rows(query)
    return _exact_pusd(whole, pusd)


def _from_calls(session: Session, calls: list[Sql], start: int | None, end: int | None) -> int:
    start_ns = None if start is None else start * SECOND_NS
    end_ns = None if end is None else end * SECOND_NS
    conditions = started_within("call", start_ns, end_ns)
    query = sql(
        f"SELECT sum(cost_pusd / {_WIDE}), sum(cost_pusd % {_WIDE}) FROM call",  # noqa: S608
        where([*conditions, *calls]),
    )
    ((high, low),) = session.rows(query)
    return int(high or 0) * _WIDE + int(low or 0)


def _exact_pusd(whole_usd: int | None, pusd: int | None) -> int:
    return int(whole_usd or 0) * PICO + int(pusd or 0)
