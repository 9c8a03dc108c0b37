"""Ledgers across `fork`: no connection is open while a process forks.

SQLite remembers the file locks its process holds. A child inherits that memory but not the locks,
so a connection that the child opens later would believe itself protected, and lose its writes when
the parent closes the file
(https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_).
Closing before the fork and opening again after it, in both, is the one safe order. PostgreSQL's
sockets must not be shared either.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["keep_safe"]

WAIT_SECONDS = 2.0
"""How long a fork waits for a batch that is being written."""

_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
_held: list[threading.Lock] = []


def keep_safe(ledger: Ledger) -> None:
    """Close this ledger's connections whenever the process forks, while it lives."""
    _ledgers.add(ledger)


def _before() -> None:
    for ledger in list(_ledgers):
        lock = ledger.lock
        idle = lock.acquire(timeout=WAIT_SECONDS)
        if idle:
            _held.append(lock)
        ledger.before_fork(idle=idle)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    _held.clear()
    for ledger in list(_ledgers):
        ledger.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
