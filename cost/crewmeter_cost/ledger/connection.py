"""Connections to a ledger: engines as the ledger needs them, and what went wrong in words a person can act on."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.location import shown, sqlite_path

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.engine.url import URL
    from sqlalchemy.pool import ConnectionPoolEntry

__all__ = [
    "APPLICATION_ID",
    "WRITE",
    "LedgerCorruptError",
    "LedgerUnavailableError",
    "explain",
    "open_engine",
    "prepare_file",
]

WRITE = "crewmeter_write"
"""Execution option: this connection's transactions take the write lock when they begin, not at their first write."""

APPLICATION_ID = 0x43524D54
"""``PRAGMA application_id`` of our SQLite files ("CRMT"): `file` and other tools can tell whose they are."""

_WRITER_LOCK = 0x63726577
"""Key of PostgreSQL's advisory lock. Every batch moves the same hourly totals, so writers queue either way; here they cannot deadlock."""


class LedgerUnavailableError(CrewMeterError):
    """The ledger cannot be used now (locked, full disk, no permission, server down); later it may."""


class LedgerCorruptError(CrewMeterError):
    """The file is damaged; waiting will not mend it."""


def prepare_file(path: Path) -> bool:
    """Make the folder (0700) and the file (0600) where missing; True if the file is new.

    Raises `LedgerUnavailableError` naming the owner.
    """
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            if path.is_dir():
                raise LedgerUnavailableError(
                    f"ledger {path} is a folder", hint="name a file in it, e.g. ledger.db"
                ) from None
            return False
    except OSError as error:
        raise _unwritable(path, error) from error
    return True


def _unwritable(path: Path, error: OSError | None) -> LedgerUnavailableError:
    existing = next((context for context in (path, *path.parents) if context.exists()), path)
    reason = f": {error.strerror}" if error is not None and error.strerror else ""
    return LedgerUnavailableError(
        f"ledger sqlite:///{path} is not writable ({existing} belongs to {_owner(existing)}, you are {_user(_effective_user())}){reason}",
        hint="set CREWMETER_LEDGER, or chown the folder; the app keeps running unmetered meanwhile",
    )


def _effective_user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else -1


def _owner(path: Path) -> str:
    try:
        return _user(path.stat().st_uid)
    except OSError:
        return "unknown"


def _user(number: int) -> str:
    try:
        import pwd
    except ImportError:  # Windows
        return str(number)
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def open_engine(url: URL, *, durable: bool, read_only: bool, busy_seconds: float) -> Engine:
    """An engine on `url`. `durable` syncs every commit to disk (the sidecar's promise), else the operating system does in its time.

    `busy_seconds` bounds the wait for another process's write. Raises `CrewMeterError` where the driver is not installed.
    """
    path = sqlite_path(url)
    if path is not None:
        return _sqlite_engine(
            url, path, durable=durable, read_only=read_only, busy_seconds=busy_seconds
        )
    try:
        engine = create_engine(
            url, pool_pre_ping=True, connect_args={"connect_timeout": max(1, int(busy_seconds))}
        )
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise CrewMeterError(
            f"{shown(url)} needs a driver that is not installed",
            hint="pip install 'crewmeter[postgres]'",
        ) from error

    @event.listens_for(engine, "begin")
    def lock(connection: Connection) -> None:
        if connection.get_execution_options().get(WRITE):
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(busy_seconds * 1000)}")
            connection.exec_driver_sql(
                f"SET LOCAL synchronous_commit = {'on' if durable else 'off'}"
            )
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_WRITER_LOCK,))

    return engine


def _sqlite_engine(
    url: URL, path: Path, *, durable: bool, read_only: bool, busy_seconds: float
) -> Engine:
    if read_only and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        url = url.set(database=f"file:{path}", query={"mode": "ro", "uri": "true"})
    engine = create_engine(url, connect_args={"timeout": busy_seconds, "check_same_thread": False})
    pragmas = [
        f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}",
        f"PRAGMA cache_size = {-64_000 if durable else -4_000}",
        f"PRAGMA wal_autocheckpoint = {4_000 if durable else 1_000}",
        "PRAGMA temp_store = MEMORY",
    ]
    pragmas.append("PRAGMA query_only = ON" if read_only else "PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = (
            None  # the driver must not begin transactions of its own; `begin` below does
        )
        for pragma in pragmas:
            connection.cursor().execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITE) else "BEGIN"
        )

    return engine


def explain(error: DBAPIError, url: URL) -> CrewMeterError:
    """A driver's error as one of ours: corrupt, unavailable for now, or what the database said."""
    path, origin = sqlite_path(url), error.orig
    name = shown(url)
    if path is None:
        said = str(origin).strip().splitlines()[0] if str(origin).strip() else type(origin).__name__
        return LedgerUnavailableError(
            f"ledger {name}: {said}", hint="is the server up, and may this user write there?"
        )
    code = getattr(origin, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_NOTADB:
        return LedgerCorruptError(
            f"ledger {name} is not a SQLite database",
            hint="set CREWMETER_LEDGER to another path, or move the file away",
        )
    if primary == sqlite3.SQLITE_CORRUPT:
        return LedgerCorruptError(
            f"ledger {name} is damaged: {origin}",
            hint="move it away (a new one is begun), or rescue it with `sqlite3 FILE .recover`",
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LedgerUnavailableError(
            f"ledger {name} is locked by another process",
            hint="end what holds it open, or try again",
        )
    if primary == sqlite3.SQLITE_FULL:
        return LedgerUnavailableError(
            f"ledger {name}: the disk is full", hint="free some space, or `crewmeter prune`"
        )
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _unwritable(path, None)
    return LedgerUnavailableError(
        f"ledger {name}: {origin}", hint="see the message; `crewmeter doctor` checks the ledger"
    )
