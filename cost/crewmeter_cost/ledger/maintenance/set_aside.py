"""A damaged SQLite ledger is moved aside, and what can be read is copied."""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.integrity import damage_of
from crewmeter_cost.ledger.maintenance.salvage import salvage
from crewmeter_cost.ledger.quarantine import quarantine
from crewmeter_cost.ledger.sqlite_file import identity_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from crewmeter_cost.errors import LedgerCorruptError
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["set_aside"]

_log = logging.getLogger("crewmeter")


def set_aside(path: Path, error: LedgerCorruptError, ledgers: Iterable[Ledger]) -> Path | None:
    """Move a damaged ledger aside, and return where it is now. None where it is sound.

    `ledgers` are this process's own connections to it. What can be read is copied to a new file
    beside it, in the background. Raises `OSError` where it cannot be moved.
    """
    found = identity_of(path)
    proven = error.found_in is not None and error.found_in == found
    damaged = proven or damage_of(path) is not None
    for ledger in ledgers:
        if damaged:
            ledger.abandon()
        else:
            ledger.close()
    if not damaged:
        return None
    aside = quarantine(path, damaged=found)
    if aside is not None:
        copying = threading.Thread(
            target=_copy_readable, args=(aside,), name="crewmeter-salvage", daemon=True
        )
        copying.start()
    return aside


def _copy_readable(aside: Path) -> None:
    target = aside.with_name(f"{aside.name}.salvaged.db")
    try:
        salvaged = salvage(aside, target)
    except (sqlite3.Error, OSError, CrewMeterError) as error:
        _log.error("nothing could be read of %s: %s", aside, error)
        return
    _log.error(
        "%d calls, %d steps and %d runs of the damaged ledger are in %s; read them with --ledger",
        salvaged.calls,
        salvaged.steps,
        salvaged.runs,
        salvaged.path,
    )
