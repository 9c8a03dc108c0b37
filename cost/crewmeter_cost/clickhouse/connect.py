"""Connections to ClickHouse by URL, and its errors in plain words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import install_command
from crewmeter_cost.ledger.location import display_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clickhouse_connect.driver.client import Client
    from sqlalchemy.engine.url import URL

__all__ = ["connected", "mirror_url"]

_DATABASE = "crewmeter"
_HINT = (
    "use clickhouse://user:password@host:8123/crewmeter, clickhouses://… for TLS, or "
    "chdb:///folder for the embedded engine"
)


def mirror_url(text: str) -> URL:
    """Return the URL of a mirror.

    Raises `CrewMeterError` for one that is not ClickHouse's.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise CrewMeterError(f"--to {text!r} is not a URL", hint=_HINT) from error
    if url.drivername not in ("clickhouse", "clickhouses", "chdb"):
        raise CrewMeterError(
            f"--to {display_url(url)}: a mirror lives in ClickHouse, not in {url.drivername!r}",
            hint=_HINT,
        )
    if url.drivername == "chdb" and not url.database:
        raise CrewMeterError(f"--to {display_url(url)} names no folder", hint=_HINT)
    database = (
        str(url.query.get("database", _DATABASE))
        if url.drivername == "chdb"
        else url.database or _DATABASE
    )
    if not database.replace("_", "").isalnum():
        raise CrewMeterError(
            f"--to {display_url(url)}: {database!r} is no name for a database", hint=_HINT
        )
    return url


@contextmanager
def connected(url: URL) -> Iterator[Client]:
    """Return a client whose database is the mirror's, made where missing.

    Raises `CrewMeterError` for a missing extra, a server that cannot be reached and for whatever
    ClickHouse refuses.
    """
    try:
        from clickhouse_connect.driver.exceptions import ClickHouseError
    except ModuleNotFoundError as error:
        raise CrewMeterError(
            "a mirror needs clickhouse-connect", hint=install_command("clickhouse")
        ) from error
    try:
        client = _open(url)
        try:
            yield client
        finally:
            client.close()
    except ClickHouseError as error:
        said = (
            str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        )
        hint = (
            "check host, port (HTTP: 8123, TLS: 8443), user and grants; what was copied "
            "stays, the next run goes on from there"
        )
        raise CrewMeterError(f"{display_url(url)}: {said}", hint=hint) from error


def _open(url: URL) -> Client:
    import clickhouse_connect

    database = str(url.query.get("database", _DATABASE))
    if url.drivername == "chdb":
        try:
            client = clickhouse_connect.get_client(
                interface="chdb",
                path=url.database,
            )
        except ImportError as error:
            raise CrewMeterError(
                f"{display_url(url)} needs the package chdb",
                hint="pip install chdb, or mirror to a server",
            ) from error
    else:
        database = url.database or _DATABASE
        secure = url.drivername == "clickhouses"
        client = clickhouse_connect.get_client(
            host=url.host or "localhost",
            port=url.port or (8443 if secure else 8123),
            username=url.username or "default",
            password=str(url.password or ""),
            secure=secure,
            autogenerate_session_id=False,
        )
    if not client.command("EXISTS DATABASE {name:Identifier}", parameters={"name": database}):
        client.command("CREATE DATABASE {name:Identifier}", parameters={"name": database})
    client.database = database
    return client
