"""A filter as SQL conditions on runs, and on the calls and tool steps of a report.

Names are looked up in the ledger's labels and compared by their ids; every value is bound.
"""

from __future__ import annotations

import json
import operator
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exists, func, not_, or_, select

from crewmeter_cost.filters import RUN_STATUSES
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from crewmeter_cost.filters import Filter, Term

__all__ = ["call_conditions", "cost_order", "run_conditions", "search_condition", "step_conditions"]

_CALL = core_tables.call
_STEP = core_tables.step
_RUN = core_tables.run
_LABEL, _TAGS = core_tables.label, core_tables.tag_set

_ON_STEP = ("crew", "flow", "task", "agent")
_ON_RUN = ("user", "team", "session", "service", "environment")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_MAX_TAG_SETS = 30_000
"""Tag sets that one tag term may match; a statement has a bounded number of parameters."""


def run_conditions(connection: Connection, wanted: Filter) -> list[ColumnElement[bool]]:
    """Return the conditions under which a run matches.

    A run matches names where one of its calls has them all, or, for names that its steps or the
    run itself carry, where those have them. Tools are looked for among the run's steps.
    """
    conditions = [_of_run(connection, term) for term in wanted.of_run]
    tools = [term for term in wanted.names if term.key == "tool"]
    conditions += [_negatable(term, _has_tool(term)) for term in tools]
    names = [term for term in wanted.names if term.key != "tool"]
    positive = [term for term in names if term.operator == "="]
    if positive:
        conditions.append(_has_names(connection, positive))
    for term in names:
        if term.operator == "!=":
            conditions.append(
                _negatable(
                    term,
                    _has_names(connection, [term]),
                )
            )
    return conditions


def call_conditions(connection: Connection, wanted: Filter) -> list[ColumnElement[bool]]:
    """Return the conditions on `call`.

    Names are the call's own, the rest is about its run.
    """
    conditions = [
        _negatable(
            term,
            _call_has(connection, term),
        )
        for term in wanted.names
    ]
    return conditions + _in_matching_run(
        connection,
        wanted,
        _CALL.c.run,
    )


def step_conditions(connection: Connection, wanted: Filter) -> list[ColumnElement[bool]]:
    """Return the conditions on tool steps, which must be joined to their run."""
    conditions = [
        _negatable(
            term,
            _step_has(connection, term),
        )
        for term in wanted.names
    ]
    return conditions + _in_matching_run(
        connection,
        wanted,
        _STEP.c.run,
    )


def search_condition(text: str) -> ColumnElement[bool]:
    """Return the condition under which a run's id, or a name in it, contains `text`."""
    labels = select(_LABEL.c.id).where(
        func.lower(_LABEL.c.value).contains(text.lower(), autoescape=True),
    )
    own = [_RUN.c[name].in_(labels) for name in ("name", "error_type", *_ON_RUN)]
    step_names = [_STEP.c[name].in_(labels) for name in ("name", *_ON_STEP)]
    in_steps = exists().where(
        _STEP.c.run == _RUN.c.id,
        or_(*step_names),
    )
    models = or_(
        _CALL.c.request_model.in_(labels),
        _CALL.c.response_model.in_(labels),
    )
    in_calls = exists().where(
        _CALL.c.run == _RUN.c.id,
        models,
    )
    ids = _RUN.c.run_id.contains(text, autoescape=True)
    return or_(ids, *own, in_steps, in_calls)


def cost_order() -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Return a run's cost as two columns that sort and compare exactly.

    USD, then pico-USD.
    """
    # The second column of a sum may exceed a dollar, so it is carried over here.
    whole = _RUN.c.cost_whole_usd + _RUN.c.cost_pusd // PICO
    return whole, _RUN.c.cost_pusd % PICO


def _negatable(term: Term, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition, or its opposite for ``!=``.

    What has no such name is not equal.
    """
    if term.operator == "!=":
        return not_(func.coalesce(condition, False))
    return condition


def _in_matching_run(
    connection: Connection, wanted: Filter, column: ColumnElement[Any]
) -> list[ColumnElement[bool]]:
    """Return the condition that a call's or step's run matches the run's terms."""
    if not wanted.of_run:
        return []
    of_run = [_of_run(connection, term) for term in wanted.of_run]
    return [column.in_(select(_RUN.c.id).where(*of_run))]


