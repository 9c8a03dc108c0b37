"""Retention: old calls, steps and runs go, in small transactions between which writers get their turn; roll-ups stay."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, or_, select

from crewmeter_cost.ledger.metadata import pruned_before, set_pruned_before
from crewmeter_cost.ledger.read.query import rounded
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.rollups import HOUR
from crewmeter_cost.money import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Table

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["Pruned", "prune", "would_prune"]

BATCH = 2000
"""Rows deleted per transaction: some ten milliseconds on SQLite."""
PAUSE_SECONDS = 0.005
"""Between two, so that a writer waiting for the lock gets it."""

_CALL, _STEP, _RUN, _ADJUSTMENT = (
    core_tables.call,
    core_tables.step,
    core_tables.run,
    core_tables.adjustment,
)
_NS = 10**9


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much detail went, or would go."""

    before: datetime
    calls: int
    steps: int
    runs: int


def _cutoff(before: datetime) -> int:
    """The last whole hour (ns) not after `before`: reports read hours at the edge as a whole."""
    return (nanoseconds(before) or 0) // (HOUR * _NS) * HOUR * _NS


def _old(table: Table, cutoff: int) -> ColumnElement[bool]:
    return rounded(table.c.started_ns, _NS) < cutoff // _NS


def _empty(cutoff: int) -> ColumnElement[bool]:
    """Runs from before the cutoff of which nothing is left."""
    calls = select(_CALL.c.id).where(_CALL.c.run == _RUN.c.id).exists()
    steps = select(_STEP.c.id).where(_STEP.c.run == _RUN.c.id).exists()
    return _old(_RUN, cutoff) & ~or_(calls, steps)


def would_prune(ledger: Ledger, before: datetime) -> Pruned:
    """What `prune` would delete (runs: at most)."""
    cutoff = _cutoff(before)
    with ledger.reading() as connection:
        calls, steps, runs = (
            connection.execute(
                select(func.count()).select_from(table).where(_old(table, cutoff))
            ).scalar_one()
            for table in (_CALL, _STEP, _RUN)
        )
    return Pruned(before, calls, steps, runs)


def prune(
    ledger: Ledger, before: datetime, *, progress: Callable[[int], None] | None = None
) -> Pruned:
    """Delete calls, steps and runs that started before `before` (rounded down to the hour). `progress` hears rows deleted.

    From then on spans from before that time are refused as duplicates: whether they were counted can no longer be told.
    """
    cutoff = _cutoff(before)
    with ledger.writing() as work:
        if pruned_before(work.connection) < cutoff:
            set_pruned_before(work.connection, cutoff)
    calls, steps = (
        _delete(ledger, table, _old(table, cutoff), progress) for table in (_CALL, _STEP)
    )
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
            ids = [
                row[0]
                for row in work.connection.execute(select(table.c.id).where(which).limit(BATCH))
            ]
            if ids and table is _CALL:
                work.connection.execute(delete(_ADJUSTMENT).where(_ADJUSTMENT.c.call.in_(ids)))
            if ids:
                work.connection.execute(delete(table).where(table.c.id.in_(ids)))
        total += len(ids)
        if progress is not None:
            progress(len(ids))
        if len(ids) < BATCH:
            return total
        time.sleep(PAUSE_SECONDS)
