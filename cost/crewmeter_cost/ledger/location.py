"""Where the ledger is.

A path or URL as a person wrote it, and how messages name it.

SQLAlchemy is imported for servers only, so that an app with a SQLite ledger does without.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import unquote

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import URL

__all__ = ["Backend", "LedgerUrl", "default_path", "display_url", "ledger_url", "sqlite_path"]

Backend = Literal["sqlite", "postgresql"]
_HINT = (
    "use a path (~/.crewmeter/ledger.db), sqlite:////absolute/path.db "
    "or postgresql+psycopg://user@host/database"
)
_BEFORE_DRIVE = re.compile(r"^/(?=[A-Za-z]:[\\/])")
_SQLITE_DRIVERS = ("sqlite", "sqlite+pysqlite")


class _Url(Protocol):
    def render_as_string(self, *, hide_password: bool = True) -> str: ...


@dataclass(frozen=True, slots=True)
class LedgerUrl:
    """The address of a ledger: a SQLite file or a PostgreSQL database."""

    backend: Backend
    database: str | None
    """The absolute path of a SQLite file, the name of a PostgreSQL database."""
    server: URL | None = None
    """What SQLAlchemy connects to, for a server."""

    def sqlalchemy_url(self) -> URL:
        """Return the URL as SQLAlchemy has it."""
        from sqlalchemy.engine import URL

        if self.server is not None:
            return self.server
        return URL.create("sqlite", database=self.database)

    def render_as_string(self, *, hide_password: bool = True) -> str:
        """Return the URL as text, with `***` for a password by default."""
        if self.server is not None:
            return self.server.render_as_string(hide_password=hide_password)
        return f"sqlite:///{self.database}"


def default_path() -> Path:
    """Return `~/.crewmeter/ledger.db`."""
    return Path.home() / ".crewmeter" / "ledger.db"


def ledger_url(option: str | None = None, *, environ: Mapping[str, str] = os.environ) -> LedgerUrl:
    """Return the ledger's URL.

    The option comes first, then `$CREWMETER_LEDGER`, then the default path.

    A plain path is SQLite. Raises `CrewMeterError` for a URL that is none, or whose database this
    ledger cannot live in.
    """
    text = option or environ.get("CREWMETER_LEDGER") or str(default_path())
    if "://" not in text:
        return _file(text)
    driver, _, rest = text.partition("://")
    if len(driver) == 1:
        # A drive letter of Windows: C://data/ledger.db.
        return _file(text)
    backend = driver.partition("+")[0]
    if backend == "sqlite":
        return _sqlite(text, driver, rest)
    return _server(text)


def _file(path: str) -> LedgerUrl:
    if "\0" in path:
        raise CrewMeterError(f"{path!r} is not a path", hint=_HINT)
    return LedgerUrl(
        "sqlite",
        str(Path(path).expanduser().absolute()),
    )


def _sqlite(text: str, driver: str, rest: str) -> LedgerUrl:
    if driver not in _SQLITE_DRIVERS:
        raise CrewMeterError(f"{text}: the ledger does not use the driver {driver!r}", hint=_HINT)
    host, slash, database = rest.partition("/")
    database = database.partition("?")[0]
    named = slash and not host and database and database != ":memory:"
    if not named or database.startswith("file:"):
        raise CrewMeterError(f"{text} names no file", hint=_HINT)
    # sqlite:////C:/data/ledger.db has a slash too many for a drive.
    return _file(_BEFORE_DRIVE.sub("", unquote(database)))


def _server(text: str) -> LedgerUrl:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise CrewMeterError(f"{text!r} is not a ledger URL", hint=_HINT) from error
    backend = url.drivername.partition("+")[0]
    if backend not in ("postgres", "postgresql"):
        raise CrewMeterError(
            f"{display_url(url)}: a ledger lives in SQLite or PostgreSQL, not in {backend!r}",
            hint=_HINT,
        )
    url = url.set(drivername="postgresql+psycopg")
    return LedgerUrl("postgresql", url.database, url)


def sqlite_path(url: LedgerUrl) -> Path | None:
    """Return the file of a SQLite ledger, None for a server."""
    if url.backend != "sqlite" or url.database is None:
        return None
    return Path(url.database)


def display_url(url: _Url) -> str:
    """Return a URL for messages: without its password."""
    return url.render_as_string(hide_password=True)
