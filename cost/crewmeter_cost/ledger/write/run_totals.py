"""Runs and their totals, moved by every batch in its own transaction.

A finished run also stands in the roll-ups (dimension `run`). When its totals change later, its old
contribution is taken back and the new one added.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.schema.state_keys import CALLS_NAMED_APART
from crewmeter_cost.ledger.write.dimensions import clean
from crewmeter_cost.ledger.write.rollups import run_amounts
from crewmeter_cost.ledger.write.rows import CALL, STEP, CallState, StepState, instant
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.write.dimensions import Labels
    from crewmeter_cost.ledger.write.remembered import Remembered
    from crewmeter_cost.ledger.write.rollups import Tally
    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.ledger.write.statements import Statements
    from crewmeter_cost.records import CallContext, Step

__all__ = ["RunTotals", "Runs"]

_NAMES = columns.RUN.names
_STATUS = {StepState.OK: "ok", StepState.ERROR: "error", StepState.ABANDONED: "abandoned"}
_WORST_LAST = ("ok", "abandoned", "error")
_BEFORE_COST = attrgetter(*_NAMES[: _NAMES.index("cost_whole_usd")])


@dataclass(slots=True)
class RunTotals:
    """One run while batches are written. Fields are the columns of `run`.

    The cost is one unbounded integer here, two columns in the table.
    """

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
    stored: bool = False
    """Whether the ledger has it, in whatever state."""

    @property
    def finished(self) -> bool:
        """Whether its root has ended."""
        return self.status != "running" and self.duration_ns is not None

    def row(self) -> tuple[Any, ...]:
        """Return the values in the order of the table's columns."""
        return (*_BEFORE_COST(self), *divmod(self.cost_pusd, PICO))


def _stored(row: tuple[Any, ...]) -> RunTotals:
    values = dict(zip(_NAMES, row, strict=True))
    whole = values.pop("cost_whole_usd")
    values["cost_pusd"] += whole * PICO
    return RunTotals(**values, stored=True)


