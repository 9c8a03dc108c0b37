"""Create, check and upgrade a ledger's schema over SQLAlchemy.

This is the way of PostgreSQL ledgers and of every upgrade. A new or current SQLite ledger is opened
by `sqlite_file`, without SQLAlchemy. A test holds that a created schema equals the migrated one.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    func,
    insert,
    inspect,
    select,
)

from crewmeter_cost.ledger.connection import WRITE
from crewmeter_cost.ledger.location import display_url
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.latency_buckets import BOUNDS_NS
from crewmeter_cost.ledger.schema.version_numbers import (
    APPLICATION_ID,
    HEAD,
    VERSION_TABLE,
    foreign_database,
    known,
    needs_writing,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

__all__ = ["bring_up_to_date", "bucket_rows", "create", "finish", "version_table"]

_log = logging.getLogger("crewmeter")

_VERSION = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),  # as Alembic names it
)


def version_table() -> Table:
    """Return the table that holds the schema's revision."""
    return _VERSION


def bring_up_to_date(engine: Engine, *, read_only: bool) -> None:
    """Make sure the ledger has this version's schema.

    Raises `CrewMeterError` where it is newer, not a ledger, or must not be touched.
    """
    with engine.connect() as connection:
        found = _version(connection)
    if found == HEAD:
        return
    if read_only:
        raise needs_writing(display_url(engine.url), found)
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        found = _version(connection)  # again, now that nobody else can change it
        if found is None:
            create(connection)
        elif found != HEAD:
            _upgrade(connection, found)


def _upgrade(connection: Connection, found: str) -> None:
    """Upgrade, and say so before and after: other processes wait for it."""
    from crewmeter_cost.ledger.schema.migrations.run import upgrade

    name = display_url(connection.engine.url)
    calls = connection.execute(select(func.max(core_tables.call.c.id))).scalar() or 0
    _log.warning(
        "upgrading ledger %s from schema %s to %s, some %d calls; others wait meanwhile",
        name,
        found,
        HEAD,
        calls,
    )
    began = time.monotonic()
    upgrade(connection)
    _log.warning("upgraded ledger %s in %.1f s", name, time.monotonic() - began)


def _version(connection: Connection) -> str | None:
    """Return the schema's revision, None for an empty database.

    Raises `CrewMeterError` for a newer ledger and for another program's database.
    """
    inspector = inspect(connection)
    name = display_url(connection.engine.url)
    if not inspector.has_table(VERSION_TABLE):
        if connection.dialect.name == "sqlite" and inspector.get_table_names():
            raise foreign_database(name)
        return None
    version = connection.execute(select(_VERSION.c.version_num)).scalar()
    return known(str(version), name)


def create(connection: Connection) -> None:
    """Make an empty database a ledger: tables, views, buckets, version."""
    from crewmeter_cost.ledger.schema.generate import model_tables

    tables = model_tables()
    tables[0].metadata.create_all(connection, tables=tables)
    finish(connection)
    _VERSION.create(connection)
    connection.execute(insert(_VERSION).values(version_num=HEAD))


def finish(connection: Connection) -> None:
    """Make the views, the bucket bounds and the mark of our SQLite files."""
    from crewmeter_cost.ledger.schema.views import view_definitions

    for statement in view_definitions(connection.dialect.name).values():
        connection.exec_driver_sql(statement)
    buckets = core_tables.latency_bucket
    connection.execute(delete(buckets))
    connection.execute(insert(buckets), bucket_rows())
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def bucket_rows() -> list[dict[str, float]]:
    """Return the rows of `latency_bucket`."""
    return [{"bucket": bucket, "le_seconds": bound / 1e9} for bucket, bound in enumerate(BOUNDS_NS)]
