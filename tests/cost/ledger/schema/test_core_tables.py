"""The Core tables the ledger runs on are those of the models, and the app never imports the models."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy.dialects import registry
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import SQLModel

from crewmeter_cost.ledger.schema import core_tables, tables


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_core_is_derived_from_the_models(backend):
    """`python -m crewmeter_cost.ledger.schema.derive` was run after the last change: same tables, columns, keys and indexes in DDL."""
    dialect = registry.load(backend)()

    def ddl(metadata):
        made = {}
        for name, table in metadata.tables.items():
            if name in core_tables.METADATA.tables:
                made[name] = str(CreateTable(table).compile(dialect=dialect))
                made |= {
                    str(index.name): str(CreateIndex(index).compile(dialect=dialect))
                    for index in table.indexes
                }
        return made

    assert ddl(core_tables.METADATA) == ddl(SQLModel.metadata)
    assert {
        str(getattr(tables, name).__tablename__) for name in tables.__all__ if name != "table_of"
    } == set(core_tables.METADATA.tables)


def test_writing_a_ledger_imports_no_models(ledger_path):
    """Eight megabytes less in the app: opening and writing need neither SQLModel nor SQLAlchemy's ORM."""
    code = (
        "import sys; from crewmeter_cost.ledger.store import Ledger\n"
        "with Ledger.open(sys.argv[1]) as ledger: ledger.write([], [])\n"
        "print([name for name in ('sqlmodel', 'sqlalchemy.orm', 'sqlalchemy.dialects.postgresql', 'alembic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ledger_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
