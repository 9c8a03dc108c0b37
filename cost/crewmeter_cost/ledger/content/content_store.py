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
from crewmeter_cost.ledger.content.content_schema import (
    TABLE,
    has_table,
    make_table,
    refuse_open_table,
)
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

_INSERT = (
    f"INSERT INTO {TABLE} "  # noqa: S608 - a constant
    '(trace_id, span_id, item, started_ns, stored_ns, "user", text) '
    "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_KEY = "trace_id, span_id, item"
_BATCH = 200
"""Items deleted in a transaction, each up to 32 k characters."""
_PAUSE_SECONDS = 0.005
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
            refuse_open_table(session)
            session.executemany(_for(session, _INSERT), rows)

    def of_span(self, trace_ids: Iterable[str], span_id: str) -> dict[str, str]:
        """Return the content of a step, by item."""
        found = self._read(trace_ids, Sql("span_id = ?", (span_id,)))
        return found.get(span_id, {})

    def of_traces(self, trace_ids: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the content in traces, by span id and item."""
        return self._read(trace_ids)

    def traces_of_user(self, name: str) -> list[str]:
        """Return the traces with content of a user."""
        own = Sql('"user" = ?', (name,))
        query = sql("SELECT DISTINCT trace_id FROM", TABLE, where([own]))
        with self._reading() as session:
            if session is None:
                return []
            return [trace for (trace,) in session.rows(query)]

    def _read(self, trace_ids: Iterable[str], *conditions: Sql) -> dict[str, dict[str, str]]:
        wanted = list(trace_ids)
        if not wanted:
            return {}
        # What is too old is not read either, however long ago it was last looked for.
        young = Sql("stored_ns >= ?", (self._cutoff(),))
        query = sql(
            "SELECT span_id, item, text FROM",
            TABLE,
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
        # First, since the setting is nothing to those who store no content.
        if not self.exists():
            return 0
        return self._delete(Sql("stored_ns < ?", (self._cutoff(),)))

    def delete_before(self, moment_ns: int) -> int:
        """Delete content of steps that started before a moment, and count it.

        With it goes what is older than `CREWMETER_KEEP_CONTENT`, as in `expire`.
        """
        if not self.exists():
            return 0
        return self._delete(self._before(moment_ns))

    def count_before(self, moment_ns: int) -> int:
        """Return how much `delete_before` would delete."""
        if not self.exists():
            return 0
        return self._count(self._before(moment_ns))

    def _before(self, moment_ns: int) -> Sql:
        return Sql("(started_ns < ? OR stored_ns < ?)", (moment_ns, self._cutoff()))

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
            query = sql("SELECT count(*) FROM", TABLE, where(conditions))
            return int(session.value(query))

    def _delete(self, condition: Sql) -> int:
        """Delete a little at a time, so that others can write meanwhile, and count it."""
        if not self.exists():
            return 0
        some = sql(f"SELECT {_KEY} FROM", TABLE, where([condition]), f"LIMIT {_BATCH}")
        delete = sql("DELETE FROM", TABLE, f"WHERE ({_KEY}) IN (", some, ")")
        deleted = 0
        while True:
            with self._writing() as session:
                rows = int(session.run(delete).rowcount)
            deleted += rows
            if rows < _BATCH:
                return deleted
            time.sleep(_PAUSE_SECONDS)

    def exists(self) -> bool:
        """Return whether there is a store. Nothing is made for a reader."""
        if self._path is not None:
            return self._path.exists()
        with self._server_session() as session:
            return has_table(session)

    @contextmanager
    def _reading(self) -> Iterator[Session | None]:
        """Yield a session that reads the store, None where there is none."""
        if self._path is None:
            with self._server_session() as server:
                yield server if has_table(server) else None
        elif not self._path.exists():
            yield None
        else:
            with self._connection(self._reading_mode(self._path)) as connection:
                yield SqliteSession(connection)

    def _reading_mode(self, path: Path) -> str:
        """Return how a reader opens the file.

        What a killed writer left half done is rolled back by whoever reads next, for which SQLite
        has to write.
        """
        return "rw" if _journal(path).exists() else "ro"

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """Yield a session that may write, on a store that is made if needed."""
        if self._path is None:
            with self._server_session() as server:
                if not self._made:
                    make_table(server)
                yield server
            self._made = True
            return
        prepare_file(self._path)
        with self._connection("rw") as connection:
            try:
                connection.execute("PRAGMA secure_delete = ON")
                # Of effect on a new file only. Without it a file never becomes smaller.
                connection.execute("PRAGMA auto_vacuum = FULL")
                connection.execute("BEGIN IMMEDIATE")
                session = SqliteSession(connection)
                make_table(session)
                yield session
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if _is_damage(error):
                    self._remove_damaged(self._path, error)
                raise

    @contextmanager
    def _connection(self, mode: str) -> Iterator[sqlite3.Connection]:
        """Yield a connection to the file, closed at the end of the block."""
        path = self._path
        if path is None:
            raise CrewMeterError("content in a database server is in no file")
        with self.lock, self._explained(), closing(_connect(path, mode)) as connection:
            yield connection

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
        """Turn SQLite's errors into `LedgerUnavailableError`."""
        try:
            yield
        except sqlite3.Error as error:
            hint = "it may be locked by another program, or not be yours"
            if _is_damage(error):
                hint = "the file is damaged; the next process that stores content removes it"
            raise LedgerUnavailableError(
                f"captured content in {self._path} cannot be read or written: {error}",
                hint=hint,
            ) from error

    def _remove_damaged(self, path: Path, error: sqlite3.Error) -> None:
        """Remove a file that is no database, so that content is stored again.

        It is no record to be salvaged, and a copy set aside would outlive its retention.
        """
        try:
            _journal(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        except OSError as refusal:
            self._complain(f"{path} is damaged ({error}) and cannot be removed: {refusal}")
        else:
            _log.error("%s is damaged (%s) and was removed", path, error)

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
    """Open the file, without a write-ahead log, which would have what is deleted."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _in_parts(trace_ids: Sequence[str]) -> Iterator[Sql]:
    """Yield conditions that a row is of some of the traces, until all were named."""
    for first in range(0, len(trace_ids), _TRACES_AT_ONCE):
        last = first + _TRACES_AT_ONCE
        yield one_of("trace_id", trace_ids[first:last])


def _is_damage(error: sqlite3.Error) -> bool:
    codes = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in codes


def _for(session: Session, statement: str) -> str:
    if session.backend == "postgresql":
        return statement.replace("?", "%s")
    return statement
