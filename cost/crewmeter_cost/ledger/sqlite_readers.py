"""Connections that read a SQLite ledger, reused from query to query.

Writers do not block them. A connection of its own for each reader lets the threads of a server read
side by side.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.session import SqliteSession
from crewmeter_cost.ledger.sqlite_file import identity_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from crewmeter_cost.ledger.sqlite_file import FileIdentity

__all__ = ["SqliteReaders"]

_MOST_IDLE = 4
"""Connections that wait for the next query. Each has a page cache of its own."""

Reader = tuple["FileIdentity | None", "sqlite3.Connection"]
"""A connection, and the file that it was opened on."""


class SqliteReaders:
    """Reading connections to the file that a path leads to."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._idle: list[Reader] = []
        self._lock = threading.Lock()

    @contextmanager
    def session(self) -> Iterator[SqliteSession]:
        """Yield a session in one read transaction. Raises `sqlite3.Error`."""
        pool = self._idle
        reader = self._take()
        connection = reader[1]
        try:
            connection.execute("BEGIN")
            yield SqliteSession(connection)
        finally:
            # An open read transaction would keep the write-ahead log from being folded back.
            if connection.in_transaction:
                connection.execute("COMMIT")
            self._give_back(pool, reader)

    def _take(self) -> Reader:
        """Return an idle connection to today's file, or a new one."""
        identity = identity_of(self._path)
        with self._lock:
            while self._idle:
                reader = self._idle.pop()
                if reader[0] == identity:
                    return reader
                reader[1].close()
        return identity, self._connect()

    def _give_back(self, pool: list[Reader], reader: Reader) -> None:
        with self._lock:
            # Another list means that the readers were closed meanwhile.
            if pool is self._idle and len(pool) < _MOST_IDLE:
                pool.append(reader)
                return
        reader[1].close()

    def close(self) -> None:
        """Close the idle connections. Those in use are closed when they are given back."""
        for _, connection in self.abandon():
            connection.close()

    def abandon(self) -> list[Reader]:
        """Forget the idle connections and return them, unclosed. Locks are made anew."""
        dropped = self._idle
        self._idle = []
        self._lock = threading.Lock()
        return dropped
