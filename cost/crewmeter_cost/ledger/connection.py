"""SQLAlchemy engines as the ledger needs them.

PostgreSQL is reached through them, and so are the queries that are not SQL text.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event
from sqlalchemy.exc import NoSuchModuleError

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import install_command
from crewmeter_cost.ledger.location import display_url, sqlite_path
from crewmeter_cost.ledger.sqlite_file import pragmas

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

    from crewmeter_cost.ledger.location import LedgerUrl

__all__ = ["WRITE", "open_engine"]

WRITE = "crewmeter_write"
"""Execution option: transactions take the write lock when they begin, not at their first write."""

_WRITER_LOCK = 0x63726577
"""Key of PostgreSQL's advisory lock. Every batch moves the same hourly totals, so writers queue
either way; with the lock they cannot deadlock."""


def open_engine(url: LedgerUrl, *, durable: bool, read_only: bool, busy_seconds: float) -> Engine:
    """Return an engine on `url`.

    `durable` syncs every commit to disk (the sidecar's promise), else the operating system does in
    its time. `busy_seconds` bounds the wait for another process's write. Raises `CrewMeterError`
    where the driver is not installed.
    """
    path = sqlite_path(url)
    if path is None:
        return _postgres_engine(url, durable=durable, busy_seconds=busy_seconds)
    return _sqlite_engine(
        url, path, durable=durable, read_only=read_only, busy_seconds=busy_seconds
    )


def _postgres_engine(url: LedgerUrl, *, durable: bool, busy_seconds: float) -> Engine:
    try:
        engine = create_engine(
            url.sqlalchemy_url(),
            # A restarted server leaves dead connections in the pool.
            pool_pre_ping=True,
            connect_args={"connect_timeout": max(1, int(busy_seconds))},
        )
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise CrewMeterError(
            f"{display_url(url)} needs a driver that is not installed",
            hint=install_command("postgres"),
        ) from error
    synchronous = "on" if durable else "off"

    @event.listens_for(engine, "begin")
    def lock(connection: Connection) -> None:
        if not connection.get_execution_options().get(WRITE):
            return
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(busy_seconds * 1000)}")
        connection.exec_driver_sql(f"SET LOCAL synchronous_commit = {synchronous}")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (_WRITER_LOCK,))

    return engine


def _sqlite_engine(
    ledger: LedgerUrl, path: Path, *, durable: bool, read_only: bool, busy_seconds: float
) -> Engine:
    may_write = os.access(path, os.W_OK) and os.access(
        path.parent,
        os.W_OK,
    )
    # Never "rwc": a file that went away is made by `prepare_file` alone, for its owner only.
    mode = "ro" if read_only and not may_write else "rw"
    address = f"{path.absolute().as_uri()}?mode={mode}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=busy_seconds, check_same_thread=False)

    # The engine keeps the ledger's own URL, which messages have.
    engine = create_engine(ledger.sqlalchemy_url(), creator=connect)
    settings = pragmas(durable=durable, read_only=read_only)

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # The driver must not begin transactions of its own; `begin` below does.
        connection.isolation_level = None
        for pragma in settings:
            connection.cursor().execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
