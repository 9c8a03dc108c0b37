"""One way to run statements, on `sqlite3` itself or on a SQLAlchemy connection.

Writers and readers of a SQLite ledger run on `sqlite3`, so that neither an app nor a reading
command imports SQLAlchemy. PostgreSQL, and maintenance that mixes the writer's statements with
queries of its own, run on a SQLAlchemy connection in the same transaction.
"""

from __future__ import annotations

from contextlib import contextmanager
from sqlite3 import SQLITE_LIMIT_VARIABLE_NUMBER
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection, CursorResult, Engine

    from crewmeter_cost.ledger.location import Backend
    from crewmeter_cost.ledger.sql import Sql

__all__ = ["ConnectionSession", "Cursor", "Row", "Session", "SqliteSession", "session_on"]

Row = tuple[Any, ...]

_FEWEST_VALUES = 999
"""How many values any SQLite takes in a statement."""
_STREAMED = {"yield_per": 1000}
"""Execution options: PostgreSQL's driver would fetch a million rows before it gives the first."""


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

    def run(self, statement: Sql) -> Cursor:
        """Run a statement that has question marks on any database."""

    def rows(self, query: Sql) -> list[Row]:
        """Return every row of a query."""

    def stream(self, query: Sql) -> Iterator[Row]:
        """Yield the rows of a query that may have many."""

    def mappings(self, query: Sql) -> list[dict[str, Any]]:
        """Return every row of a query by the names of its columns."""

    def value(self, query: Sql) -> Any:
        """Return the first column of a query's first row, None for no row."""


class SqliteSession:
    """Statements on a `sqlite3` connection."""

    backend: Backend = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        # Bound methods of the driver: the writer runs thousands of statements a second.
        self.execute = connection.execute
        self.executemany = connection.executemany
        self.most_values = connection.getlimit(SQLITE_LIMIT_VARIABLE_NUMBER)

    def data_version(self) -> int | None:
        """Return SQLite's count of other connections' commits."""
        version: int = self.execute("PRAGMA data_version").fetchone()[0]
        return version

    def run(self, statement: Sql) -> sqlite3.Cursor:
        """Run a statement."""
        return self.connection.execute(statement.text, statement.values)

    def rows(self, query: Sql) -> list[Row]:
        """Return every row of a query."""
        return self.run(query).fetchall()

    def stream(self, query: Sql) -> Iterator[Row]:
        """Yield the rows of a query that may have many."""
        return iter(self.run(query))

    def mappings(self, query: Sql) -> list[dict[str, Any]]:
        """Return every row of a query by the names of its columns."""
        cursor = self.run(query)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def value(self, query: Sql) -> Any:
        """Return the first column of a query's first row, None for no row."""
        row = self.run(query).fetchone()
        return row[0] if row is not None else None


class ConnectionSession:
    """Statements on a SQLAlchemy connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.backend: Backend = "sqlite" if connection.dialect.name == "sqlite" else "postgresql"
        # The connection behind SQLAlchemy does not tell its limit.
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

    def run(self, statement: Sql, options: Mapping[str, object] | None = None) -> CursorResult[Any]:
        """Run a statement, with SQLAlchemy's execution options."""
        text = statement.text
        if self.backend == "postgresql":
            # The driver's placeholder is %s, so a percent sign of ours is doubled first.
            text = text.replace("%", "%%").replace("?", "%s")
        return self._connection.exec_driver_sql(text, statement.values, execution_options=options)

    def rows(self, query: Sql) -> list[Row]:
        """Return every row of a query."""
        return [tuple(row) for row in self.run(query)]

    def stream(self, query: Sql) -> Iterator[Row]:
        """Yield the rows of a query that may have many."""
        return (tuple(row) for row in self.run(query, _STREAMED))

    def mappings(self, query: Sql) -> list[dict[str, Any]]:
        """Return every row of a query by the names of its columns."""
        return [dict(row) for row in self.run(query).mappings()]

    def value(self, query: Sql) -> Any:
        """Return the first column of a query's first row, None for no row."""
        return self.run(query).scalar()


@contextmanager
def session_on(engine: Engine) -> Iterator[Session]:
    """Yield a session on a connection of an engine."""
    with engine.connect() as connection:
        yield ConnectionSession(connection)
