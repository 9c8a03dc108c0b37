"""Retention: old calls, steps and runs go in small transactions, roll-ups stay."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.content.content_store import ContentStore
from crewmeter_cost.ledger.schema.rollup_dimensions import HOUR
from crewmeter_cost.ledger.schema.state_keys import PRUNED_BEFORE
from crewmeter_cost.ledger.sql import Sql, sql, where
from crewmeter_cost.money import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from crewmeter_cost.ledger.store import Ledger
    from crewmeter_cost.ledger.write.transaction import Transaction

__all__ = ["BATCH", "Pruned", "prune", "prune_content", "prune_rows", "would_prune"]

BATCH = 2000
"""Rows deleted per transaction: some ten milliseconds on SQLite."""
PAUSE_SECONDS = 0.005
"""Between two, so that a writer waiting for the lock gets it."""

_NS = 10**9
_OLD = "started_ns / 1000000000 < ?"
"""As the indexes on whole seconds have it."""
_EMPTY = (
    "started_ns / 1000000000 < ? "
    "AND NOT EXISTS (SELECT 1 FROM call WHERE call.run = run.id) "
    "AND NOT EXISTS (SELECT 1 FROM step WHERE step.run = run.id)"
)
_DELETED = {"call": _OLD, "step": _OLD, "run": _EMPTY}
"""Table → its rows that go, in that order: a run goes when nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much detail went, or would go."""

    before: datetime
    calls: int
    steps: int
    runs: int
    contents: int = 0
    """Captured texts that went with their steps, or were too old themselves."""


def _cutoff(before: datetime) -> int:
    """Return the last whole hour (ns) not after `before`.

    Reports read hours as a whole.
    """
    return (nanoseconds(before) or 0) // (HOUR * _NS) * HOUR * _NS


def would_prune(ledger: Ledger, before: datetime, *, with_content: bool = True) -> Pruned:
    """Return what `prune` would delete (runs: at most)."""
    seconds = _cutoff(before) // _NS
    older = Sql(_OLD, (seconds,))
    with ledger.read_session() as session:
        counts = {}
        for table in _DELETED:
            query = sql("SELECT count(*) FROM", table, where([older]))
            counts[table] = int(session.value(query))
    contents = 0
    if with_content:
        contents = ContentStore(ledger.url).count_before(_cutoff(before))
    return Pruned(
        before,
        counts["call"],
        counts["step"],
        counts["run"],
        contents=contents,
    )


def prune(
    ledger: Ledger,
    before: datetime,
    *,
    progress: Callable[[int], None] | None = None,
) -> Pruned:
    """Delete calls, steps and runs from before a moment, then their content.

    The moment is rounded down to the hour.

    From then on spans from before that time are refused as duplicates: whether they were counted
    is no longer known. In SQLite this needs no SQLAlchemy, so an app may do it.

    Args:
        ledger: The ledger to prune, which others may write meanwhile.
        before: The time before which detail goes.
        progress: Called with the number of rows deleted by each transaction.

    Returns:
        How much went.

    Raises:
        CrewMeterError: The ledger, or the content beside it, cannot be written. What was deleted
            so far stays deleted.
    """
    pruned = prune_rows(ledger, before, progress=progress)
    # Last, so that a fault in it keeps nothing in the ledger.
    return replace(pruned, contents=prune_content(ledger, before))


def prune_content(ledger: Ledger, before: datetime) -> int:
    """Delete the content of pruned steps, and what is too old itself.

    Returns how many texts went. Raises `CrewMeterError`.
    """
    return ContentStore(ledger.url).delete_before(_cutoff(before))


def prune_rows(
    ledger: Ledger,
    before: datetime,
    *,
    progress: Callable[[int], None] | None = None,
    most_batches: int | None = None,
) -> Pruned:
    """Delete rows as `prune` does, a bounded number of batches, no content."""
    cutoff = _cutoff(before)
    _mark(ledger, cutoff)
    deleted = {}
    batches = most_batches
    for table, which in _DELETED.items():
        deleted[table] = 0
        while batches is None or batches > 0:
            with ledger.transaction() as transaction:
                rows = _delete_some(
                    transaction,
                    table,
                    which,
                    cutoff // _NS,
                )
            deleted[table] += rows
            if progress is not None:
                progress(rows)
            if rows < BATCH:
                break
            if batches is not None:
                batches -= 1
            time.sleep(PAUSE_SECONDS)
    return Pruned(
        before,
        deleted["call"],
        deleted["step"],
        deleted["run"],
    )


def _mark(ledger: Ledger, cutoff: int) -> None:
    """Record that detail before `cutoff` (unix ns) is gone, unless more is already."""
    with ledger.transaction() as transaction:
        if transaction.remembered.pruned_before < cutoff:
            sql = transaction.statements.text(
                "INSERT INTO ledger_state (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
            )
            transaction.session.execute(sql, (PRUNED_BEFORE, cutoff))
            transaction.remembered.forget()


def _delete_some(transaction: Transaction, table: str, which: str, cutoff: int) -> int:
    """Delete up to `BATCH` rows, and what refers to them."""
    session = transaction.session
    text = transaction.statements.text
    query = text(f'SELECT id FROM "{table}" WHERE {which} LIMIT {BATCH}')  # noqa: S608 - constants
    ids = session.execute(query, (cutoff,)).fetchall()
    if ids and table == "call":
        session.executemany(text("DELETE FROM adjustment WHERE call = ?"), ids)
    if ids:
        delete = text(f'DELETE FROM "{table}" WHERE id = ?')  # noqa: S608 - a constant
        session.executemany(delete, ids)
        # The totals of a run that is gone must not be remembered.
        transaction.remembered.forget()
    return len(ids)
