"""What the ledger remembers about itself: rows of `ledger_state`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.state_keys import PRUNED_BEFORE, RENAMED

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

__all__ = ["count_renaming", "pruned_before", "set_pruned_before"]

_STATE = core_tables.ledger_state


def pruned_before(connection: Connection) -> int:
    """Return the moment (unix ns) before which detail was pruned, 0 for never."""
    query = select(_STATE.c.value).where(_STATE.c.name == PRUNED_BEFORE)
    found = connection.execute(query).scalar()
    return int(found or 0)


def set_pruned_before(connection: Connection, cutoff: int) -> None:
    """Remember that detail from before `cutoff` (unix nanoseconds) is gone."""
    connection.execute(delete(_STATE).where(_STATE.c.name == PRUNED_BEFORE))
    connection.execute(insert(_STATE).values(name=PRUNED_BEFORE, value=cutoff))


def count_renaming(connection: Connection) -> None:
    """Have every writer look names up again: some of those stored were changed."""
    counted = _STATE.c.name == RENAMED
    known = connection.execute(select(_STATE.c.value).where(counted)).scalar() or 0
    connection.execute(delete(_STATE).where(counted))
    connection.execute(insert(_STATE).values(name=RENAMED, value=known + 1))
