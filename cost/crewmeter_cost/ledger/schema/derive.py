"""Writes ``core.py`` out of ``tables.py``: ``python -m crewmeter_cost.ledger.schema.derive``. A test fails where the two drift apart."""

from __future__ import annotations

import sys
from pathlib import Path

from alembic.autogenerate import render_python_code
from alembic.operations.ops import CreateIndexOp, CreateTableOp, UpgradeOps
from sqlmodel import SQLModel

from crewmeter_cost.ledger.schema import tables

__all__ = ["derived"]

_HEAD = '''"""The ledger's tables as SQLAlchemy Core has them, without the eight megabytes of models. Derived: edit ``tables.py``, then
``python -m crewmeter_cost.ledger.schema.derive``.
"""

from __future__ import annotations

import sqlalchemy as sa

__all__ = [
{names}]

METADATA = sa.MetaData()
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

'''


def derived() -> str:
    """The text of ``core.py``, before formatting."""
    made = [
        SQLModel.metadata.tables[name]
        for name in sorted(SQLModel.metadata.tables)
        if name in _ours()
    ]
    parts = []
    for table in made:
        code = _code(CreateTableOp.from_table(table)).replace(
            "op.create_table(", f"{table.name} = sa.Table(", 1
        )
        parts.append(code.replace(f"'{table.name}',", f"'{table.name}', METADATA,", 1))
        indexes = sorted(table.indexes, key=lambda each: str(each.name))
        parts += [_index(table.name, _code(CreateIndexOp.from_index(index))) for index in indexes]
    text = "\n".join(parts).replace("sa.BigInteger().with_variant(sa.Integer(), 'sqlite')", "_BIG")
    return (
        _HEAD.format(
            names="".join(
                f'    "{name}",\n' for name in ["METADATA", *(table.name for table in made)]
            )
        )
        + text
        + "\n"
    )


def _ours() -> set[str]:
    models = [
        model
        for model in vars(tables).values()
        if isinstance(model, type) and issubclass(model, SQLModel)
    ]
    return {str(model.__tablename__) for model in models if model is not SQLModel}


def _code(operation: CreateTableOp | CreateIndexOp) -> str:
    lines = str(render_python_code(UpgradeOps([operation]))).splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines if "###" not in line)


def _index(table: str, code: str) -> str:
    """``op.create_index('name', 'table', [columns], unique=…)`` as an Index on the table."""
    name, rest = code.removeprefix("op.create_index(").split(", ", 1)
    columns, unique = rest.removeprefix(f"'{table}', [").rsplit("], unique=", 1)
    columns = columns.replace("sa.literal_column(", "sa.text(")
    parts = (
        columns
        if columns.startswith("sa.text")
        else ", ".join(f"{table}.c[{column.strip()}]" for column in columns.split(","))
    )
    target = f", _table={table}" if columns.startswith("sa.text") else ""
    return f"sa.Index({name}, {parts}, unique={unique.rstrip(')')}{target})"


if __name__ == "__main__":
    sys.stdout.write(
        f"{Path(__file__).with_name('core_tables.py').write_text(derived())} characters\n"
    )
