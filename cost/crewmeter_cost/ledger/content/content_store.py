"""The store of captured content.

A SQLite file beside the ledger, or a table in PostgreSQL.

It is no part of the ledger: no report, export, mirror or MCP tool reads it, it has its own
retention, and a fault in it costs no call. A connection is opened for each use, under a lock that a
fork waits for.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError, LedgerUnavailableError
from crewmeter_cost.ledger.content.settings import content_cutoff, stores_content
from crewmeter_cost.ledger.fork_safety import keep_safe
from crewmeter_cost.ledger.location import sqlite_path
from crewmeter_cost.ledger.session import ConnectionSession, SqliteSession
from crewmeter_cost.ledger.sql import Sql, one_of, sql, where
from crewmeter_cost.ledger.sqlite_file import prepare_file, real_path
from crewmeter_cost.money import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from crewmeter_cost.ledger.location import LedgerUrl
    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.records import CapturedContent

__all__ = ["ContentStore", "content_path", "content_sink"]

_log = logging.getLogger("crewmeter")

_TABLE = "captured_content"
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS {_TABLE} ("
    "trace_id TEXT NOT NULL, span_id TEXT NOT NULL, item TEXT NOT NULL, "
    'started_ns BIGINT NOT NULL, stored_ns BIGINT NOT NULL, "user" TEXT, text TEXT NOT NULL, '
    "PRIMARY KEY (trace_id, span_id, item))",
    f"CREATE INDEX IF NOT EXISTS {_TABLE}_stored ON {_TABLE} (stored_ns)",
)
_INSERT = (
    f"INSERT INTO {_TABLE} "  # noqa: S608 - a constant
    '(trace_id, span_id, item, started_ns, stored_ns, "user", text) '
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_TRACES_AT_ONCE = 500
_BUSY_SECONDS = 1.0
_QUIET_SECONDS = 60.0
"""At most one complaint in this time."""
_EXPIRE_SECONDS = 600.0
"""How often old content is looked for."""


def content_path(url: LedgerUrl) -> Path | None:
    """Return ``ledger.db.content`` beside a SQLite ledger, None for a server."""
    path = sqlite_path(url)
    if path is None:
        return None
    real = real_path(path)
    return real.with_name(f"{real.name}.content")


def content_sink(url: LedgerUrl) -> ContentStore | None:
    """Return where this process stores content, None where that was not requested.

    Settings that cannot be read are logged, and nothing is stored.
    """
    try:
        if stores_content():
            content_cutoff()
            return ContentStore(url)
    except CrewMeterError as error:
        _log.warning("%s; no content is stored", error)
    return None


class ContentStore:
    """What steps captured, by trace and span id. Safe to use from several threads."""

    def __init__(
        self,
        url: LedgerUrl,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._url = url
        self._environ = environ
        self._clock = clock
        self._path = content_path(url)
        self._complained = float("-inf")
        self._next_expiry = float("-inf")
        self._made = False
        self.lock = threading.Lock()
        """Held while SQLite is used. Public for `fork_safety` only."""
        keep_safe(self)

    def write(self, contents: Sequence[CapturedContent]) -> None:
        """Store content whose spans are in the ledger. Never raises.

        What cannot be stored is lost, with a warning at most once a minute.
        """
        if not contents:
            return
        now = self._clock()
        rows = [
            (
                content.trace_id,
                content.span_id,
                content.item,
                content.started_ns,
                now,
                content.user,
                content.text,
            )
            for content in contents
        ]
        try:
            self._insert(rows)
        except CrewMeterError as error:
            self._complain(f"{error}; content of {len(rows)} items was not stored")

    def _insert(self, rows: Sequence[Sequence[object]]) -> None:
        with self._writing() as session:
            session.executemany(_for(session, _INSERT), rows)

    def of_span(self, trace_ids: Iterable[str], span_id: str) -> dict[str, str]:
        """Return the content of a step, by item."""
        found = self._read(trace_ids, Sql("span_id = ?", (span_id,)))
        return found.get(span_id, {})

    def of_traces(self, trace_ids: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the content in traces, by span id and item."""
        return self._read(trace_ids)

    def _read(self, trace_ids: Iterable[str], *conditions: Sql) -> dict[str, dict[str, str]]:
        wanted = list(trace_ids)
        if not wanted:
            return {}
        # What is too old is not read either, however long ago it was last looked for.
        young = Sql("stored_ns >= ?", (self._cutoff(),))
        query = sql(
            "SELECT span_id, item, text FROM",
            _TABLE,
            where([one_of("trace_id", wanted), young, *conditions]),
        )
        found: dict[str, dict[str, str]] = {}
        with self._reading() as session:
            for span_id, item, text in session.rows(query) if session is not None else ():
                found.setdefault(span_id, {})[item] = text
        return found

    def expire(self) -> int:
        """Delete what is older than `CREWMETER_KEEP_CONTENT`, now and then.

        Returns the number of items deleted. Raises `CrewMeterError`.
        """
        now = time.monotonic()
        if now < self._next_expiry:
            return 0
        self._next_expiry = now + _EXPIRE_SECONDS
        return self._delete(Sql("stored_ns < ?", (self._cutoff(),)))

    def delete_before(self, moment_ns: int) -> int:
        """Delete content of steps that started before a moment, and count it."""
        return self._delete(Sql("started_ns < ?", (moment_ns,)))

    def count_before(self, moment_ns: int) -> int:
        """Return how much `delete_before` would delete."""
        return self._count(Sql("started_ns < ?", (moment_ns,)))

    def delete_user(self, name: str, trace_ids: Sequence[str]) -> int:
        """Delete the content of a user and of their traces, and return how much it was."""
        own = Sql('"user" = ?', (name,))
        deleted = self._delete(own)
        for some in _in_parts(trace_ids):
            deleted += self._delete(some)
        return deleted

    def count_user(self, name: str, trace_ids: Sequence[str]) -> int:
        """Return how much `delete_user` would delete."""
        own = Sql('"user" = ?', (name,))
        others = Sql('("user" IS NULL OR "user" <> ?)', (name,))
        counted = self._count(own)
        for some in _in_parts(trace_ids):
            counted += self._count(some, others)
        return counted

    def _cutoff(self) -> int:
        now = datetime.fromtimestamp(self._clock() / 1e9, UTC)
        return nanoseconds(content_cutoff(self._environ, now=now)) or 0

    def _count(self, *conditions: Sql) -> int:
        with self._reading() as session:
            if session is None:
                return 0
            query = sql("SELECT count(*) FROM", _TABLE, where(conditions))
            return int(session.value(query))

    def _delete(self, condition: Sql) -> int:
        if not self.exists():
            return 0
        with self._writing() as session:
            return int(session.run(sql("DELETE FROM", _TABLE, where([condition]))).rowcount)

    def exists(self) -> bool:
        """Return whether there is a store. Nothing is made for a reader."""
        if self._path is not None:
            return self._path.exists()
        with self._server_session() as session:
            return _has_table(session)

    @contextmanager
    def _reading(self) -> Iterator[Session | None]:
        """Yield a session that reads the store, None where there is none."""
        if self._path is None:
            with self._server_session() as server:
                yield server if _has_table(server) else None
        elif not self._path.exists():
            yield None
        else:
            with self._connection("ro") as connection:
                yield SqliteSession(connection)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """Yield a session that may write, on a store that is made if needed."""
        if self._path is None:
            with self._server_session() as server:
                self._make(server)
                yield server
            return
        prepare_file(self._path)
        with self._connection("rw") as connection:
            connection.execute("BEGIN IMMEDIATE")
            session = SqliteSession(connection)
            self._make(session)
            yield session
            connection.execute("COMMIT")

    @contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        """Yield a connection to the file, closed at the end of the block."""
        path = self._path
        if path is None:
            raise CrewMeterError("content in a database server is in no file")
        with self.lock, self._explained(), closing(_connect(path, mode)) as connection:
            yield connection

    def _make(self, session: Session) -> None:
        """Make the table where it is missing."""
        if session.backend == "postgresql":
            if self._made:
                return
            # "IF NOT EXISTS" is no lock: two processes could make it at once, and one would fail.
            session.execute("SELECT pg_advisory_xact_lock(7316402)")
        for statement in _SCHEMA:
            session.execute(statement)
        self._made = True

    @contextmanager
    def _server_session(self) -> Iterator[Session]:
        """Yield a transaction on PostgreSQL, committed at the end of the block."""
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError
        from sqlalchemy.pool import NullPool

        try:
            engine = create_engine(self._url.sqlalchemy_url(), poolclass=NullPool)
            with engine.begin() as connection:
                yield ConnectionSession(connection)
        except SQLAlchemyError as error:
            self._made = False
            raise LedgerUnavailableError(
                f"captured content cannot be read or written ({type(error).__name__})",
                hint="is the database server running?",
            ) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into `LedgerUnavailableError`, and remove a damaged file."""
        try:
            yield
        except sqlite3.Error as error:
            damaged = isinstance(error, sqlite3.DatabaseError) and _is_damage(error)
            if damaged and self._path is not None:
                # Content is no record to be salvaged, and would never be stored again.
                self._path.unlink(missing_ok=True)
                _log.error("%s is damaged (%s) and was removed", self._path, error)
            raise LedgerUnavailableError(
                f"captured content in {self._path} cannot be read or written: {error}",
                hint="it may be locked by another program, or not be yours",
            ) from error

    def before_fork(self, *, idle: bool) -> None:
        """Do nothing: where the lock could be taken, no connection is open."""

    def after_fork_in_child(self) -> None:
        """Make a new lock, which a thread of the parent may have held."""
        self.lock = threading.Lock()

    def _complain(self, message: str) -> None:
        now = time.monotonic()
        if now - self._complained >= _QUIET_SECONDS:
            self._complained = now
            _log.warning("%s", message)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file.

    Without a write-ahead log, and with deleted bytes zeroed: what is deleted is gone.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    if mode == "rw":
        connection.execute("PRAGMA secure_delete = ON")
    return connection


def _in_parts(trace_ids: Sequence[str]) -> Iterator[Sql]:
    """Yield conditions that a row is of some of the traces, until all were named."""
    for first in range(0, len(trace_ids), _TRACES_AT_ONCE):
        last = first + _TRACES_AT_ONCE
        yield one_of("trace_id", trace_ids[first:last])


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    codes = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in codes


def _has_table(session: Session) -> bool:
    query = Sql("SELECT to_regclass(?)", (_TABLE,))
    return session.value(query) is not None


def _for(session: Session, statement: str) -> str:
    if session.backend == "postgresql":
        return statement.replace("?", "%s")
    return statement
