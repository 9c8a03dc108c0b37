"""The kinds of columns that the table models share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Column, Index, Integer, SmallInteger, text
from sqlmodel import SQLModel

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = [
    "PK",
    "big_column",
    "count_column",
    "flag_column",
    "label_column",
    "run_index",
    "table_of",
    "time_index",
]

PK = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite only auto-numbers a column declared INTEGER; PostgreSQL wants 64 bits."""


def table_of(model: type[SQLModel]) -> Table:
    """Return the SQLAlchemy table of a table model, for Core statements."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


def big_column(*, nullable: bool = False, default: int | None = None) -> Column[int]:
    return Column(
        BigInteger, nullable=nullable, server_default=None if default is None else str(default)
    )


def count_column() -> Column[int]:
    return Column(Integer, nullable=False, server_default="0")


def flag_column() -> Column[int]:
    return Column(SmallInteger, nullable=False)


def time_index(name: str) -> Index:
    """Return an index on whole unix seconds, the `time` column of the views.

    Grafana's time filters use it as they stand.
    """
    return Index(name, text("(started_ns / 1000000000)"))


def run_index(column: str) -> Index:
    """Return an index that lists the runs of one name by time, however old they are."""
    return Index(f"run_{column}", column, text("(started_ns / 1000000000)"))


def label_column(*, nullable: bool = True) -> Column[int]:
    """Return a reference into `label`.

    No declared foreign key: checking two dozen a row would halve the intake, and labels stay.
    """
    return Column(Integer, nullable=nullable)
