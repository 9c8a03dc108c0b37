"""Retention: old calls, steps and runs go in small transactions, roll-ups stay."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, or_, select

from crewmeter_cost.ledger.metadata import pruned_before, set_pruned_before
from crewmeter_cost.ledger.read.query import rounded
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.rollup_dimensions import HOUR
from crewmeter_cost.money import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["Pruned", "prune", "would_prune"]

BATCH = 2000
"""Rows deleted per transaction: some ten milliseconds on SQLite."""
PAUSE_SECONDS = 0.005
"""Between two, so that a writer waiting for the lock gets it."""

_CALL, _STEP = core_tables.call, core_tables.step
_RUN, _ADJUSTMENT = core_tables.run, core_tables.adjustment
_NS = 10**9


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much detail went, or would go."""

    before: datetime
    calls: int
    steps: int
    runs: int


def _cutoff(before: datetime) -> int:
    """Return the last whole hour (ns) not after `before`.

    Reports read hours as a whole.
    """
    return (nanoseconds(before) or 0) // (HOUR * _NS) * HOUR * _NS


def _old(table: Table, cutoff: int) -> ColumnElement[bool]:
    return rounded(table.c.started_ns, _NS) < cutoff // _NS


def _empty(cutoff: int) -> ColumnElement[bool]:
    """Select runs from before the cutoff of which nothing is left."""
    calls = select(_CALL.c.id).where(_CALL.c.run == _RUN.c.id).exists()
    steps = select(_STEP.c.id).where(_STEP.c.run == _RUN.c.id).exists()
    return _old(_RUN, cutoff) & ~or_(calls, steps)


def would_prune(ledger: Ledger, before: datetime) -> Pruned:
    """Return what `prune` would delete (runs: at most)."""
    cutoff = _cutoff(before)
    with ledger.reading() as connection:
        calls, steps, runs = (_count(connection, table, cutoff) for table in (_CALL, _STEP, _RUN))
    return Pruned(before, calls, steps, runs)


def _count(connection: Connection, table: Table, cutoff: int) -> int:
    query = select(func.count()).select_from(table).where(_old(table, cutoff))
    return int(connection.execute(query).scalar_one())


def prune(
    ledger: Ledger, before: datetime, *, progress: Callable[[int], None] | None = None
) -> Pruned:
    """Delete calls, steps and runs that started before `before`.

    The moment is rounded down to the hour.

    From then on spans from before that time are refused as duplicates: whether they were counted
    is no longer known.

    Args:
        ledger: The ledger to prune, which others may write meanwhile.
        before: The time before which detail goes.
        progress: Called with the number of rows deleted by each transaction.

    Returns:
        How much went.

    Raises:
        CrewMeterError: The ledger cannot be written. What was deleted so far stays deleted.
    """
    cutoff = _cutoff(before)
    with ledger.writing() as work:
        if pruned_before(work.connection) < cutoff:
            set_pruned_before(work.connection, cutoff)
    calls = _delete(ledger, _CALL, _old(_CALL, cutoff), progress)
    steps = _delete(ledger, _STEP, _old(_STEP, cutoff), progress)
    runs = _delete(ledger, _RUN, _empty(cutoff), progress)
    if ledger.engine.dialect.name == "sqlite":
        with ledger.engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
    return Pruned(before, calls, steps, runs)


def _delete(
    ledger: Ledger, table: Table, which: ColumnElement[bool], progress: Callable[[int], None] | None
) -> int:
    total = 0
    while True:
        with ledger.writing() as work:
            deleted = _delete_some(work.connection, table, which)
        total += deleted
        if progress is not None:
            progress(deleted)
        if deleted < BATCH:
            return total
        time.sleep(PAUSE_SECONDS)


def _delete_some(connection: Connection, table: Table, which: ColumnElement[bool]) -> int:
    """Delete up to `BATCH` rows, and what refers to them."""
    ids = list(connection.scalars(select(table.c.id).where(which).limit(BATCH)))
    if ids and table is _CALL:
        connection.execute(delete(_ADJUSTMENT).where(_ADJUSTMENT.c.call.in_(ids)))
    if ids:
        connection.execute(delete(table).where(table.c.id.in_(ids)))
    return len(ids)
