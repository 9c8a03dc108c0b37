"""A filter as SQL conditions on runs, and on the calls and tool steps of a report.

Names are looked up in the ledger's labels and compared by their ids; every value is bound.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crewmeter_cost.filters import RUN_STATUSES
from crewmeter_cost.ledger.sql import (
    Sql,
    all_of,
    any_of,
    column,
    contains,
    negated,
    one_of,
    sql,
    where,
)
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crewmeter_cost.filters import Filter, Term
    from crewmeter_cost.ledger.session import Session

__all__ = ["call_conditions", "cost_order", "run_conditions", "search_condition", "step_conditions"]

_ON_STEP = ("crew", "flow", "task", "agent")
_ON_RUN = ("user", "team", "session", "service", "environment")
_SEARCHED = {
    "step": ("name", *_ON_STEP),
    "call": ("request_model", "response_model"),
}
"""Table → names in which a text is searched."""
_MAX_TAG_SETS = 30_000
"""Tag sets that one tag term may match; a statement has a bounded number of parameters."""


def run_conditions(session: Session, wanted: Filter) -> list[Sql]:
    """Return the conditions under which a run matches.

    A run matches names where one of its calls has them all, or, for names that its steps or the
    run itself carry, where those have them. Tools are looked for among the run's steps.
    """
    conditions = [_of_run(term) for term in wanted.of_run]
    equal = []
    for term in wanted.names:
        if term.key == "tool":
            conditions.append(_negatable(term, _has_tool(term)))
        elif term.operator == "=":
            equal.append(term)
        else:
            conditions.append(negated(_has_names(session, [term])))
    if equal:
        conditions.append(_has_names(session, equal))
    return conditions


def call_conditions(session: Session, wanted: Filter) -> list[Sql]:
    """Return the conditions on `call`.

    Names are the call's own, the rest is about its run.
    """
    conditions = _in_matching_run(wanted, "call.run")
    for term in wanted.names:
        condition = _call_has(session, term)
        conditions.append(_negatable(term, condition))
    return conditions


def step_conditions(session: Session, wanted: Filter) -> list[Sql]:
    """Return the conditions on tool steps, which must be joined to their run."""
    conditions = _in_matching_run(wanted, "step.run")
    for term in wanted.names:
        condition = _step_has(session, term)
        conditions.append(_negatable(term, condition))
    return conditions


def search_condition(text: str) -> Sql:
    """Return the condition under which a run's id, or a name in it, contains `text`."""
    labels = _labels(contains("lower(value)", text.lower()))
    ways = [contains("run.run_id", text)]
    own = (column("run", name) for name in ("name", "error_type", *_ON_RUN))
    ways.extend(one_of(subject, labels) for subject in own)
    for table, names in _SEARCHED.items():
        named = [one_of(column(table, name), labels) for name in names]
        ways.append(_exists(table, [any_of(named)]))
    return any_of(ways)


def cost_order() -> tuple[str, str]:
    """Return a run's cost as two columns that sort and compare exactly.

    USD, then pico-USD.
    """
    # The second column of a sum may exceed a dollar, so it is carried over here.
    return f"(run.cost_whole_usd + run.cost_pusd / {PICO})", f"(run.cost_pusd % {PICO})"


def _exists(table: str, conditions: Sequence[Sql]) -> Sql:
    """Return the condition that the run has such a call or step."""
    of_run = Sql(f"{table}.run = run.id")
    return sql("EXISTS (SELECT 1 FROM", table, where([of_run, *conditions]), ")")


def _labels(condition: Sql) -> Sql:
    """Return the query of the labels' ids that meet a condition."""
    return sql("SELECT id FROM label", where([condition]))


def _negatable(term: Term, condition: Sql) -> Sql:
    """Return the condition, or its opposite for ``!=``.

    What has no such name is not equal.
    """
    if term.operator == "!=":
        return negated(condition)
    return condition


def _in_matching_run(wanted: Filter, subject: str) -> list[Sql]:
    """Return the condition that a call's or step's run matches the run's terms."""
    if not wanted.of_run:
        return []
    of_run = [_of_run(term) for term in wanted.of_run]
    return [one_of(subject, sql("SELECT run.id FROM run", where(of_run)))]


