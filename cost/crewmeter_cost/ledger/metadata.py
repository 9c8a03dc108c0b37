"""What the ledger remembers about itself: rows of `ledger_state`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_cost.ledger.schema.state_keys import CALLS_NAMED_APART, PRUNED_BEFORE, RENAMED
from crewmeter_cost.ledger.sql import Sql

if TYPE_CHECKING:
    from crewmeter_cost.ledger.session import Session

__all__ = ["calls_named_apart", "count_renaming", "pruned_before"]

_READ = "SELECT value FROM ledger_state WHERE name = ?"
_COUNT = (
    "INSERT INTO ledger_state (name, value) VALUES (?, 1) "
    "ON CONFLICT (name) DO UPDATE SET value = ledger_state.value + 1"
)


def calls_named_apart(session: Session) -> bool:
    """Return whether a call ever had another user, team or session than its run."""
    query = Sql(_READ, (CALLS_NAMED_APART,))
    return bool(session.value(query))


def pruned_before(session: Session) -> int:
    """Return the moment (unix ns) before which detail was pruned, 0 for never."""
    query = Sql(_READ, (PRUNED_BEFORE,))
    found = session.value(query)
    return int(found or 0)


def count_renaming(session: Session) -> None:
    """Have every writer look names up again: some of those stored were changed."""
    session.run(Sql(_COUNT, (RENAMED,)))
