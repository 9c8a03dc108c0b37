"""Many rows at once, as fast as the driver goes: the few statements the intake repeats, built once per database.

SQLite takes statements of many rows: Python's driver lets other threads run while a statement runs, so a few long ones leave
the interpreter to whoever reads the next batch, where ``executemany`` would queue for it at every row. PostgreSQL takes one
statement with an array per column (`unnest`), so that a batch is one round trip.
"""

from __future__ import annotations

from itertools import chain
from sqlite3 import SQLITE_LIMIT_VARIABLE_NUMBER
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, bindparam, func, insert, literal_column, select, update
from sqlalchemy.dialects import sqlite

from crewmeter_cost.pricing.charge import PICO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Executable, Table
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.engine import Connection

__all__ = ["Bulk"]

Rows = list[tuple[Any, ...]]
_TOGETHER = (512, 64)
"""Rows of one SQLite statement, the larger first: milliseconds of work."""
_NONE = -0.5
"""Stands for None on its way into SQLite: Python's driver takes ten times as long to bind a None as a number, and a call has
a dozen. No column holds a fraction."""


class Bulk:
    """Bulk statements on one kind of database (``sqlite`` or ``postgresql``), each compiled when first used."""

    def __init__(self, backend: str) -> None:
        self._postgres = backend == "postgresql"
        self._compiled: dict[tuple[str, str, int], str] = {}
        self._built: dict[tuple[str, ...], Executable] = {}

    def insert_new(
        self,
        connection: Connection,
        table: Table,
        columns: Sequence[str],
        rows: Rows,
        *,
        key: tuple[str, ...],
    ) -> set[tuple[bytes, ...]] | None:
        """Insert the rows whose `key` (binary columns) is not there yet. Returns the keys inserted, or None where that was every row."""
        if not rows:
            return None
        if self._postgres:
            statement = self._built.get(("new", table.name))
            if statement is None:
                inserting = _postgres_insert(table).from_select(
                    list(columns), _unnest(table, columns), include_defaults=False
                )
                statement = inserting.on_conflict_do_nothing().returning(
                    *(table.c[name] for name in key)
                )
                self._built["new", table.name] = statement
            returned = connection.execute(statement, _arrays(columns, rows)).all()
            return (
                None
                if len(returned) == len(rows)
                else {tuple(bytes(part) for part in row) for row in returned}
            )
        newest = self._built.get(("newest", table.name))
        if newest is None:
            newest = self._built["newest", table.name] = select(func.max(table.c.id))
        last = connection.execute(newest).scalar() or 0
        done = self._many(connection, "new", table, columns, rows)
        if done == len(rows):
            return None
        return {
            tuple(row)
            for row in connection.execute(
                select(*(table.c[name] for name in key)).where(table.c.id > last)
            )
        }

    def insert(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Rows
    ) -> None:
        """Insert rows known to be new."""
        if not rows:
            return
        if self._postgres:
            inserting = insert(table).from_select(
                list(columns), _unnest(table, columns), include_defaults=False
            )
            connection.execute(inserting, _arrays(columns, rows))
        else:
            self._many(connection, "insert", table, columns, rows)

    def add_up(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Rows
    ) -> None:
        """Insert rows, or add their sums to the row that has their primary key. Cost carries from pico-dollars into whole ones."""
        if not rows:
            return
        if self._postgres:
            statement = self._built.get(("add", table.name))
            if statement is None:
                inserting = _postgres_insert(table).from_select(
                    list(columns), _unnest(table, columns), include_defaults=False
                )
                keys = [column.name for column in table.primary_key]
                statement = inserting.on_conflict_do_update(
                    index_elements=keys, set_=_sums(table, inserting.excluded)
                )
                self._built["add", table.name] = statement
            connection.execute(statement, _arrays(columns, rows))
        else:
            self._many(connection, "add", table, columns, rows)

    def change(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Rows
    ) -> None:
        """Set `columns` of the rows with the ids that stand first in each tuple."""
        if not rows:
            return
        statement = self._built.get(("change", table.name, *columns))
        if statement is None:
            statement = (
                update(table)
                .where(table.c.id == bindparam("_id"))
                .values({name: bindparam(f"_{name}") for name in columns})
            )
            self._built["change", table.name, *columns] = statement
        names = ["_id", *(f"_{name}" for name in columns)]
        connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])

    def _many(
        self, connection: Connection, verb: str, table: Table, columns: Sequence[str], rows: Rows
    ) -> int:
        """Write `rows` in statements of `_TOGETHER`, what is left over one by one; returns how many were inserted or changed."""
        start = done = 0
        for count in _TOGETHER:
            if len(rows) - start >= count and count * len(columns) <= _most_values(connection):
                sql = self._statement(connection, verb, table, columns, count)
                while len(rows) - start >= count:
                    values = tuple(
                        [
                            _NONE if value is None else value
                            for value in chain.from_iterable(rows[start : start + count])
                        ]
                    )
                    done += connection.exec_driver_sql(sql, values).rowcount
                    start += count
        if start < len(rows):
            rest = [
                tuple([_NONE if value is None else value for value in row]) for row in rows[start:]
            ]
            done += connection.exec_driver_sql(
                self._statement(connection, verb, table, columns, 1), rest
            ).rowcount
        return done

    def _statement(
        self, connection: Connection, verb: str, table: Table, columns: Sequence[str], rows: int
    ) -> str:
        """The statement that takes so many rows, value after value."""
        sql = self._compiled.get((verb, table.name, rows))
        if sql is None:
            if [column.name for column in table.columns if column.name in columns] != list(columns):
                raise ValueError(
                    f"columns of {table.name} must be named in the table's order: {columns}"
                )
            inserting = sqlite.insert(table).values({name: bindparam(name) for name in columns})
            if verb == "new":
                inserting = inserting.on_conflict_do_nothing()
            elif verb == "add":
                keys = [column.name for column in table.primary_key]
                inserting = inserting.on_conflict_do_update(
                    index_elements=keys, set_=_sums(table, inserting.excluded)
                )
            plain = f"VALUES ({', '.join('?' * len(columns))})"
            before, _, after = str(inserting.compile(dialect=connection.dialect)).partition(plain)
            row = f"({', '.join(f'nullif(?, {_NONE})' if table.c[name].nullable else '?' for name in columns)})"
            sql = self._compiled[verb, table.name, rows] = (
                f"{before}VALUES {', '.join([row] * rows)}{after}"
            )
        return sql


