"""The writer's statements, built once per database from the generated column data.

SQLite takes statements of many rows: Python's driver releases the interpreter lock while a
statement runs and takes it again at its end, so a few long statements disturb the app less than
`executemany`, which does so at every row. Sizes are powers of two, so that a batch of any size is a
handful of prepared statements. PostgreSQL takes one statement with an array per column (`unnest`).
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crewmeter_cost.ledger.location import Backend
    from crewmeter_cost.ledger.schema.table_spec import ColumnType, TableSpec
    from crewmeter_cost.ledger.session import Session

__all__ = ["Statements"]

Rows = list[tuple[Any, ...]]
Conflict = Literal["skip", "replace", "add"]
"""What happens to a row that is there already: it stays, is overwritten, or is added to."""

_LARGEST = 512
"""Rows of one SQLite statement: milliseconds of work."""
_NONE = -0.5
"""Replaces None on its way into SQLite. Python's driver takes ten times as long to bind None as a
number, and a call has a dozen. No column holds a fraction."""
_IN_SQLITE = f"nullif(?, {_NONE})"
_POSTGRES_TYPES: dict[ColumnType, str] = {
    "id": "bigint",
    "bigint": "bigint",
    "integer": "integer",
    "smallint": "smallint",
    "text": "text",
    "bytes": "bytea",
    "float": "double precision",
}
_CHUNK = 500
"""Values looked up by one statement."""


class Statements:
    """Bulk statements on one kind of database, each built when it is first used."""

    def __init__(self, backend: Backend) -> None:
        self._postgres = backend == "postgresql"
        self._built: dict[tuple[object, ...], str] = {}

    def insert_new(
        self, session: Session, table: TableSpec, columns: Sequence[str], rows: Rows
    ) -> set[tuple[bytes, bytes]] | None:
        """Insert the rows whose span is not there yet.

        Returns the (trace id, span id) inserted, or None where that was every row.
        """
        if not rows:
            return None
        if self._postgres:
            sql = self._unnested(table, columns, "skip", returning=True)
            found = session.execute(sql, _arrays(rows)).fetchall()
            if len(found) == len(rows):
                return None
            return {(bytes(trace), bytes(span)) for trace, span in found}
        done = self._put(
            session,
            table,
            columns,
            rows,
            "skip",
        )
        # The usual case: nothing was there before, so no query is needed to learn which rows are
        # new.
        if done == len(rows):
            return None
        if not done:
            return set()
        # New rows are numbered one after the other: the write lock is held.
        (last,) = session.execute("SELECT last_insert_rowid()").fetchone()
        query = f"SELECT trace_id, span_id FROM {_quoted(table.name)} WHERE id > ?"
        return set(
            session.execute(
                query,
                (last - done,),
            ).fetchall()
        )

    def replace(self, session: Session, table: TableSpec, rows: Rows) -> None:
        """Insert whole rows, or overwrite those with the same primary key."""
        self._all(
            session,
            table,
            table.names,
            rows,
            "replace",
        )

    def add_up(
        self, session: Session, table: TableSpec, columns: Sequence[str], rows: Rows
    ) -> None:
        """Insert rows, or add their sums to the row that has their primary key.

        A cost carries from pico-USD into whole dollars.
        """
        self._all(session, table, columns, rows, "add")

    def change(
        self, session: Session, table: TableSpec, columns: Sequence[str], rows: Rows
    ) -> None:
        """Set `columns` of the rows whose ids stand first in each tuple."""
        if not rows:
            return
        mark = self._mark
        assigned = ", ".join(f"{_quoted(name)} = {mark}" for name in columns)
        sql = f"UPDATE {_quoted(table.name)} SET {assigned} WHERE id = {mark}"
        session.executemany(
            sql,
            [(*row[1:], row[0]) for row in rows],
        )

    def drop_empty(
        self, session: Session, table: TableSpec, columns: Sequence[str], rows: Rows
    ) -> None:
        """Delete the sums among these rows that came to nothing."""
        if not rows:
            return
        keys = [name for name in columns if name in table.key]
        found = [f"{_quoted(name)} = {self._mark}" for name in keys]
        empty = [f"{_quoted(name)} = 0" for name in columns if name not in keys]
        sql = f"DELETE FROM {_quoted(table.name)} WHERE {' AND '.join(found + empty)}"
        session.executemany(
            sql,
            [row[: len(keys)] for row in rows],
        )

    def select(
        self,
        session: Session,
        table: TableSpec,
        columns: Sequence[str],
        by: str,
        values: Sequence[Any],
        *,
        and_where: str = "",
    ) -> Iterator[tuple[Any, ...]]:
        """Yield `columns` of the rows whose `by` is one of `values`, by id."""
        # PostgreSQL prepares one statement for an array of any length; SQLite needs a mark a
        # value.
        names = ", ".join(_quoted(name) for name in columns)
        for start in range(0, len(values), _CHUNK):
            chunk = list(values[start : start + _CHUNK])
            if self._postgres:
                marks = "= ANY(%s)"
                given = [chunk]
            else:
                marks = f"IN ({', '.join('?' * len(chunk))})"
                given = chunk
            sql = (
                f"SELECT {names} FROM {_quoted(table.name)} "
                f"WHERE {_quoted(by)} {marks}{and_where} ORDER BY id"
            )
            yield from session.execute(sql, given).fetchall()

    def select_between(
        self,
        session: Session,
        table: TableSpec,
        columns: Sequence[str],
        by: str,
        bounds: tuple[int, int],
        *,
        and_where: str = "",
    ) -> Iterator[tuple[Any, ...]]:
        """Yield `columns` of the rows whose `by` is within the bounds, by id."""
        names = ", ".join(_quoted(name) for name in columns)
        sql = (
            f"SELECT {names} FROM {_quoted(table.name)} "
            f"WHERE {_quoted(by)} BETWEEN {self._mark} AND {self._mark}{and_where} ORDER BY id"
        )
        yield from session.execute(sql, bounds).fetchall()

    def intern(
        self, session: Session, table: TableSpec, key: dict[str, str], rest: dict[str, Any]
    ) -> int:
        """Return the id of the row with this key, inserted where it is missing.

        The write lock is held, so nobody inserts it in between.
        """
        where = " AND ".join(f"{_quoted(name)} = {self._mark}" for name in key)
        query = f"SELECT id FROM {_quoted(table.name)} WHERE {where}"
        found = session.execute(
            query,
            tuple(key.values()),
        ).fetchone()
        if found is None:
            row = {**key, **rest}
            names = ", ".join(_quoted(name) for name in row)
            marks = ", ".join([self._mark] * len(row))
            sql = f"INSERT INTO {_quoted(table.name)} ({names}) VALUES ({marks})"
            session.execute(sql, tuple(row.values()))
            found = session.execute(
                query,
                tuple(key.values()),
            ).fetchone()
        return int(found[0])

    def text(self, sql: str) -> str:
        """Return a statement written with `?` in the placeholder style of the database."""
        if self._postgres:
            return sql.replace("?", "%s")
        return sql

    @property
    def _mark(self) -> str:
        return "%s" if self._postgres else "?"

    def _all(
        self,
        session: Session,
        table: TableSpec,
        columns: Sequence[str],
        rows: Rows,
        conflict: Conflict,
    ) -> None:
        if not rows:
            return
        if self._postgres:
            session.execute(
                self._unnested(table, columns, conflict),
                _arrays(rows),
            )
        else:
            self._put(session, table, columns, rows, conflict)

    def _put(
        self,
        session: Session,
        table: TableSpec,
        columns: Sequence[str],
        rows: Rows,
        conflict: Conflict,
    ) -> int:
        """Write `rows` to SQLite. Returns how many were inserted or changed."""
        start = done = 0
        size = _largest_size(len(columns), session.most_values)
        while start < len(rows):
            # Halving keeps to powers of two: few distinct statements, all of them prepared once.
            while size > len(rows) - start:
                size //= 2
            part = chain.from_iterable(rows[start : start + size])
            values = [_NONE if value is None else value for value in part]
            done += session.execute(
                self._several(table, columns, conflict, size),
                values,
            ).rowcount
            start += size
        return done

    def _several(
        self, table: TableSpec, columns: Sequence[str], conflict: Conflict, size: int
    ) -> str:
        """Return SQLite's statement that takes `size` rows, value after value."""
        # The columns are the same for each table and way of conflict, so they are not in the key.
        key = table.name, conflict, size
        sql = self._built.get(key)
        if sql is None:
            marks = [_IN_SQLITE if table.column(name).nullable else "?" for name in columns]
            rows = ", ".join([f"({', '.join(marks)})"] * size)
            sql = (
                f"{_into(table, columns)} VALUES {rows} {self._conflict(table, columns, conflict)}"
            )
            self._built[key] = sql
        return sql

    def _unnested(
        self,
        table: TableSpec,
        columns: Sequence[str],
        conflict: Conflict,
        *,
        returning: bool = False,
    ) -> str:
        """Return PostgreSQL's statement that takes an array per column."""
        key = table.name, conflict
        sql = self._built.get(key)
        if sql is None:
            types = [_POSTGRES_TYPES[table.column(name).type] for name in columns]
            arrays = ", ".join(f"%s::{each}[]" for each in types)
            sql = (
                f"{_into(table, columns)} SELECT * FROM unnest({arrays}) "
                f"{self._conflict(table, columns, conflict)}"
            )
            if returning:
                sql += " RETURNING trace_id, span_id"
            self._built[key] = sql
        return sql

    def _conflict(self, table: TableSpec, columns: Sequence[str], conflict: Conflict) -> str:
        if conflict == "skip":
            return "ON CONFLICT DO NOTHING"
        values = [name for name in columns if name not in table.key]
        if conflict == "replace":
            assigned = [f"{_quoted(name)} = excluded.{_quoted(name)}" for name in values]
        else:
            assigned = [f"{_quoted(name)} = {self._added(table, name, values)}" for name in values]
        keys = ", ".join(_quoted(name) for name in table.key)
        return f"ON CONFLICT ({keys}) DO UPDATE SET {', '.join(assigned)}"

    def _added(self, table: TableSpec, name: str, values: Sequence[str]) -> str:
        """Return old plus new of one column."""
        total = _total(table, name)
        if "cost_whole_usd" not in values:
            return total
        # Both columns are computed from the old row: SET sees no assignment beside it.
        if name == "cost_whole_usd":
            return f"{total} + {_total(table, 'cost_pusd')} / {PICO}"
        if name == "cost_pusd":
            # A percent sign would have to be doubled for the driver.
            if self._postgres:
                return f"mod({total}, {PICO})"
            return f"({total}) % {PICO}"
        return total


def _largest_size(columns: int, most_values: int) -> int:
    size = _LARGEST
    while size > 1 and size * columns > most_values:
        size //= 2
    return size


def _quoted(name: str) -> str:
    return f'"{name}"'


def _total(table: TableSpec, name: str) -> str:
    return f"({_quoted(table.name)}.{_quoted(name)} + excluded.{_quoted(name)})"


def _into(table: TableSpec, columns: Sequence[str]) -> str:
    names = ", ".join(_quoted(name) for name in columns)
    return f"INSERT INTO {_quoted(table.name)} ({names})"


def _arrays(rows: Rows) -> list[list[Any]]:
    return [list(values) for values in zip(*rows, strict=True)]
