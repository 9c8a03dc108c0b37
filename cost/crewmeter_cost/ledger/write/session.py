"""One way to run a writer's statements.

On `sqlite3` itself, or on a SQLAlchemy connection.

The embedded writer and the sidecar run on `sqlite3`, so that an app never imports SQLAlchemy.
PostgreSQL, and maintenance that mixes the writer's statements with queries of its own, run on a
SQLAlchemy connection in the same transaction.
"""

from __future__ import annotations

from sqlite3 import SQLITE_LIMIT_VARIABLE_NUMBER
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.location import Backend

__all__ = ["ConnectionSession", "Cursor", "Session", "SqliteSession"]

_FEWEST_VALUES = 999
"""How many values any SQLite takes in a statement."""


class Cursor(Protocol):
    """The outcome of a statement."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> Any: ...


class Session(Protocol):
    """A runner of statements in its database's placeholder style.

    Statements run in the open transaction.
    """

    backend: Backend
    most_values: int
    """How many values one statement may have."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Cursor:
        """Run a statement once."""

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> Cursor:
        """Run a statement for each row."""

    def data_version(self) -> int | None:
        """Return a number that changes when another connection commits, or None."""


class SqliteSession:
    """Statements on a `sqlite3` connection."""

    backend: Backend = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.most_values = connection.getlimit(SQLITE_LIMIT_VARIABLE_NUMBER)

    def data_version(self) -> int | None:
        """Return SQLite's count of other connections' commits."""
        version: int = self.execute("PRAGMA data_version").fetchone()[0]
        return version


class ConnectionSession:
    """Statements on a SQLAlchemy connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.backend: Backend = "sqlite" if connection.dialect.name == "sqlite" else "postgresql"
        self.most_values = _FEWEST_VALUES

    def execute(self, sql: str, values: Sequence[Any] = ()) -> Cursor:
        """Run a statement once."""
        return self._connection.exec_driver_sql(sql, tuple(values))

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> Cursor:
        """Run a statement for each row."""
        return self._connection.exec_driver_sql(
            sql,
            [tuple(row) for row in rows],
        )

    def data_version(self) -> int | None:
        """Return None: connections of a pool cannot compare their views of the ledger."""
        return None
