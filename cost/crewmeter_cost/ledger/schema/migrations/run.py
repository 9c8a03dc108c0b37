"""Upgrade of an older ledger, all or nothing.

It runs inside the transaction of whoever found that the ledger is older.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from sqlalchemy import inspect

from crewmeter_cost.ledger.schema.creation import finish
from crewmeter_cost.ledger.schema.views import view_definitions

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

__all__ = ["upgrade"]


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the revisions the ledger lacks, up to `revision`, and make the views anew."""
    for view in inspect(connection).get_view_names():
        if view in view_definitions(connection.dialect.name):
            connection.exec_driver_sql(f"DROP VIEW {view}")
    config = Config()
    config.set_main_option(
        "script_location",
        str(Path(__file__).parent).replace("%", "%%"),
    )
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    if revision == "head":
        finish(connection)
