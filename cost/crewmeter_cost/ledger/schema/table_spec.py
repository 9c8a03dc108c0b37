"""Tables and columns as plain data, for statements built without SQLAlchemy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ColumnSpec", "ColumnType", "TableSpec"]

ColumnType = Literal["id", "bigint", "integer", "smallint", "text", "bytes", "float"]
"""`id` is a number the database gives: INTEGER in SQLite, BIGINT in PostgreSQL."""


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column of a table."""

    name: str
    type: ColumnType
    nullable: bool = False
    key: bool = False
    """Whether it is part of the primary key."""


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table of the ledger."""

    name: str
    columns: tuple[ColumnSpec, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every column, in the order of the table."""
        return tuple(column.name for column in self.columns)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return tuple(column.name for column in self.columns if column.key)

    @property
    def values(self) -> tuple[str, ...]:
        """The columns outside the primary key."""
        return tuple(column.name for column in self.columns if not column.key)

    def column(self, name: str) -> ColumnSpec:
        """Return the column of this name. Raises `KeyError` where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name!r}")
