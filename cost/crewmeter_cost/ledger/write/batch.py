"""One batch into the ledger, inside one transaction.

It inserts new rows, and adds to sums what those rows add and no others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from crewmeter.semconv import KIND_TOOL
from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.write.call_dedup import SpanKey, plan
from crewmeter_cost.ledger.write.call_matching import has_usage
from crewmeter_cost.ledger.write.late_parents import adopt
from crewmeter_cost.ledger.write.merged_reports import merged_rows
from crewmeter_cost.ledger.write.rows import (
    CALL,
    CALL_COLUMNS,
    STEP,
    STEP_COLUMNS,
    CallRows,
    step_row,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crewmeter_cost.ledger.schema.table_spec import TableSpec
    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.ledger.write.transaction import Transaction
    from crewmeter_cost.pricing.charge_result import Outcome
    from crewmeter_cost.records import Call, Step

__all__ = ["Written", "write_batch"]

Positioned = tuple[int, "Row"]
"""A row, and its record's position in the batch."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a batch did to the ledger."""

    inserted_calls: int
    duplicate_calls: int
    """Spans already there, calls another instrumentor had reported, and spans from before what was
    pruned."""
    inserted_steps: int
    duplicate_steps: int
    superseded_calls: int = 0
    """Rows of another instrumentor that ours replaced: neither inserted nor duplicate."""
    new_calls: tuple[int, ...] = field(default=(), repr=False)
    """Positions in the batch of the calls inserted: what counters may count."""
    new_steps: tuple[int, ...] = field(default=(), repr=False)
    superseding_spans: frozenset[SpanKey] = field(default=frozenset(), repr=False)
    """Trace and span ids of the calls whose rows replaced another instrumentor's."""


def write_batch(
    transaction: Transaction, calls: Sequence[tuple[Call, Outcome]], steps: Sequence[Step]
) -> Written:
    """Write one batch.

    The caller holds the write lock, began the transaction and commits it.
    """
    contexts = chain(
        (call.context for call, _ in calls),
        (step.context for step in steps),
    )
    run_ids = {context.run_id for context in contexts}
    transaction.runs.load(run_id for run_id in run_ids if run_id is not None)
    transaction.remembered.add_scopes({call.scope for call, _ in calls})
    new_calls = _write_calls(transaction, calls, steps)
    new_steps = _write_steps(transaction, steps)
    traces = {bytes.fromhex(calls[position][0].trace_id) for position in new_calls.inserted}
    traces |= {bytes.fromhex(steps[position].trace_id) for position in new_steps}
    adopt(transaction, traces)
    transaction.save_sums()
    return Written(
        inserted_calls=len(new_calls.inserted),
        duplicate_calls=len(calls) - len(new_calls.inserted) - len(new_calls.superseding),
        inserted_steps=len(new_steps),
        duplicate_steps=len(steps) - len(new_steps),
        superseded_calls=len(new_calls.superseding),
        new_calls=new_calls.inserted,
        new_steps=new_steps,
        superseding_spans=frozenset(new_calls.superseding),
    )


class _NewCalls(NamedTuple):
    inserted: tuple[int, ...]
    """Positions in the batch."""
    superseding: list[SpanKey]
    """Trace and span ids of those that replaced a row, one for each."""


def _write_calls(
    transaction: Transaction, calls: Sequence[tuple[Call, Outcome]], steps: Sequence[Step]
) -> _NewCalls:
    deduplicated = plan(
        transaction,
        _fullest_of_each_span(_call_rows(transaction, calls)),
        steps,
    )
    inserted = _insert(
        transaction,
        columns.CALL,
        CALL_COLUMNS,
        deduplicated.insert,
    )
    for _, row in inserted:
        transaction.count_call(row)
    replaced = deduplicated.replace
    transaction.runs.load_numbers({old[CALL.run] for _, old, _ in replaced})
    for _, old, new in replaced:
        transaction.count_call(old, -1)
        transaction.count_call(new)
    rows = [(number, *new) for number, _, new in replaced]
    transaction.statements.change(
        transaction.session,
        columns.CALL,
        CALL_COLUMNS,
        rows,
    )
    _write_merged(transaction, deduplicated.merged)
    superseding = []
    for _, _, new in replaced:
        trace = bytes(new[CALL.trace_id])
        span = bytes(new[CALL.span_id])
        superseding.append((trace, span))
    return _NewCalls(
        tuple(position for position, _ in inserted),
        superseding,
    )


