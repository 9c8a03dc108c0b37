"""Runs and their totals: each batch reads the runs it touches, adds to them, and writes them back in its own transaction.

A finished run also stands in the roll-ups (dimension ``run``); when its totals change later, its old contribution is
taken back and the new one added.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.name_cleaning import clean
from crewmeter_cost.ledger.write.rows import CALL, STEP, CallState, StepState, instant
from crewmeter_cost.pricing.charge import PICO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.write.dimensions import Labels
    from crewmeter_cost.ledger.write.insert import Bulk
    from crewmeter_cost.ledger.write.rollups import Tally
    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.records import CallContext, Step

__all__ = ["Runs"]

_RUN = core_tables.run
_COLUMNS = tuple(column.name for column in _RUN.columns)
_CHUNK = 1000
_STATUS = {StepState.OK: "ok", StepState.ERROR: "error", StepState.ABANDONED: "abandoned"}
_AMOUNTS = itemgetter(
    CALL.run, CALL.started_ns, CALL.state, CALL.input_tokens, CALL.output_tokens, CALL.cost_pusd
)
_BEFORE_COST = attrgetter(*_COLUMNS[:-2])
_WORST = ("ok", "abandoned", "error")


@dataclass(slots=True)
class _Run:
    """One run while a batch is being written. Fields are the columns of `run`; the cost is one unbounded integer."""

    id: int
    run_id: str
    trace_id: bytes
    kind: str | None
    name: int | None
    service: int | None
    environment: int | None
    team: int | None
    user: int | None
    session: int | None
    tag_set: int | None
    status: str
    error_type: int | None
    started_ns: int
    duration_ns: int | None
    calls: int = 0
    failed_calls: int = 0
    unpriced_calls: int = 0
    priced_calls: int = 0
    tool_calls: int = 0
    failed_tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_pusd: int = 0
    is_new: bool = False
    changed: bool = False

    def row(self) -> tuple[Any, ...]:
        """The values in the order of the table's columns."""
        return (*_BEFORE_COST(self), *divmod(self.cost_pusd, PICO))


