"""Give foreign calls their run when it arrives.

Parents end, and are reported, after children.

Other instrumentors' spans name their context only in the parents. When steps and foreign calls of
one trace have come together, each foreign call and step takes from its ancestors what it does not
know itself (run, crew, flow, task, agent, tool), and the sums move with it in the same transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.semconv import KIND_AGENT, KIND_CREW, KIND_FLOW, KIND_TASK, KIND_TOOL, SCOPE
from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.write.call_dedup import stored_row
from crewmeter_cost.ledger.write.rows import CALL, CALL_COLUMNS, STEP, STEP_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from crewmeter_cost.ledger.schema.table_spec import TableSpec
    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.ledger.write.transaction import Transaction

__all__ = ["adopt"]

LARGEST_TRACE = 5_000
"""Traces with more spans are left as they are: no crew makes one, and each batch would read it."""

_INHERITED = ("run", "crew", "flow", "task", "agent", "tool")
_FROM_STEPS = tuple(name for name in _INHERITED if name != "tool")
"""What a step's own row gives to those below. A tool is given by the name of a tool step."""
_NAMING_KINDS = (KIND_CREW, KIND_FLOW, KIND_TASK, KIND_AGENT, KIND_TOOL)

Numbered = tuple[int, "Row"]
"""A stored row, and its id."""
Changed = tuple[int, "Row", "Row"]
"""The id, the row as it is stored, and as it becomes."""


def adopt(transaction: Transaction, traces: Iterable[bytes]) -> int:
    """Let foreign calls and steps of these traces inherit from their ancestors.

    Returns how many rows changed.
    """
    if not transaction.remembered.foreign_scopes:
        return 0
    ours = transaction.labels.of["scope"][SCOPE]
    families: dict[bytes, _Family] = {}
    for number, row in _read(transaction, columns.CALL, CALL_COLUMNS, traces):
        if row[CALL.scope] == ours:
            continue
        trace = row[CALL.trace_id]
        if trace not in families:
            families[trace] = _Family(transaction)
        families[trace].calls.append((number, row))
    for number, row in _read(transaction, columns.STEP, STEP_COLUMNS, families):
        family = families[row[STEP.trace_id]]
        family.steps[row[STEP.span_id]] = (number, row)
    return sum(family.unite() for family in families.values())


def _read(
    transaction: Transaction, table: TableSpec, names: tuple[str, ...], traces: Iterable[bytes]
) -> Iterator[Numbered]:
    found = transaction.statements.select(
        transaction.session, table, ("id", *names), "trace_id", sorted(traces)
    )
    for number, *values in found:
        yield number, stored_row(values)


class _Family:
    """The steps and foreign calls of one trace."""

    def __init__(self, transaction: Transaction) -> None:
        kinds = transaction.labels.of["kind"]
        self._transaction = transaction
        self._named_by_kind = {kinds[kind]: kind for kind in _NAMING_KINDS}
        self._given: dict[bytes, dict[str, int]] = {}
        self.steps: dict[bytes, Numbered] = {}
        self.calls: list[Numbered] = []

    def unite(self) -> int:
        """Fill in what is missing and move the sums. Returns how many rows changed."""
        if not self.steps or len(self.steps) + len(self.calls) > LARGEST_TRACE:
            return 0
        for span in self.steps:
            self._inherit(span)
        calls = list(self._changed_calls())
        steps = list(self._changed_steps())
        self._load_runs(calls, steps)
        self._move(calls, steps)
        self._store(calls, steps)
        return len(calls) + len(steps)

    def _changed_calls(self) -> Iterator[Changed]:
        runs = {row[STEP.run] for _, row in self.steps.values()} - {None}
        only_run = runs.pop() if len(runs) == 1 else None
        for number, row in self.calls:
            given = dict(
                self._given.get(
                    row[CALL.parent_span_id],
                    {},
                )
            )
            if only_run is not None:
                given.setdefault("run", only_run)
            new = _filled(row, CALL_COLUMNS, given)
            if new != row:
                yield number, row, new

    def _changed_steps(self) -> Iterator[Changed]:
        for number, row in self.steps.values():
            given = self._given.get(
                row[STEP.parent_span_id],
                {},
            )
            new = _filled(row, STEP_COLUMNS, given)
            if new != row:
                yield number, row, new

    def _load_runs(self, calls: list[Changed], steps: list[Changed]) -> None:
        numbers = {row[CALL.run] for _, *rows in calls for row in rows}
        numbers |= {row[STEP.run] for _, *rows in steps for row in rows}
        self._transaction.runs.load_numbers(numbers)

    def _move(self, calls: list[Changed], steps: list[Changed]) -> None:
        transaction = self._transaction
        for _, old, new in calls:
            transaction.count_call(old, -1)
            transaction.count_call(new)
        for _, old, new in steps:
            if self._named_by_kind.get(old[STEP.kind]) == KIND_TOOL:
                transaction.count_tool(old, -1)
                transaction.count_tool(new)

    def _store(self, calls: list[Changed], steps: list[Changed]) -> None:
        transaction = self._transaction
        for table, names, rows in (
            (columns.CALL, CALL_COLUMNS, calls),
            (columns.STEP, STEP_COLUMNS, steps),
        ):
            transaction.statements.change(
                transaction.session, table, names, [(number, *new) for number, _, new in rows]
            )

    def _inherit(self, span: bytes) -> None:
        """Set what a step gives to those below it, and what its ancestors give."""
        chain = self._unknown_ancestors(span)
        given: dict[str, int] = {}
        if chain:
            parent = self.steps[chain[-1]][1][STEP.parent_span_id]
            given = self._given.get(parent, {})
        for step in reversed(chain):
            given = {
                **given,
                **self._own(self.steps[step][1]),
            }
            self._given[step] = given

    def _unknown_ancestors(self, span: bytes) -> list[bytes]:
        """Return a step and its ancestors up to one whose gifts are known. Cycles end."""
        chain: list[bytes] = []
        at: bytes | None = span
        while at in self.steps and at not in self._given and at not in chain:
            chain.append(at)
            at = self.steps[at][1][STEP.parent_span_id]
        return chain

    def _own(self, row: Row) -> dict[str, int]:
        """Return a step's own context, and what its name says of those below."""
        own = {name: row[getattr(STEP, name)] for name in _FROM_STEPS}
        kind = self._named_by_kind.get(row[STEP.kind])
        if kind is not None and row[STEP.name] is not None:
            own[kind] = row[STEP.name]
        return {name: value for name, value in own.items() if value is not None}


def _filled(row: Row, names: tuple[str, ...], given: dict[str, int]) -> Row:
    """Return the row with its unknown context filled from what its parent gives."""
    filled = list(row)
    for position, name in enumerate(names):
        if row[position] is None and name in _INHERITED:
            filled[position] = given.get(name)
    return tuple(filled)