def _of_run(connection: Connection, term: Term) -> ColumnElement[bool]:
    """Return one term about a run's identity, outcome or totals."""
    c = _RUN.c
    if term.key == "status":
        condition: ColumnElement[bool] = c.status.in_(RUN_STATUSES[term.value])
    elif term.key == "run":
        condition = c.run_id == term.value
    elif term.key == "kind":
        condition = c.kind == term.value
    elif term.key == "name":
        condition = c.name.in_(select(_LABEL.c.id).where(_LABEL.c.value == term.value))
    elif term.key == "error":
        # A part is enough: people write Timeout for openai.APITimeoutError.
        part = func.lower(_LABEL.c.value).contains(
            term.value.lower(),
            autoescape=True,
        )
        errors = select(_LABEL.c.id).where(
            _LABEL.c.kind == "error_type",
            part,
        )
        failed_step = exists().where(
            _STEP.c.run == c.id,
            _STEP.c.error_type.in_(errors),
        )
        failed_call = exists().where(
            _CALL.c.run == c.id,
            _CALL.c.error_type.in_(errors),
        )
        condition = or_(
            c.error_type.in_(errors),
            failed_step,
            failed_call,
        )
    elif term.key == "cost":
        return and_(_cost_is_known(), _cost(term))
    else:
        column = c.duration_ns if term.key == "duration" else c[term.key]
        return _COMPARE[term.operator](column, term.amount)  # type: ignore[no-any-return]
    return _negatable(term, condition)


def _cost_is_known() -> ColumnElement[bool]:
    """Return the condition that a run has a cost.

    A priced call, or no call that lacks a price.
    """
    return or_(
        _RUN.c.priced_calls > 0,
        _RUN.c.unpriced_calls == 0,
    )


def _cost(term: Term) -> ColumnElement[bool]:
    """Return the comparison of a run's cost with an amount in pico-USD."""
    whole, pico = cost_order()
    dollars, rest = divmod(term.amount, PICO)
    same = and_(
        whole == dollars,
        pico == rest,
    )
    if term.operator == "=":
        return same
    if term.operator == "!=":
        return not_(same)
    compare = _COMPARE[term.operator]
    strictly = _COMPARE[term.operator[0]]
    return or_(
        strictly(whole, dollars),
        and_(whole == dollars, compare(pico, rest)),
    )


def _has_names(connection: Connection, terms: Sequence[Term]) -> ColumnElement[bool]:
    """Return the condition that a run has all these names, ignoring signs."""
    calls = [_call_has(connection, term) for term in terms]
    ways: list[ColumnElement[bool]] = [
        exists().where(
            _CALL.c.run == _RUN.c.id,
            *calls,
        )
    ]
    on_step = [term for term in terms if term.key in _ON_STEP]
    elsewhere = [term for term in terms if term.key not in _ON_STEP]
    on_run = [_run_has(connection, term) for term in elsewhere]
    if all(condition is not None for condition in on_run):
        carried = [condition for condition in on_run if condition is not None]
        if on_step:
            labels = [
                _label(
                    _STEP.c[term.key],
                    term.key,
                    term.value,
                )
                for term in on_step
            ]
            carried.append(
                exists().where(
                    _STEP.c.run == _RUN.c.id,
                    *labels,
                )
            )
        ways.append(and_(*carried))
    return or_(*ways)


def _has_tool(term: Term) -> ColumnElement[bool]:
    """Return the condition that a tool of that name was used in a run."""
    kinds = select(_LABEL.c.id).where(
        _LABEL.c.kind == "kind",
        _LABEL.c.value == "tool",
    )
    return exists().where(
        _STEP.c.run == _RUN.c.id,
        _STEP.c.kind.in_(kinds),
        _label(_STEP.c.name, "tool", term.value),
    )


def _run_has(connection: Connection, term: Term) -> ColumnElement[bool] | None:
    """Return the condition on the run's own columns, None for names it lacks."""
    if term.key in _ON_RUN:
        return _label(
            _RUN.c[term.key],
            term.key,
            term.value,
        )
    if term.key.startswith("tag:"):
        return _RUN.c.tag_set.in_(_tag_sets(connection, term))
    return None


def _call_has(connection: Connection, term: Term) -> ColumnElement[bool]:
    """Return the condition that a call has the name."""
    if term.key == "model":
        column: Any = func.coalesce(
            _CALL.c.request_model,
            _CALL.c.response_model,
        )
        return _label(column, "model", term.value)
    if term.key.startswith("tag:"):
        return _CALL.c.tag_set.in_(_tag_sets(connection, term))
    return _label(
        _CALL.c[term.key],
        term.key,
        term.value,
    )


def _step_has(connection: Connection, term: Term) -> ColumnElement[bool]:
    """Return the condition that a tool step or its joined run has the name."""
    if term.key == "tool":
        return _label(_STEP.c.name, "tool", term.value)
    carried = _run_has(connection, term)
    if carried is not None:
        return carried
    return _label(
        _STEP.c[term.key],
        term.key,
        term.value,
    )


def _label(column: ColumnElement[Any], kind: str, value: str) -> ColumnElement[bool]:
    """Return the condition that a column of label ids names `value`."""
    labels = select(_LABEL.c.id).where(
        _LABEL.c.kind == kind,
        _LABEL.c.value == value,
    )
    return column.in_(labels)


def _tag_sets(connection: Connection, term: Term) -> list[int]:
    """Return the tag sets in which the tag has the value."""
    key = term.key.removeprefix("tag:")
    found = []
    for number, text in connection.execute(select(_TAGS.c.id, _TAGS.c.tags)):
        value = json.loads(text).get(key)
        if value is not None and str(value) == term.value:
            found.append(number)
    return found[:_MAX_TAG_SETS]
