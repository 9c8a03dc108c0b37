"""Write column data and the SQL of a new SQLite ledger from `tables.py`.

Run `python -m crewmeter_cost.ledger.schema.generate` after a change. A test fails where the files
and the models drift apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, SmallInteger, Text
from sqlalchemy.dialects import registry
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import SQLModel

from crewmeter_cost.ledger.schema import budget_tables, tables
from crewmeter_cost.ledger.schema.column_kinds import table_of
from crewmeter_cost.ledger.schema.version_numbers import APPLICATION_ID, HEAD, VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Column, Table

    from crewmeter_cost.ledger.schema.table_spec import ColumnType

__all__ = ["columns_module", "model_tables", "sqlite_schema"]

_FOLDER = Path(__file__).parent
COLUMNS_FILE = _FOLDER / "columns.py"
SQLITE_FILE = _FOLDER / "sqlite_schema.sql"
_HEAD = '''"""The columns of every table as plain data.

Generated from `tables.py` by `generate.py`.
"""

from __future__ import annotations

from crewmeter_cost.ledger.schema.table_spec import ColumnSpec, TableSpec

__all__ = [
{names}]

'''


def model_tables() -> list[Table]:
    """Return the tables of the models, by name."""
    authored = [*vars(tables).values(), *vars(budget_tables).values()]
    models = {model for model in authored if isinstance(model, type)}
    found = [
        table_of(model) for model in models if issubclass(model, SQLModel) and model is not SQLModel
    ]
    return sorted(found, key=lambda table: table.name)


def columns_module() -> str:
    """Return the text of `columns.py`."""
    made = model_tables()
    names = sorted(
        [
            "TABLES",
            *(table.name.upper() for table in made),
        ]
    )
    text = _HEAD.format(names="".join(f'    "{name}",\n' for name in names))
    for table in made:
        text += f'{table.name.upper()} = TableSpec(\n    "{table.name}",\n    (\n'
        text += "".join(f"        {_column(column)},\n" for column in table.columns)
        text += "    ),\n)\n"
    listed = "".join(f"    {table.name.upper()},\n" for table in made)
    return f"{text}\nTABLES = (\n{listed})\n"


def _column(column: Column[object]) -> str:
    parts = [
        f'"{column.name}"',
        f'"{_type_of(column)}"',
    ]
    if column.nullable:
        parts.append("nullable=True")
    if column.primary_key:
        parts.append("key=True")
    return f"ColumnSpec({', '.join(parts)})"


def _type_of(column: Column[object]) -> ColumnType:
    # Subclasses come first: BigInteger and SmallInteger are Integers to SQLAlchemy.
    types: list[tuple[type, ColumnType]] = [
        (BigInteger, "bigint"),
        (SmallInteger, "smallint"),
        (Integer, "integer"),
        (LargeBinary, "bytes"),
        (Float, "float"),
        (Text, "text"),
    ]
    if column.primary_key and column.name == "id" and isinstance(column.type, BigInteger):
        return "id"
    return next(name for kind, name in types if isinstance(column.type, kind))


def sqlite_schema() -> str:
    """Return the statements that make an empty SQLite file a ledger."""
    return "".join(f"{each};\n" for each in _sqlite_statements())


def _sqlite_statements() -> Iterator[str]:
    # These need `columns.py`, which may only just have been written.
    from crewmeter_cost.ledger.schema.creation import bucket_rows, version_table
    from crewmeter_cost.ledger.schema.views import view_definitions

    dialect = registry.load("sqlite")()
    for table in [*model_tables(), version_table()]:
        yield str(CreateTable(table).compile(dialect=dialect)).strip()
        for index in sorted(table.indexes, key=lambda each: str(each.name)):
            yield str(CreateIndex(index).compile(dialect=dialect)).strip()
    yield from view_definitions("sqlite").values()
    rows = ", ".join(f"({row['bucket']}, {row['le_seconds']!r})" for row in bucket_rows())
    # Our own numbers.
    yield (f"INSERT INTO latency_bucket (bucket, le_seconds) VALUES {rows}")  # noqa: S608
    yield f"INSERT INTO {VERSION_TABLE} (version_num) VALUES ('{HEAD}')"  # noqa: S608 - constants
    yield f"PRAGMA application_id = {APPLICATION_ID}"


def main() -> None:
    """Write the files."""
    COLUMNS_FILE.write_text(columns_module(), encoding="utf-8")
    SQLITE_FILE.write_text(sqlite_schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
