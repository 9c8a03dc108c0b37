"""One batch into the ledger, inside one transaction: rows that are new, and what only those add to totals and roll-ups."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, delete

from crewmeter.semconv import KIND_TOOL
from crewmeter_cost.ledger.metadata import pruned_before
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.call_dedup import settle
from crewmeter_cost.ledger.write.late_parents import adopt
from crewmeter_cost.ledger.write.rollups import DAY, SUMS, Tally
from crewmeter_cost.ledger.write.rows import (
    CALL,
    CALL_COLUMNS,
    STEP,
    STEP_COLUMNS,
    CallRows,
    StepState,
    step_row,
)
from crewmeter_cost.ledger.write.run_totals import Runs
from crewmeter_cost.pricing.charge import PICO, Charge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.write.dimensions import Labels
    from crewmeter_cost.ledger.write.insert import Bulk
    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.pricing.charge import Outcome
    from crewmeter_cost.records import Call, Step

__all__ = ["Change", "Written", "write_batch"]

_CALL, _STEP, _ROLLUP = core_tables.call, core_tables.step, core_tables.rollup_hour
_LATENCY_HOUR, _LATENCY_DAY = core_tables.latency_hour, core_tables.latency_day
_SPAN = ("trace_id", "span_id")
_NEVER = -(2**64)
"""Before any start there is: nothing was pruned yet."""
_SLOT = ("dimension", "hour", "key", "key2")
_ROLLUP_COLUMNS = (*_SLOT, *SUMS[:-2], "cost_whole_usd", "cost_pusd", "duration_ns")
_HOUR_COLUMNS = ("dimension", "hour", "key", "bucket", "count")
_DAY_COLUMNS = ("dimension", "day", "key", "bucket", "count")


@dataclass(frozen=True, slots=True)
class Written:
    """What a batch did to the ledger."""

    inserted_calls: int
    duplicate_calls: int
    """Spans already there, calls another instrumentor had reported, and spans from before what was pruned."""
    inserted_steps: int
    duplicate_steps: int
    superseded_calls: int = 0
    """Rows of another instrumentor that ours replaced; neither inserted nor duplicate."""
    new_calls: tuple[int, ...] = field(default=(), repr=False)
    """Positions in the batch of the calls inserted: what counters may count."""
    new_steps: tuple[int, ...] = field(default=(), repr=False)


class Change:
    """The sums one transaction moves: roll-ups and run totals, together so that they cannot disagree."""

    def __init__(self, connection: Connection, bulk: Bulk, labels: Labels) -> None:
        self._connection, self._bulk = connection, bulk
        self.tally = Tally(labels.tags_of.__getitem__)
        self.runs = Runs(connection, labels, self.tally)

    def call(self, row: Row, sign: int = 1) -> None:
        """A call came in (or, with -1, went out). Its run must be loaded."""
        self.tally.call(row, sign)
        self.runs.call(row, sign)

    def tool(self, row: Row, sign: int = 1) -> None:
        """A tool step came in (or went out)."""
        failed = row[STEP.state] != StepState.OK
        started, duration, tool, agent = (
            row[STEP.started_ns],
            row[STEP.duration_ns],
            row[STEP.name],
            row[STEP.agent],
        )
        self.tally.tool(
            started_ns=started,
            duration_ns=duration,
            tool=tool,
            agent=agent,
            failed=failed,
            sign=sign,
        )
        self.runs.tool(row[STEP.run], failed=failed, sign=sign)

    def save(self) -> None:
        """Write totals and roll-ups."""
        self.runs.save(self._bulk)
        rollups = [
            (*slot, *sums[:-2], *divmod(sums[-2], PICO), sums[-1])
            for slot, sums in sorted(self.tally.rollups().items())
        ]
        self._bulk.add_up(self._connection, _ROLLUP, _ROLLUP_COLUMNS, rollups)
        counts = [(*slot, count) for slot, count in sorted(self.tally.latencies.items()) if count]
        days: defaultdict[Row, int] = defaultdict(int)
        for dimension, hour, key, bucket, count in counts:
            days[dimension, hour // DAY * DAY, key, bucket] += count
        daily = [(*slot, count) for slot, count in sorted(days.items()) if count]
        self._bulk.add_up(self._connection, _LATENCY_HOUR, _HOUR_COLUMNS, counts)
        self._bulk.add_up(self._connection, _LATENCY_DAY, _DAY_COLUMNS, daily)
        if self.tally.took_back:
            self._drop_empty(_ROLLUP, _ROLLUP_COLUMNS, rollups)
            self._drop_empty(_LATENCY_HOUR, _HOUR_COLUMNS, counts)
            self._drop_empty(_LATENCY_DAY, _DAY_COLUMNS, daily)

    def _drop_empty(self, table: Table, columns: tuple[str, ...], rows: list[Row]) -> None:
        """Remove sums that came to nothing, so that a group nobody belongs to any more is not shown with zeros."""
        keys, sums = columns[:4], columns[4:]
        statement = delete(table).where(
            *(table.c[name] == bindparam(name) for name in keys),
            *(table.c[name] == 0 for name in sums),
        )
        if rows:
            self._connection.execute(
                statement, [dict(zip(keys, row[:4], strict=True)) for row in rows]
            )


def write_batch(
    connection: Connection,
    bulk: Bulk,
    labels: Labels,
    calls: Sequence[tuple[Call, Outcome]],
    steps: Sequence[Step],
) -> Written:
    """Write one batch. The caller holds the write lock, has begun the transaction and commits it."""
    change = Change(connection, bulk, labels)
    floor = pruned_before(connection) or _NEVER
    contexts = chain((call.context for call, _ in calls), (step.context for step in steps))
    change.runs.load({context.run_id for context in contexts if context.run_id is not None})
    new_calls = _calls(connection, bulk, labels, change, calls, floor)
    new_steps = _steps(connection, bulk, labels, change, steps, floor)
    traces = {bytes.fromhex(calls[position][0].trace_id) for position in new_calls.inserted}
    traces |= {bytes.fromhex(steps[position].trace_id) for position in new_steps}
    adopt(connection, bulk, labels, change, traces)
    change.save()
    return Written(
        inserted_calls=len(new_calls.inserted),
        duplicate_calls=len(calls) - len(new_calls.inserted) - new_calls.superseded,
        inserted_steps=len(new_steps),
        duplicate_steps=len(steps) - len(new_steps),
        superseded_calls=new_calls.superseded,
        new_calls=new_calls.inserted,
        new_steps=new_steps,
    )


class _Calls(NamedTuple):
    inserted: tuple[int, ...]
    superseded: int


def _calls(
    connection: Connection,
    bulk: Bulk,
    labels: Labels,
    change: Change,
    calls: Sequence[tuple[Call, Outcome]],
    floor: int,
) -> _Calls:
    rows: dict[tuple[bytes, bytes], tuple[int, Row]] = {}
    make, version_of = CallRows(labels), labels.price_version
    placed: dict[
        int, tuple[int | None, Row]
    ] = {}  # by identity: intake gives equal places as one object, and a batch keeps them alive
    for position, (call, outcome) in enumerate(calls):
        if call.started_ns < floor:
            continue
        context = placed.get(id(call.context))
        if context is None:
            run = change.runs.number(call.context, call.trace_id, call.started_ns)
            context = placed[id(call.context)] = run, make.context(call.context)
        version = version_of[outcome.version] if isinstance(outcome, Charge) else None
        row = make.row(call, outcome, run=context[0], placed=context[1], price_version=version)
        rows.setdefault(row[:2], (position, row))
    settled = settle(connection, labels, list(rows.values()))
    fresh = bulk.insert_new(
        connection, _CALL, CALL_COLUMNS, [row for _, row in settled.insert], key=_SPAN
    )
    inserted = settled.insert if fresh is None else [rows[key] for key in rows if key in fresh]
    for _, row in inserted:
        change.call(row)
    change.runs.load_numbers({old[CALL.run] for _, old, _ in settled.replace} - {None})
    for _, old, new in settled.replace:
        change.call(old, -1)
        change.call(new)
    bulk.change(
        connection, _CALL, CALL_COLUMNS, [(number, *new) for number, _, new in settled.replace]
    )
    return _Calls(tuple(position for position, _ in inserted), len(settled.replace))


def _steps(
    connection: Connection,
    bulk: Bulk,
    labels: Labels,
    change: Change,
    steps: Sequence[Step],
    floor: int,
) -> tuple[int, ...]:
    rows: dict[tuple[bytes, bytes], tuple[int, Row]] = {}
    for position, step in enumerate(steps):
        if step.started_ns < floor:
            continue
        row = step_row(
            step, labels, run=change.runs.number(step.context, step.trace_id, step.started_ns)
        )
        rows.setdefault((row[STEP.trace_id], row[STEP.span_id]), (position, row))
    fresh = bulk.insert_new(
        connection, _STEP, STEP_COLUMNS, [row for _, row in rows.values()], key=_SPAN
    )
    inserted = list(rows.values()) if fresh is None else [rows[key] for key in rows if key in fresh]
    for position, row in inserted:
        step = steps[position]
        if step.kind == KIND_TOOL:
            change.tool(row)
        if row[STEP.run] is not None:
            change.runs.step(row[STEP.run])
        if step.is_run and step.context.run_id is not None:
            change.runs.finish(step, row)
    return tuple(position for position, _ in inserted)
