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
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading

__all__ = ["ForkedConnections", "keep_safe"]

WAIT_SECONDS = 2.0
"""How long a fork waits for a batch that is being written."""


class ForkedConnections(Protocol):
    """Connections that are used under a lock."""

    lock: threading.Lock

    def before_fork(self, *, idle: bool) -> None:
        """Close what a child must not inherit. `idle` says that the lock could be taken."""

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections without closing them."""


_all: weakref.WeakSet[ForkedConnections] = weakref.WeakSet()
_held: list[threading.Lock] = []


def keep_safe(connections: ForkedConnections) -> None:
    """Close these connections whenever the process forks, while their owner lives."""
    _all.add(connections)


def _before() -> None:
    for connections in list(_all):
        lock = connections.lock
        idle = lock.acquire(timeout=WAIT_SECONDS)
        if idle:
            _held.append(lock)
        connections.before_fork(idle=idle)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    _held.clear()
    for connections in list(_all):
        connections.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
