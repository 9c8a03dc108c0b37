"""A process's connections to a SQLite ledger: one writes batches, others read."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.database_errors import explain, unwritable
from crewmeter_cost.ledger.file_system import warn_of_network
from crewmeter_cost.ledger.location import display_url
from crewmeter_cost.ledger.schema.version_numbers import HEAD, needs_writing
from crewmeter_cost.ledger.session import SqliteSession
from crewmeter_cost.ledger.sqlite_file import (
    connect,
    identity_of,
    prepare_file,
    real_path,
    schema_of,
)
from crewmeter_cost.ledger.sqlite_readers import SqliteReaders

if TYPE_CHECKING:
    from pathlib import Path

    from crewmeter_cost.ledger.location import LedgerUrl
    from crewmeter_cost.ledger.sqlite_file import FileIdentity

__all__ = ["SqliteConnections"]

_log = logging.getLogger("crewmeter")

_abandoned: list[sqlite3.Connection] = []
"""Connections that must not be closed: a parent's in a forked child, and those to a damaged file.

Closing them could fold the WAL into the file and delete it."""


class SqliteConnections:
    """Connections that are opened when first used, and again after `close`.

    The writer's is guarded by the ledger's lock.
    """

    def __init__(
        self, url: LedgerUrl, path: Path, *, durable: bool, read_only: bool, busy_seconds: float
    ) -> None:
        self._url = url
        self._path = path
        self._durable = durable
        self._read_only = read_only
        self._busy_seconds = busy_seconds
        self._identity: FileIdentity | None = None
        self._session: SqliteSession | None = None
        self._wal_identity: FileIdentity | None = None
        self.readers = SqliteReaders(path, self._connect)

    def open(self) -> bool:
        """Make the file where it is missing, and connect.

        False if its schema is an older one.

        Raises `CrewMeterError`.
        """
        self._require_file()
        if not self._read_only:
            warn_of_network(self._path)
        try:
            session = self._session = SqliteSession(self._connect())
            self._identity = identity_of(self._path)
            return self._schema(session.connection) == HEAD
        except sqlite3.Error as error:
            self.close()
            raise explain(error, self._url) from error
        except CrewMeterError:
            self.close()
            raise

    def _require_file(self) -> None:
        if not self._read_only:
            prepare_file(self._path)
        elif not self._path.exists():
            hint = "run `crewmeter demo`, or an app with crewmeter.instrument()"
            raise CrewMeterError(f"there is no ledger at {self._path} yet", hint=hint)
        elif self._path.is_dir():
            raise unwritable(self._path, None)

    def _schema(self, connection: sqlite3.Connection) -> str:
        name = display_url(self._url)
        found = schema_of(connection, name, read_only=self._read_only)
        if found != HEAD and self._read_only:
            raise needs_writing(name, found)
        return found

    def _connect(self) -> sqlite3.Connection:
        return connect(
            self._path,
            durable=self._durable,
            read_only=self._read_only,
            busy_seconds=self._busy_seconds,
        )

    @property
    def session(self) -> SqliteSession:
        """The writer's statements. Raises `RuntimeError` before `open`."""
        if self._session is None:
            raise RuntimeError("the ledger is not open")
        return self._session

    @property
    def is_open(self) -> bool:
        """Whether the writer's connection is open."""
        return self._session is not None

    def in_its_file(self) -> bool:
        """Whether the path leads to the file that is open."""
        is_same = self.identity_now() == self._identity
        if is_same and self._wal_identity is None:
            self._wal_identity = identity_of(self._beside("-wal"))
        return is_same

    def identity_now(self) -> FileIdentity | None:
        """Return which file the path leads to now, None for nothing."""
        return identity_of(self._path)

    def close(self) -> None:
        """Close every connection."""
        was_moved = self._session is not None and not self.in_its_file()
        # SQLite folds the log in at close only where the file is still at its path.
        if self._session is not None:
            if was_moved:
                self._complete_moved_file(self._session.connection)
            self._session.connection.close()
            self._session = None
        self.readers.close()
        if was_moved:
            self._set_old_journal_aside()
        self._wal_identity = None

    def _complete_moved_file(self, connection: sqlite3.Connection) -> None:
        """Copy what is only in the WAL into the file, wherever it is now.

        SQLite does so when the last connection is closed, but not for a file that was moved.
        """
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            _log.error("the old ledger file may lack its last commits: %s", error)

    def _set_old_journal_aside(self) -> None:
        """Rename the ``-wal`` that belongs to the file that was moved, with its ``-shm``.

        It stays at its path, and SQLite would replay it into the file that is there now. One of
        another inode is the new file's own.
        """
        mine = self._wal_identity
        self._wal_identity = None
        if mine is None or identity_of(self._beside("-wal")) != mine:
            return
        # Renamed, not deleted: it may hold the last commits of the file that was moved.
        stamp = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{time.time_ns()}"
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._beside(suffix).rename(self._beside(f".replaced-{stamp}{suffix}"))

    def _beside(self, suffix: str) -> Path:
        real = real_path(self._path)
        return real.with_name(real.name + suffix)

    def abandon(self) -> None:
        """Drop every connection without closing it."""
        if self._session is not None:
            _abandoned.append(self._session.connection)
        _abandoned.extend(connection for _, connection in self.readers.abandon())
        self._session = None
