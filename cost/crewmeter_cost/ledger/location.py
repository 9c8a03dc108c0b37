"""Where the ledger is: what a person wrote (a path, a URL, nothing) as a SQLAlchemy URL, and how errors name it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["default_path", "ledger_url", "shown", "sqlite_path"]

_HINT = "use a path (~/.crewmeter/ledger.db), sqlite:////absolute/path.db or postgresql+psycopg://user@host/database"


def default_path() -> Path:
    """``~/.crewmeter/ledger.db``."""
    return Path.home() / ".crewmeter" / "ledger.db"


def ledger_url(option: str | None = None, *, environ: Mapping[str, str] = os.environ) -> URL:
    """The ledger's URL: the option, else ``$CREWMETER_LEDGER``, else the default path. A plain path is SQLite.

    Raises `CrewMeterError` for a URL that is none, or whose database this ledger cannot live in.
    """
    text = option or environ.get("CREWMETER_LEDGER") or str(default_path())
    if "://" not in text:
        if "\0" in text:
            raise CrewMeterError(f"{text!r} is not a path", hint=_HINT)
        return URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise CrewMeterError(f"{text!r} is not a ledger URL", hint=_HINT) from error
    backend = url.drivername.partition("+")[0]
    if backend in ("postgres", "postgresql") and url.drivername != "postgresql+psycopg":
        url = url.set(drivername="postgresql+psycopg")
    elif backend == "sqlite":
        if url.drivername not in ("sqlite", "sqlite+pysqlite"):
            raise CrewMeterError(
                f"{shown(url)}: the ledger does not use the driver {url.drivername!r}", hint=_HINT
            )
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise CrewMeterError(f"{shown(url)} names no file", hint=_HINT)
        url = url.set(database=str(Path(url.database).expanduser().absolute()))
    elif backend != "postgresql":
        raise CrewMeterError(
            f"{shown(url)}: a ledger lives in SQLite or PostgreSQL, not in {backend!r}", hint=_HINT
        )
    return url


def sqlite_path(url: URL) -> Path | None:
    """The file of a SQLite ledger, None for a server."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def shown(url: URL) -> str:
    """The URL for messages: without its password."""
    return url.render_as_string(hide_password=True)
