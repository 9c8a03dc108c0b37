"""One write transaction: its statements, its names, and the sums it moves.

Rows, run totals and roll-ups change together, so that they cannot disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.write.dimensions import Labels
from crewmeter_cost.ledger.write.remembered import Remembered
from crewmeter_cost.ledger.write.rollups import Tally
from crewmeter_cost.ledger.write.rows import STEP, StepState
from crewmeter_cost.ledger.write.run_totals import Runs
from crewmeter_cost.ledger.write.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter_cost.ledger.location import Backend
    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.pricing.charge_result import FrozenRates

__all__ = ["Transaction", "WriterState"]


class WriterState:
    """What one ledger's writer keeps from transaction to transaction."""

    def __init__(self, backend: Backend) -> None:
        self._statements = Statements(backend)
        self._labels = Labels(self._statements)
        self._remembered = Remembered()

    def begin(
        self, session: Session, frozen: Callable[[str], FrozenRates] | None = None
    ) -> Transaction:
        """Return the transaction that has begun on `session`.

        `frozen` gives the rates behind a charge's price version.
        """
        renamed = self._remembered.renamed
        self._remembered.refresh(session)
        # `crewmeter forget` changed a stored name: every id in memory may mean another one.
        if self._remembered.renamed != renamed:
            self._labels.forget()
        self._labels.begin(session, frozen)
        return Transaction(
            session,
            self._statements,
            self._labels,
            self._remembered,
        )

    def commit(self) -> None:
        """Keep what the transaction added: it is committed."""
        self._labels.commit()
        self._remembered.trim()

    def rollback(self) -> None:
        """Forget what the transaction added: it is not in the ledger."""
        # Ids that were given in it may be given again to other names.
        self._labels.rollback()
        self._remembered.forget()

    def forget(self) -> None:
        """Trust nothing any more: the file is another one."""
        self._labels.forget()
        self._remembered.forget()


class Transaction:
    """A transaction that holds the ledger's write lock. Whoever began it commits it."""

    def __init__(
        self, session: Session, statements: Statements, labels: Labels, remembered: Remembered
    ) -> None:
        self.session = session
        self.statements = statements
        self.labels = labels
        self.remembered = remembered
        self._tally = Tally(labels.tags_of.__getitem__)
        self.runs = Runs(
            session,
            statements,
            labels,
            remembered,
            self._tally,
        )

    def count_call(self, row: Row, sign: int = 1) -> None:
        """Add a call to every sum (or, with -1, take it back). Its run must be loaded."""
        self._tally.call(row, sign)
        self.runs.call(row, sign)

    def count_tool(self, row: Row, sign: int = 1) -> None:
        """Add a tool step to every sum (or take it back). Its run must be loaded."""
        failed = row[STEP.state] != StepState.OK
        self._tally.tool(
            started_ns=row[STEP.started_ns],
            duration_ns=row[STEP.duration_ns],
            tool=row[STEP.name],
            agent=row[STEP.agent],
            failed=failed,
            sign=sign,
        )
        self.runs.tool(
            row[STEP.run],
            failed=failed,
            sign=sign,
        )

    def save_sums(self) -> None:
        """Write run totals and roll-ups. The last statements before the commit."""
        # Runs first: they add their own outcome to the roll-ups.
        self.runs.save()
        rows = self._tally.rows()
        changed = (
            (columns.ROLLUP_HOUR, rows.rollup_hour),
            (columns.LATENCY_HOUR, rows.latency_hour),
            (columns.LATENCY_DAY, rows.latency_day),
        )
        for table, added in changed:
            self.statements.add_up(
                self.session,
                table,
                table.names,
                added,
            )
            if self._tally.took_back:
                # A group that nobody belongs to any more must not be reported with zeros.
                self.statements.drop_empty(
                    self.session,
                    table,
                    table.names,
                    added,
                )
