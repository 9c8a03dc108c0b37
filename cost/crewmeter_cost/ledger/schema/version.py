"""The ledger's schema: made where there is none, upgraded where it is older, refused where it is newer or not ours.

The version stands in the table `crewmeter_schema` (Alembic's version table under a name of our own), so a current ledger
opens without importing Alembic. `create` makes a new ledger directly; a test holds that it equals the migrations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    delete,
    insert,
    inspect,
    select,
)

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.connection import APPLICATION_ID, WRITE
from crewmeter_cost.ledger.location import shown
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.rollups import BOUNDS_NS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

__all__ = ["HEAD", "REVISIONS", "VERSION_TABLE", "bring_up_to_date", "create", "finish"]

REVISIONS = ("0001", "0002")
"""Every revision, oldest first; each has a file in ``migrations/versions``."""

HEAD = REVISIONS[-1]
VERSION_TABLE = "crewmeter_schema"

_VERSION = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),  # as Alembic names it
)


def bring_up_to_date(engine: Engine, *, read_only: bool) -> None:
    """Make sure the ledger has this version's schema. Raises `CrewMeterError` where it is newer, not a ledger, or must not be touched."""
    with engine.connect() as connection:
        found = _version(connection)
    if found == HEAD:
        return
    if read_only:
        what = "is empty" if found is None else f"has the older schema {found}"
        raise CrewMeterError(
            f"ledger {shown(engine.url)} {what}",
            hint="open it once with write access, e.g. `crewmeter doctor`",
        )
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        found = _version(connection)  # again, now that nobody else can change it
        if found is None:
            create(connection)
        elif found != HEAD:
            from crewmeter_cost.ledger.schema.migrations.run import upgrade

            upgrade(connection)


def _version(connection: Connection) -> str | None:
    """The schema's revision, None for an empty database. Raises `CrewMeterError` for a newer ledger and for a foreign database."""
    inspector = inspect(connection)
    name = shown(connection.engine.url)
    if not inspector.has_table(VERSION_TABLE):
        if connection.dialect.name == "sqlite" and inspector.get_table_names():
            hint = "set CREWMETER_LEDGER to another path"
            raise CrewMeterError(
                f"{name} is a database of something else, not a crewmeter ledger", hint=hint
            )
        return None
    version = connection.execute(select(_VERSION.c.version_num)).scalar()
    if version not in REVISIONS:
        raise CrewMeterError(
            f"ledger {name} was written by a newer crewmeter (schema {version}, this one knows {HEAD})",
            hint="pip install --upgrade crewmeter, or set CREWMETER_LEDGER to another ledger",
        )
    return str(version)


def create(connection: Connection) -> None:
    """Make an empty database a ledger: tables, views, buckets, version."""
    core_tables.METADATA.create_all(connection)
    finish(connection)
    _VERSION.create(connection)
    connection.execute(insert(_VERSION).values(version_num=HEAD))


def finish(connection: Connection) -> None:
    """What follows from the code rather than from a revision: views, bucket bounds, the mark of our SQLite files."""
    from crewmeter_cost.ledger.schema.views import (
        view_definitions,  # needed once in a ledger's life
    )

    for statement in view_definitions(connection.dialect.name).values():
        connection.exec_driver_sql(statement)
    buckets = core_tables.latency_bucket
    connection.execute(delete(buckets))
    connection.execute(
        insert(buckets),
        [{"bucket": bucket, "le_seconds": bound / 1e9} for bucket, bound in enumerate(BOUNDS_NS)],
    )
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
