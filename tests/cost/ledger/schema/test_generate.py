"""What is generated follows the models, and an app that writes a ledger imports none of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.ledger_build import call, frozen, priced

from crewmeter_cost.ledger.schema import columns, core_tables, generate
from crewmeter_cost.ledger.store import Ledger

HEAVY = ("sqlalchemy", "sqlmodel", "pydantic", "alembic", "grpc")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (generate.COLUMNS_FILE, generate.columns_module),
        (generate.SQLITE_FILE, generate.sqlite_schema),
    ],
    ids=["columns.py", "sqlite_schema.sql"],
)
def test_generated_files_follow_the_models(path, text):
    """`python -m crewmeter_cost.ledger.schema.generate` was run after the last change."""
    assert path.read_text(encoding="utf-8") == text()


def test_every_model_has_a_core_table():
    """Queries can name every table and column of the models."""
    for model, spec in zip(generate.model_tables(), columns.TABLES, strict=True):
        assert core_tables.METADATA.tables[model.name].columns.keys() == model.columns.keys()
        assert spec.names == tuple(model.columns.keys())


def test_an_app_with_a_ledger_imports_no_database_toolkit(ledger_path):
    """Making, opening and writing a SQLite ledger takes `sqlite3` and nothing else."""
    with Ledger.open(str(ledger_path)) as ledger:
        ledger.write([(call(1), priced())], [], frozen)
    for path in (ledger_path, ledger_path.with_name("new.db")):
        code = (
            "import sys; from crewmeter_cost.ledger.store import Ledger\n"
            "with Ledger.open(sys.argv[1]) as ledger: ledger.write([], [])\n"
            f"print([name for name in {HEAVY} if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"