class Runs:
    """The runs one batch touches. Numbers new runs itself: the write lock is held, so nobody else does."""

    def __init__(self, connection: Connection, labels: Labels, tally: Tally) -> None:
        self._connection, self._labels, self._tally = connection, labels, tally
        self._by_id: dict[str, _Run] = {}
        self._cleaned: dict[str, str] = {}
        self._by_number: dict[int, _Run] = {}
        self._next: int | None = None

    def load(self, run_ids: Iterable[str]) -> None:
        """Read the runs that exist among `run_ids`."""
        self._cleaned |= {run_id: clean(run_id) for run_id in run_ids}
        self._read(_RUN.c.run_id, sorted(set(self._cleaned.values()) - self._by_id.keys()))

    def load_numbers(self, numbers: Iterable[int]) -> None:
        """Read runs by their number (`run.id`)."""
        self._read(_RUN.c.id, sorted(set(numbers) - self._by_number.keys()))

    def _read(self, column: Any, wanted: list[Any]) -> None:
        for start in range(0, len(wanted), _CHUNK):
            for row in self._connection.execute(
                select(_RUN).where(column.in_(wanted[start : start + _CHUNK]))
            ):
                values = dict(row._mapping)
                values["cost_pusd"] += values.pop("cost_whole_usd") * PICO
                run = _Run(**values)
                self._by_id[run.run_id] = self._by_number[run.id] = run
                self._contribute(run, -1)

    def number(self, context: CallContext, trace_id: str, started_ns: int) -> int | None:
        """The number of the run at `context`, made if this is its first sight; None outside any run."""
        if context.run_id is None:
            return None
        run = self._by_id.get(self._cleaned[context.run_id])
        if run is None:
            run = self._new(context, trace_id, started_ns)
        return run.id

    def _new(self, context: CallContext, trace_id: str, started_ns: int) -> _Run:
        if self._next is None:
            self._next = (self._connection.execute(select(func.max(_RUN.c.id))).scalar() or 0) + 1
        name = self._labels.of
        run = _Run(
            id=self._next,
            run_id=self._cleaned[str(context.run_id)],
            trace_id=bytes.fromhex(trace_id),
            kind=context.run_kind and clean(context.run_kind),
            name=name["run"][context.run_name],
            service=name["service"][context.service],
            environment=name["environment"][context.environment],
            team=name["team"][context.team],
            user=name["user"][context.user],
            session=name["session"][context.session],
            tag_set=self._labels.tag_set[context.tags] if context.tags else None,
            status="running",
            error_type=None,
            started_ns=instant(started_ns),
            duration_ns=None,
            is_new=True,
        )
        self._next += 1
        self._by_id[run.run_id] = self._by_number[run.id] = run
        return run

    def call(self, row: Row, sign: int = 1) -> None:
        """Add (or, with -1, take back) one call's amounts to its run."""
        number, started, state, tokens_in, tokens_out, cost = _AMOUNTS(row)
        if number is None:
            return
        run = self._by_number[number]
        run.changed = True
        run.calls += sign
        if state:
            run.failed_calls += sign
        if cost is not None:
            run.priced_calls += sign
            run.cost_pusd += sign * cost
        elif state != CallState.REJECTED:
            run.unpriced_calls += sign
        run.input_tokens += sign * (tokens_in or 0)
        run.output_tokens += sign * (tokens_out or 0)
        if started < run.started_ns and run.status == "running":
            run.started_ns = started

    def tool(self, number: int | None, *, failed: bool, sign: int = 1) -> None:
        """Add (or take back) one tool call to its run."""
        if number is not None:
            run = self._by_number[number]
            run.changed = True
            run.tool_calls += sign
            run.failed_tool_calls += sign * failed

    def step(self, number: int) -> None:
        """Something that costs nothing happened in a run: the run exists, even if it never makes a call."""
        run = self._by_number[number]
        run.changed = run.changed or run.is_new

    def finish(self, step: Step, row: Row) -> None:
        """A run's root has ended (`row` is the step as stored).

        A second root of one run (two crews in one foreign trace) stretches it; the worse status wins.
        """
        run = self._by_id[self._cleaned[str(step.context.run_id)]]
        status = _STATUS[StepState(row[STEP.state])]
        started, ended = row[STEP.started_ns], row[STEP.started_ns] + row[STEP.duration_ns]
        if run.status != "running" and run.duration_ns is not None:
            ended = max(ended, run.started_ns + run.duration_ns)
            started = min(started, run.started_ns)
            status = max(status, run.status, key=_WORST.index)
        run.status, run.started_ns, run.duration_ns = status, started, ended - started
        run.error_type = row[STEP.error_type] or run.error_type
        run.kind = run.kind or clean(step.kind)
        run.name = (
            self._labels.of["run"][step.context.run_name or step.name]
            if run.name is None
            else run.name
        )
        run.changed = True

    def save(self, bulk: Bulk) -> None:
        """Write back what changed, with its share of the roll-ups."""
        changed = [run for run in self._by_number.values() if run.changed]
        for run in self._by_number.values():
            if run.changed or not run.is_new:
                self._contribute(run, 1)
        bulk.insert(self._connection, _RUN, _COLUMNS, [run.row() for run in changed if run.is_new])
        bulk.change(
            self._connection, _RUN, _COLUMNS[1:], [run.row() for run in changed if not run.is_new]
        )

    def _contribute(self, run: _Run, sign: int) -> None:
        if run.status == "running" or run.duration_ns is None:
            return
        self._tally.run(
            started_ns=run.started_ns,
            duration_ns=run.duration_ns,
            name=run.name,
            status=self._labels.of["status"][run.status],
            failed=run.status != "ok",
            amounts=(
                run.unpriced_calls,
                run.priced_calls,
                run.input_tokens,
                run.output_tokens,
                run.cost_pusd,
            ),
            sign=sign,
        )
