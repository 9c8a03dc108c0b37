"""The table of captured content, closed to logins that read the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.sql import Sql

if TYPE_CHECKING:
    from crewmeter_cost.ledger.session import Session

__all__ = ["TABLE", "has_table", "make_table", "refuse_open_table"]

TABLE = "captured_content"
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} ("
    "trace_id TEXT NOT NULL, span_id TEXT NOT NULL, item TEXT NOT NULL, "
    'started_ns BIGINT NOT NULL, stored_ns BIGINT NOT NULL, "user" TEXT, text TEXT NOT NULL, '
    "PRIMARY KEY (trace_id, span_id, item))",
    f"CREATE INDEX IF NOT EXISTS {TABLE}_stored ON {TABLE} (stored_ns)",
    f"CREATE INDEX IF NOT EXISTS {TABLE}_started ON {TABLE} (started_ns)",
)
_GRAFANA_LOGIN = "grafana_reader"
"""As `scripts/postgres-reader.sh` makes it. Its SQL comes from browsers."""
_GRANTED = (
    "SELECT DISTINCT quote_ident(rolname) FROM pg_class, aclexplode(relacl) AS granted "
    "JOIN pg_roles ON pg_roles.oid = granted.grantee "
    "WHERE pg_class.oid = to_regclass(?) AND granted.grantee <> relowner"
)


def has_table(session: Session) -> bool:
    """Return whether a PostgreSQL database has the table."""
    query = Sql("SELECT to_regclass(?)", (TABLE,))
    return session.value(query) is not None


def make_table(session: Session) -> None:
    """Make the table where it is missing."""
    if session.backend != "postgresql":
        _run_schema(session)
        return
    # "IF NOT EXISTS" is no lock: two processes could make it at once, and one would fail.
    session.execute("SELECT pg_advisory_xact_lock(7316402)")
    is_new = not has_table(session)
    _run_schema(session)
    if is_new:
        # Default privileges, which let Grafana read the ledger's tables, are not for this one.
        granted = Sql(_GRANTED, (TABLE,))
        for (role,) in session.rows(granted):
            session.execute(f"REVOKE ALL ON {TABLE} FROM {role}")


def _run_schema(session: Session) -> None:
    for statement in _SCHEMA:
        session.execute(statement)


def refuse_open_table(session: Session) -> None:
    """Raise `CrewMeterError` where Grafana's login on PostgreSQL could read the table.

    Databases that an earlier version set up gave it `pg_read_all_data`, which no REVOKE on a table
    takes back.
    """
    if session.backend != "postgresql":
        return
    query = Sql(
        "SELECT has_table_privilege(rolname, ?, 'SELECT') FROM pg_roles WHERE rolname = ?",
        (TABLE, _GRAFANA_LOGIN),
    )
    for (allowed,) in session.rows(query):
        if allowed:
            raise CrewMeterError(
                f"the login {_GRAFANA_LOGIN} could read captured content",
                hint="docs/how-to/read-prompts.md has the SQL that takes that from it",
            )
