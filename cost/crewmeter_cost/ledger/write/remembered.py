"""What the writer caches of the ledger between batches, and its validity.

SQLite counts the commits of other connections (`PRAGMA data_version`). While that count stands
still, nobody but this writer changed the ledger, so a batch need not read the pruning mark, the
instrumentors there are, or the totals of runs again. Servers have no such count: there, a batch
reads them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.semconv import SCOPE
from crewmeter_cost.ledger.schema.state_keys import CALLS_NAMED_APART, PRUNED_BEFORE, RENAMED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.write.run_totals import RunTotals

__all__ = ["Remembered"]

_MOST_RUNS = 10_000
_SCOPE_MARK = -1
_STATE = (
    "SELECT name, value FROM ledger_state "
    "UNION ALL SELECT value, -1 FROM label WHERE kind = 'scope'"
)
_NOTHING_PRUNED = -(2**64)
"""Before any start there is."""


class Remembered:
    """The ledger's state as of this writer's last transaction."""

    def __init__(self) -> None:
        self._version: int | None = None
        self.pruned_before = _NOTHING_PRUNED
        """Spans that started before it (unix nanoseconds) are refused."""
        self.renamed = 0
        """How often stored names were changed. See `state_keys.RENAMED`."""
        self.named_apart = False
        """Whether a call had another user than its run. See `state_keys.CALLS_NAMED_APART`."""
        self.runs: dict[str, RunTotals] = {}
        self.next_run: int | None = None
        """The number of the next new run, None where it must be looked up."""
        self._scopes: set[str] = set()

    def refresh(self, session: Session) -> None:
        """Read the state again unless the ledger is known not to have changed."""
        version = session.data_version()
        if version is not None and version == self._version:
            return
        self.forget()
        for name, value in session.execute(_STATE).fetchall():
            if value == _SCOPE_MARK:
                self._scopes.add(name)
            elif name == PRUNED_BEFORE and value:
                self.pruned_before = value
            elif name == RENAMED:
                self.renamed = value
            elif name == CALLS_NAMED_APART:
                self.named_apart = True
        self._version = version

    def forget(self) -> None:
        """Trust nothing any more: a transaction failed, or the connection is another one."""
        self._version = None
        self.pruned_before = _NOTHING_PRUNED
        self.named_apart = False
        self.runs = {}
        self.next_run = None
        self._scopes = set()

    def trim(self) -> None:
        """Bound the memory of runs."""
        if len(self.runs) > _MOST_RUNS:
            self.runs = {}

    def add_scopes(self, scopes: Iterable[str]) -> None:
        """Add the instrumentors of a batch."""
        self._scopes.update(scopes)

    @property
    def foreign_scopes(self) -> bool:
        """Whether an instrumentor other than ours ever wrote here."""
        return bool(self._scopes - {SCOPE})

    def has_scope(self, ending: str) -> bool:
        """Return whether an instrumentor whose name ends so ever wrote here."""
        return any(scope.endswith(ending) for scope in self._scopes)
