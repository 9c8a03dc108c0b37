"""What the ledger remembers about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from crewmeter_cost.ledger.schema import core_tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

__all__ = ["pruned_before", "set_pruned_before"]

_STATE = core_tables.ledger_state
_PRUNED = "pruned_before"
_PRUNED_BEFORE = select(_STATE.c.value).where(_STATE.c.name == _PRUNED)


def pruned_before(connection: Connection) -> int:
    """Detail from before this moment (unix nanoseconds) was pruned; 0 where nothing ever was."""
    return int(connection.execute(_PRUNED_BEFORE).scalar() or 0)


def set_pruned_before(connection: Connection, cutoff: int) -> None:
    """Remember that detail from before `cutoff` (unix nanoseconds) is gone."""
    connection.execute(delete(_STATE).where(_STATE.c.name == _PRUNED))
    connection.execute(insert(_STATE).values(name=_PRUNED, value=cutoff))