def _most_values(connection: Connection) -> int:
    """How many values one statement may have (32,766 unless SQLite was built otherwise)."""
    driver = connection.connection.driver_connection
    return int(driver.getlimit(SQLITE_LIMIT_VARIABLE_NUMBER)) if driver is not None else 0


def _postgres_insert(table: Table) -> postgresql.Insert:
    from sqlalchemy.dialects import (
        postgresql,  # three megabytes that a SQLite ledger, in somebody's app, does without
    )

    return postgresql.insert(table)


def _unnest(table: Table, columns: Sequence[str]) -> Any:
    return select(
        *(
            func.unnest(bindparam(name, type_=ARRAY(table.c[name].type))).label(name)
            for name in columns
        )
    )


def _arrays(columns: Sequence[str], rows: Rows) -> dict[str, list[Any]]:
    return {
        name: list(values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)
    }


def _sums(table: Table, excluded: Any) -> dict[str, ColumnElement[Any]]:
    """What an upsert sets: old plus new for every column that is not a key."""
    sums: dict[str, ColumnElement[Any]] = {
        column.name: column + excluded[column.name]
        for column in table.columns
        if not column.primary_key
    }
    if "cost_pusd" in sums:
        pico = literal_column(str(PICO), table.c.cost_pusd.type)
        sums["cost_whole_usd"] = (
            sums["cost_whole_usd"] + (table.c.cost_pusd + excluded.cost_pusd) // pico
        )
        sums["cost_pusd"] = (table.c.cost_pusd + excluded.cost_pusd) % pico
    return sums