class Runs:
    """The runs one batch touches. New runs are numbered here: the write lock is held."""

    def __init__(
        self,
        session: Session,
        statements: Statements,
        labels: Labels,
        remembered: Remembered,
        tally: Tally,
    ) -> None:
        self._session = session
        self._statements = statements
        self._labels = labels
        self._remembered = remembered
        self._tally = tally
        self._cleaned: dict[str, str] = {}
        self._by_number: dict[int, RunTotals] = {}
        self._changed: dict[int, RunTotals] = {}
        self._named_apart = False

    def load(self, run_ids: Iterable[str]) -> None:
        """Read the runs that exist among `run_ids`, unless they are remembered."""
        self._cleaned |= {run_id: clean(run_id) for run_id in run_ids}
        known = self._remembered.runs
        wanted = set(self._cleaned.values())
        for run_id in wanted & known.keys():
            self._by_number[known[run_id].id] = known[run_id]
        self._read(
            "run_id",
            sorted(wanted - known.keys()),
        )

    def load_numbers(self, numbers: Iterable[int | None]) -> None:
        """Read runs by their number (`run.id`)."""
        wanted = {number for number in numbers if number is not None}
        if wanted <= self._by_number.keys():
            return
        for run in self._remembered.runs.values():
            if run.id in wanted:
                self._by_number[run.id] = run
        self._read(
            "id",
            sorted(wanted - self._by_number.keys()),
        )

    def _read(self, column: str, wanted: list[Any]) -> None:
        found = self._statements.select(
            self._session,
            columns.RUN,
            _NAMES,
            column,
            wanted,
        )
        for row in found:
            self._add(_stored(row))

    def _add(self, run: RunTotals) -> None:
        self._by_number[run.id] = run
        self._remembered.runs[run.run_id] = run

    def number(self, context: CallContext, trace_id: str, started_ns: int) -> int | None:
        """Return the number of the run at `context`, None outside any run.

        The run is made if this is its first sight.
        """
        if context.run_id is None:
            return None
        run = self._remembered.runs.get(self._cleaned[context.run_id])
        if run is None:
            run = self._new(context, trace_id, started_ns)
            self._add(run)
        return run.id

    def _new(self, context: CallContext, trace_id: str, started_ns: int) -> RunTotals:
        of = self._labels.of
        return RunTotals(
            id=self._next_number(),
            run_id=self._cleaned[str(context.run_id)],
            trace_id=bytes.fromhex(trace_id),
            kind=context.run_kind and clean(context.run_kind),
            name=of["run"][context.run_name],
            service=of["service"][context.service],
            environment=of["environment"][context.environment],
            team=of["team"][context.team],
            user=of["user"][context.user],
            session=of["session"][context.session],
            tag_set=self._labels.tag_set[context.tags] if context.tags else None,
            status="running",
            error_type=None,
            started_ns=instant(started_ns),
            duration_ns=None,
        )

    def _next_number(self) -> int:
        remembered = self._remembered
        if remembered.next_run is None:
            (last,) = self._session.execute("SELECT max(id) FROM run").fetchone()
            remembered.next_run = (last or 0) + 1
        number = remembered.next_run
        remembered.next_run += 1
        return number

    def _change(self, number: int) -> RunTotals:
        """Return a run that is about to change, its share of the roll-ups taken back."""
        run = self._by_number[number]
        if number not in self._changed:
            self._changed[number] = run
            self._contribute(run, -1)
        return run

    def call(self, row: Row, sign: int = 1) -> None:
        """Add (or, with -1, take back) one call's amounts to its run."""
        number = row[CALL.run]
        if number is None:
            return
        run = self._change(number)
        own = (run.user, run.team, run.session)
        if own != (row[CALL.user], row[CALL.team], row[CALL.session]):
            self._named_apart = True
        run.calls += sign
        state = row[CALL.state]
        if state:
            run.failed_calls += sign
        cost = row[CALL.cost_pusd]
        if cost is not None:
            run.priced_calls += sign
            run.cost_pusd += sign * cost
        elif state != CallState.REJECTED:
            run.unpriced_calls += sign
        run.input_tokens += sign * (row[CALL.input_tokens] or 0)
        run.output_tokens += sign * (row[CALL.output_tokens] or 0)
        if run.status == "running":
            run.started_ns = min(
                run.started_ns,
                row[CALL.started_ns],
            )

    def tool(self, number: int | None, *, failed: bool, sign: int = 1) -> None:
        """Add (or take back) one tool call to its run."""
        if number is not None:
            run = self._change(number)
            run.tool_calls += sign
            run.failed_tool_calls += sign * failed

    def step(self, number: int | None) -> None:
        """Store the run of a step that costs nothing, even if it never makes a call."""
        if number is not None and not self._by_number[number].stored:
            self._change(number)

    def finish(self, step: Step, row: Row) -> None:
        """Record that a run's root has ended. `row` is the step as stored.

        A second root of one run (two crews in one foreign trace) stretches it, and the worse status
        counts.
        """
        run = self._change(row[STEP.run])
        status = _STATUS[StepState(row[STEP.state])]
        started = row[STEP.started_ns]
        ended = started + row[STEP.duration_ns]
        if run.finished:
            ended = max(
                ended,
                run.started_ns + (run.duration_ns or 0),
            )
            started = min(started, run.started_ns)
            status = max(
                status,
                run.status,
                key=_WORST_LAST.index,
            )
        run.status = status
        run.started_ns = started
        run.duration_ns = ended - started
        run.error_type = row[STEP.error_type] or run.error_type
        run.kind = run.kind or clean(step.kind)
        if run.name is None:
            run.name = self._labels.of["run"][step.context.run_name or step.name]

    def restore(
        self, number: int, *, status: str, started_ns: int, duration_ns: int | None
    ) -> None:
        """Set when a run began and how it ended, as another ledger has it."""
        run = self._change(number)
        run.status = status
        run.started_ns = started_ns
        run.duration_ns = duration_ns

    def save(self) -> None:
        """Write what changed, with its share of the roll-ups.

        Call it before the roll-ups' own.
        """
        for run in self._changed.values():
            self._contribute(run, 1)
            run.stored = True
        rows = [run.row() for run in self._changed.values()]
        self._statements.replace(
            self._session,
            columns.RUN,
            rows,
        )
        if self._named_apart and not self._remembered.named_apart:
            sql = "INSERT INTO ledger_state (name, value) VALUES (?, 1) ON CONFLICT DO NOTHING"
            self._session.execute(self._statements.text(sql), (CALLS_NAMED_APART,))
            self._remembered.named_apart = True

    def _contribute(self, run: RunTotals, sign: int) -> None:
        if not run.finished or run.duration_ns is None:
            return
        whole, pico = divmod(run.cost_pusd, PICO)
        totals = {
            "calls": 1,
            "failed_calls": int(run.status != "ok"),
            "unpriced_calls": run.unpriced_calls,
            "priced_calls": run.priced_calls,
            "input_tokens": run.input_tokens,
            "output_tokens": run.output_tokens,
            "cost_whole_usd": whole,
            "cost_pusd": pico,
            "duration_ns": run.duration_ns,
        }
        self._tally.run(
            started_ns=run.started_ns,
            duration_ns=run.duration_ns,
            name=run.name,
            status=self._labels.of["status"][run.status],
            amounts=run_amounts(totals),
            sign=sign,
        )