def _write_merged(transaction: Transaction, merged: Sequence[tuple[Row, Row]]) -> None:
    """Store reports that were merged into others as steps of their run."""
    rows = merged_rows(transaction, merged)
    inserted = _insert(
        transaction,
        columns.STEP,
        STEP_COLUMNS,
        list(enumerate(rows)),
    )
    for _, row in inserted:
        transaction.runs.step(row[STEP.run])


def _call_rows(
    transaction: Transaction, calls: Sequence[tuple[Call, Outcome]]
) -> Iterator[Positioned]:
    """Yield the row of each call that is not from before what was pruned."""
    rows = CallRows(transaction.labels)
    pruned_before = transaction.remembered.pruned_before
    # By identity: intake gives equal contexts as one object, and the batch keeps them alive.
    contexts: dict[int, tuple[int | None, Row]] = {}
    for position, (call, outcome) in enumerate(calls):
        if call.started_ns < pruned_before:
            continue
        known = contexts.get(id(call.context))
        if known is None:
            run = transaction.runs.number(
                call.context,
                call.trace_id,
                call.started_ns,
            )
            known = contexts[id(call.context)] = run, rows.context(call.context)
        run, context = known
        yield (
            position,
            rows.row(
                call,
                outcome,
                run=run,
                context=context,
            ),
        )


def _write_steps(transaction: Transaction, steps: Sequence[Step]) -> tuple[int, ...]:
    rows = _first_of_each_span(_step_rows(transaction, steps))
    inserted = _insert(transaction, columns.STEP, STEP_COLUMNS, rows)
    for position, row in inserted:
        step = steps[position]
        if step.kind == KIND_TOOL:
            transaction.count_tool(row)
        transaction.runs.step(row[STEP.run])
        if step.is_run and row[STEP.run] is not None:
            transaction.runs.finish(step, row)
    return tuple(position for position, _ in inserted)


def _step_rows(transaction: Transaction, steps: Sequence[Step]) -> Iterator[Positioned]:
    """Yield the row of each step that is not from before what was pruned."""
    pruned_before = transaction.remembered.pruned_before
    for position, step in enumerate(steps):
        if step.started_ns >= pruned_before:
            run = transaction.runs.number(
                step.context,
                step.trace_id,
                step.started_ns,
            )
            yield (
                position,
                step_row(
                    step,
                    transaction.labels,
                    run=run,
                ),
            )


def _fullest_of_each_span(rows: Iterable[Positioned]) -> list[Positioned]:
    """Return the first call of each span that has usage, else the first."""
    fullest: dict[Row, Positioned] = {}
    for position, row in rows:
        earlier = fullest.setdefault(row[:2], (position, row))
        if has_usage(row) and not has_usage(earlier[1]):
            fullest[row[:2]] = (position, row)
    return list(fullest.values())


def _first_of_each_span(rows: Iterable[Positioned]) -> list[Positioned]:
    first: dict[Row, Positioned] = {}
    for position, row in rows:
        first.setdefault(
            row[:2],
            (position, row),
        )
    return list(first.values())


def _insert(
    transaction: Transaction, table: TableSpec, names: tuple[str, ...], rows: list[Positioned]
) -> list[Positioned]:
    """Insert the rows whose span is not there yet, and return them."""
    fresh = transaction.statements.insert_new(
        transaction.session, table, names, [row for _, row in rows]
    )
    if fresh is None:
        return rows
    return [(position, row) for position, row in rows if row[:2] in fresh]
