"""Foreign calls find their run late: other instrumentors' spans name their place only in the parents, which end after them.

When steps and foreign calls of one trace have come together, each foreign call and step takes from its ancestors what it
does not know itself (run, crew, flow, task, agent, tool), and the sums move with it in the same transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from crewmeter.semconv import KIND_AGENT, KIND_CREW, KIND_FLOW, KIND_TASK, KIND_TOOL, SCOPE
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.call_dedup import stored_row
from crewmeter_cost.ledger.write.rows import CALL, CALL_COLUMNS, STEP, STEP_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.write.batch import Change
    from crewmeter_cost.ledger.write.dimensions import Labels
    from crewmeter_cost.ledger.write.insert import Bulk
    from crewmeter_cost.ledger.write.rows import Row

__all__ = ["adopt"]

LARGEST_TRACE = 5_000
"""Traces with more spans than this are left as they are: no crew makes one, and each batch would read it again."""

_CALL, _STEP, _LABEL = core_tables.call, core_tables.step, core_tables.label
_INHERITED = ("run", "crew", "flow", "task", "agent", "tool")
_CHUNK = 500
_FOREIGN_SCOPE = (
    select(_LABEL.c.id).where(_LABEL.c.kind == "scope", _LABEL.c.value != SCOPE).limit(1)
)


def adopt(
    connection: Connection, bulk: Bulk, labels: Labels, change: Change, traces: Iterable[bytes]
) -> int:
    """Let foreign calls and steps of these traces inherit from their ancestors; returns how many changed."""
    if not _any_foreign(connection):
        return 0
    ours = labels.of["scope"][SCOPE]
    wanted = sorted(set(traces))
    changed = 0
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        foreign = _CALL.c.trace_id.in_(chunk), _CALL.c.scope != ours
        calls = _read(connection, _CALL, CALL_COLUMNS, foreign)
        with_foreign = sorted({row[CALL.trace_id] for _, row in calls})
        if not with_foreign:
            continue
        steps = _read(connection, _STEP, STEP_COLUMNS, (_STEP.c.trace_id.in_(with_foreign),))
        families: dict[bytes, _Family] = {trace: _Family(labels) for trace in with_foreign}
        for number, row in steps:
            families[row[STEP.trace_id]].step(number, row)
        for number, row in calls:
            families[row[CALL.trace_id]].calls.append((number, row))
        for family in families.values():
            changed += family.settle(connection, bulk, change)
    return changed


def _any_foreign(connection: Connection) -> bool:
    return connection.execute(_FOREIGN_SCOPE).scalar() is not None


def _read(
    connection: Connection, table: Table, columns: tuple[str, ...], where: Any
) -> list[tuple[int, Row]]:
    query = select(table.c.id, *(table.c[name] for name in columns)).where(*where)
    return [(number, stored_row(values)) for number, *values in connection.execute(query)]


class _Family:
    """The steps and foreign calls of one trace."""

    def __init__(self, labels: Labels) -> None:
        kind = labels.of["kind"]
        self._own_name = {
            kind[name]: name for name in (KIND_CREW, KIND_FLOW, KIND_TASK, KIND_AGENT, KIND_TOOL)
        }
        self._steps: dict[bytes, tuple[int, Row]] = {}
        self._given: dict[bytes, dict[str, int]] = {}
        self.calls: list[tuple[int, Row]] = []

    def step(self, number: int, row: Row) -> None:
        """Add a step."""
        self._steps[row[STEP.span_id]] = (number, row)

    def settle(self, connection: Connection, bulk: Bulk, change: Change) -> int:
        """Fill in what is missing and move the sums; returns how many rows changed."""
        if not self._steps or len(self._steps) + len(self.calls) > LARGEST_TRACE:
            return 0
        self._inherit()
        runs = {row[STEP.run] for _, row in self._steps.values()} - {None}
        only_run = next(iter(runs)) if len(runs) == 1 else None
        calls, steps = [], []
        for number, row in self.calls:
            new = _filled(
                row, CALL_COLUMNS, self._given.get(row[CALL.parent_span_id], {}), only_run
            )
            if new != row:
                calls.append((number, row, new))
        for number, row in self._steps.values():
            new = _filled(row, STEP_COLUMNS, self._given.get(row[STEP.parent_span_id], {}), None)
            if new != row:
                steps.append((number, row, new))
        runs = {row[CALL.run] for _, *rows in calls for row in rows} | {
            row[STEP.run] for _, *rows in steps for row in rows
        }
        change.runs.load_numbers(runs - {None})
        for _, old, new in calls:
            change.call(old, -1)
            change.call(new)
        for _, old, new in steps:
            if self._own_name.get(old[STEP.kind]) == KIND_TOOL:
                change.tool(old, -1)
                change.tool(new)
        bulk.change(connection, _CALL, CALL_COLUMNS, [(number, *new) for number, _, new in calls])
        bulk.change(connection, _STEP, STEP_COLUMNS, [(number, *new) for number, _, new in steps])
        return len(calls) + len(steps)

    def _inherit(self) -> None:
        """What each step gives to those below it: its own place, what its own name says, and what its ancestors give."""
        for span in self._steps:
            chain, seen = [], set()
            at: bytes | None = span
            while at is not None and at in self._steps and at not in seen and at not in self._given:
                seen.add(at)
                chain.append(at)
                at = self._steps[at][1][STEP.parent_span_id]
            given = self._given.get(at, {}) if at is not None else {}
            for step in reversed(chain):
                row = self._steps[step][1]
                own = {
                    name: row[getattr(STEP, name)]
                    for name in _INHERITED
                    if name != "tool" and row[getattr(STEP, name)] is not None
                }
                named = self._own_name.get(row[STEP.kind])
                if named is not None and row[STEP.name] is not None:
                    own[named] = row[STEP.name]
                given = self._given[step] = {**given, **own}


def _filled(row: Row, columns: tuple[str, ...], given: dict[str, int], only_run: int | None) -> Row:
    """The row with its unknown places filled from what its parent gives."""
    contexts = {name: given.get(name) for name in _INHERITED}
    if contexts["run"] is None:
        contexts["run"] = only_run
    return tuple(
        contexts[name] if value is None and name in contexts else value
        for name, value in zip(columns, row, strict=True)
    )
