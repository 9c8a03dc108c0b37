"""A filter as SQL conditions on runs, and on the calls and tool steps of a report.

Names are looked up in the ledger's labels and compared by their ids; every value is bound.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_cost.filters import RUN_STATUSES
from crewmeter_cost.ledger.metadata import calls_named_apart
from crewmeter_cost.ledger.sql import (
    Sql,
    all_of,
    any_of,
    column,
    contains,
    negated,
    one_of,
    one_of_ids,
    sql,
    where,
)
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crewmeter_cost.filters import Filter, Term
    from crewmeter_cost.ledger.session import Session

__all__ = [
    "RunConditions",
    "call_conditions",
    "cost_order",
    "run_conditions",
    "search_condition",
    "step_conditions",
]

_ON_STEP = ("crew", "flow", "task", "agent")
_ON_RUN = ("user", "team", "session", "service", "environment")
_INDEXED = ("user", "team", "session")
"""Names of a run that have an index of their own."""
_SEARCHED = {
    "step": ("name", *_ON_STEP),
    "call": ("request_model", "response_model"),
}
"""Table → names in which a text is searched."""


@dataclass(frozen=True, slots=True)
class RunConditions:
    """Conditions on `run`: those that an index answers, and those that scan."""

    indexed: tuple[Sql, ...]
    scanning: tuple[Sql, ...]


def run_conditions(session: Session, wanted: Filter) -> RunConditions:
    """Return the conditions under which a run matches.

    A run matches names where one of its calls has them all, or, for names that its steps or the
    run itself carry, where those have them. Tools are looked for among the run's steps.
    """
    # Where calls are named as their runs are, the run alone decides.
    carried = () if calls_named_apart(session) else _INDEXED
    indexed = []
    scanning = []
    searched = []
    for term in wanted.terms:
        if not term.is_name:
            condition = _of_run(session, term)
        elif term.key in carried:
            named = _label(
                session,
                column("run", term.key),
                term,
            )
            condition = _negatable(term, named)
        else:
            searched.append(term)
            continue
        if _is_indexed(term):
            indexed.append(condition)
        else:
            scanning.append(condition)
    scanning += _scanned_names(session, searched)
    return RunConditions(
        tuple(indexed),
        tuple(scanning),
    )


def _scanned_names(session: Session, names: Sequence[Term]) -> list[Sql]:
    """Return the conditions for names that are looked for in a run's calls and steps."""
    conditions = []
    equal = []
    for term in names:
        if term.key == "tool":
            used = _has_tool(session, term)
            conditions.append(_negatable(term, used))
        elif term.operator == "=":
            equal.append(term)
        else:
            conditions.append(negated(_has_names(session, [term])))
    if equal:
        conditions.append(_has_names(session, equal))
    return conditions


def _is_indexed(term: Term) -> bool:
    """Return whether an index lists the runs that fulfil a term."""
    if term.operator != "=":
        return False
    if term.key == "status":
        return "ok" not in RUN_STATUSES[term.value]
    return term.key in ("run", "name", *_INDEXED)


def call_conditions(session: Session, wanted: Filter) -> list[Sql]:
    """Return the conditions on `call`.

    Names are the call's own, the rest is about its run.
    """
    conditions = _in_matching_run(session, wanted, "call.run")
    for term in wanted.names:
        condition = _call_has(session, term)
        conditions.append(_negatable(term, condition))
    return conditions


def step_conditions(session: Session, wanted: Filter) -> list[Sql]:
    """Return the conditions on tool steps, which must be joined to their run."""
    conditions = _in_matching_run(session, wanted, "step.run")
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

    The first is whole USD, the second the pico-USD left.
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


def _in_matching_run(session: Session, wanted: Filter, subject: str) -> list[Sql]:
    """Return the condition that a call's or step's run matches the run's terms."""
    if not wanted.of_run:
        return []
    of_run = [_of_run(session, term) for term in wanted.of_run]
    return [one_of(subject, sql("SELECT run.id FROM run", where(of_run)))]