def _of_run(term: Term) -> Sql:
    """Return one term about a run's identity, outcome or totals."""
    if term.key == "status":
        condition = one_of("run.status", RUN_STATUSES[term.value])
    elif term.key == "run":
        condition = Sql("run.run_id = ?", (term.value,))
    elif term.key == "kind":
        condition = Sql("run.kind = ?", (term.value,))
    elif term.key == "name":
        condition = one_of("run.name", _labels(Sql("value = ?", (term.value,))))
    elif term.key == "error":
        condition = _failed_with(term.value)
    elif term.key == "cost":
        return all_of([_COST_IS_KNOWN, _cost(term)])
    else:
        amount = "duration_ns" if term.key == "duration" else term.key
        return Sql(f"run.{amount} {term.operator} ?", (term.amount,))
    return _negatable(term, condition)


def _failed_with(text: str) -> Sql:
    """Return the condition that a run, or a part of it, failed with such an error."""
    # A part is enough: people write Timeout for openai.APITimeoutError.
    part = contains("lower(value)", text.lower())
    errors = _labels(all_of([Sql("kind = 'error_type'"), part]))
    ways = [one_of("run.error_type", errors)]
    for table in ("step", "call"):
        failed = one_of(f"{table}.error_type", errors)
        ways.append(_exists(table, [failed]))
    return any_of(ways)


_COST_IS_KNOWN = Sql("run.priced_calls > 0 OR run.unpriced_calls = 0")
"""A priced call, or no call that lacks a price."""


def _cost(term: Term) -> Sql:
    """Return the comparison of a run's cost with an amount in pico-USD."""
    whole, pico = cost_order()
    dollars, rest = divmod(term.amount, PICO)
    same = Sql(f"{whole} = ? AND {pico} = ?", (dollars, rest))
    if term.operator == "=":
        return same
    if term.operator == "!=":
        return negated(same)
    strictly = term.operator[0]
    more = Sql(f"{whole} {strictly} ?", (dollars,))
    as_much = Sql(f"{whole} = ? AND {pico} {term.operator} ?", (dollars, rest))
    return any_of([more, as_much])


def _has_names(session: Session, terms: Sequence[Term]) -> Sql:
    """Return the condition that a run has all these names, ignoring signs."""
    ways = [_exists("call", [_call_has(session, term) for term in terms])]
    of_step = []
    of_run = []
    for term in terms:
        if term.key in _ON_STEP:
            of_step.append(_label(f"step.{term.key}", term.key, term.value))
            continue
        condition = _run_has(session, term)
        if condition is None:
            # Only calls have such a name.
            return any_of(ways)
        of_run.append(condition)
    if of_step:
        of_run.append(_exists("step", of_step))
    return any_of([*ways, all_of(of_run)])


def _has_tool(term: Term) -> Sql:
    """Return the condition that a tool of that name was used in a run."""
    is_tool = one_of("step.kind", _labels(Sql("kind = 'kind' AND value = 'tool'")))
    return _exists("step", [is_tool, _label("step.name", "tool", term.value)])


def _run_has(session: Session, term: Term) -> Sql | None:
    """Return the condition on the run's own columns, None for names it lacks."""
    if term.key in _ON_RUN:
        return _label(column("run", term.key), term.key, term.value)
    if term.key.startswith("tag:"):
        return one_of("run.tag_set", _tag_sets(session, term))
    return None


def _call_has(session: Session, term: Term) -> Sql:
    """Return the condition that a call has the name."""
    if term.key == "model":
        model = "coalesce(call.request_model, call.response_model)"
        return _label(model, "model", term.value)
    if term.key.startswith("tag:"):
        return one_of("call.tag_set", _tag_sets(session, term))
    return _label(column("call", term.key), term.key, term.value)


def _step_has(session: Session, term: Term) -> Sql:
    """Return the condition that a tool step or its joined run has the name."""
    if term.key == "tool":
        return _label("step.name", "tool", term.value)
    carried = _run_has(session, term)
    if carried is not None:
        return carried
    return _label(column("step", term.key), term.key, term.value)


def _label(subject: str, kind: str, value: str) -> Sql:
    """Return the condition that a column of label ids names `value`."""
    return one_of(subject, _labels(Sql("kind = ? AND value = ?", (kind, value))))


def _tag_sets(session: Session, term: Term) -> list[Any]:
    """Return the tag sets in which the tag has the value."""
    key = term.key.removeprefix("tag:")
    found = []
    for number, text in session.rows(Sql("SELECT id, tags FROM tag_set")):
        value = json.loads(text).get(key)
        if value is not None and str(value) == term.value:
            found.append(number)
    return found[:_MAX_TAG_SETS]