def _of_run(session: Session, term: Term) -> Sql:
    """Return one term about a run's identity, outcome or totals."""
    if term.key == "status":
        statuses = RUN_STATUSES[term.value]
        condition = one_of("run.status", statuses)
        if "ok" not in statuses:
            # Stated as the partial index states it, or neither database would use that.
            condition = all_of([condition, Sql("run.status <> 'ok'")])
    elif term.key == "run":
        condition = Sql("run.run_id = ?", (term.value,))
    elif term.key == "kind":
        condition = Sql("run.kind = ?", (term.value,))
    elif term.key == "name":
        condition = _label(session, "run.name", term)
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
            of_step.append(_label(session, f"step.{term.key}", term))
            if "" in term.values:
                # Each run has steps outside an agent or a task: only its calls can lack the name.
                return any_of(ways)
            continue
        condition = _run_has(session, term)
        if condition is None:
            # Only calls have such a name.
            return any_of(ways)
        of_run.append(condition)
    if of_step:
        of_run.append(_exists("step", of_step))
    return any_of([*ways, all_of(of_run)])


def _has_tool(session: Session, term: Term) -> Sql:
    """Return the condition that a tool of that name was used in a run."""
    is_tool = one_of("step.kind", _labels(Sql("kind = 'kind' AND value = 'tool'")))
    return _exists("step", [is_tool, _label(session, "step.name", term)])


def _run_has(session: Session, term: Term) -> Sql | None:
    """Return the condition on the run's own columns, None for names it lacks."""
    if term.key in _ON_RUN:
        return _label(session, column("run", term.key), term)
    if term.key.startswith("tag:"):
        return _tagged(session, "run.tag_set", term)
    return None


def _call_has(session: Session, term: Term) -> Sql:
    """Return the condition that a call has the name."""
    if term.key == "model":
        model = "coalesce(call.request_model, call.response_model)"
        return _label(session, model, term)
    if term.key.startswith("tag:"):
        return _tagged(session, "call.tag_set", term)
    return _label(session, column("call", term.key), term)


def _step_has(session: Session, term: Term) -> Sql:
    """Return the condition that a tool step or its joined run has the name."""
    if term.key == "tool":
        return _label(session, "step.name", term)
    carried = _run_has(session, term)
    if carried is not None:
        return carried
    return _label(session, column("step", term.key), term)


def _label(session: Session, subject: str, term: Term) -> Sql:
    """Return the condition that a column of label ids names a value of the term.

    A term without a value asks for rows without a name. The ids are looked up first: with them in
    hand a database walks one index in the order that is wanted, and stops early.
    """
    conditions = [one_of("value", term.values)]
    if term.key != "name":
        conditions.append(Sql("kind = ?", (term.key,)))
    ids = [number for (number,) in session.rows(_labels(all_of(conditions)))]
    if "" in term.values:
        missing = Sql(f"{subject} IS NULL")
        return any_of([missing, one_of(subject, ids)]) if ids else missing
    if len(ids) == 1:
        return Sql(f"{subject} = ?", (ids[0],))
    return one_of(subject, ids)


def _tagged(session: Session, subject: str, term: Term) -> Sql:
    """Return the condition that a column of tag sets has the tag, or lacks it."""
    key = term.key.removeprefix("tag:")
    having: list[int] = []
    matching: list[int] = []
    for number, text in session.rows(Sql("SELECT id, tags FROM tag_set")):
        value = json.loads(text).get(key)
        if value is None:
            continue
        having.append(number)
        if str(value) in term.values:
            matching.append(number)
    if "" in term.values:
        has_it = one_of_ids(subject, having)
        return any_of([Sql(f"{subject} IS NULL"), negated(has_it)])
    return one_of_ids(subject, matching)
