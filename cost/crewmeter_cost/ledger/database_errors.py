"""What a database says went wrong, as errors that a person can act on."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError, LedgerCorruptError, LedgerUnavailableError
from crewmeter_cost.ledger.location import display_url, sqlite_path

if TYPE_CHECKING:
    from crewmeter_cost.ledger.location import LedgerUrl
    from crewmeter_cost.ledger.sqlite_file import FileIdentity

__all__ = [
    "DAMAGE",
    "damaged",
    "explain",
    "primary_code",
    "unwritable",
]


def damaged(name: str, damage: str, found: FileIdentity | None) -> LedgerCorruptError:
    """Return the error for a file whose bytes were found to be damaged."""
    error = LedgerCorruptError(
        f"ledger {name} is damaged: {damage}",
        hint="the next app that writes moves it away and copies what can be read to a new file",
    )
    error.found_in = found
    return error


DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""SQLite's codes for a file that is damaged or no database."""


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code, without the extended part."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    return code & 0xFF


def explain(error: Exception, url: LedgerUrl) -> CrewMeterError:
    """Return the error of a driver, or SQLAlchemy's wrapper round it, as one of ours."""
    origin = getattr(error, "orig", None) or error
    path = sqlite_path(url)
    if path is None:
        return _server_error(origin, display_url(url))
    return _sqlite_error(origin, display_url(url), path)


def _server_error(origin: BaseException, name: str) -> CrewMeterError:
    lines = str(origin).strip().splitlines()
    reason = lines[0] if lines else type(origin).__name__
    return LedgerUnavailableError(
        f"ledger {name}: {reason}", hint="is the server up, and may this user write there?"
    )


def _sqlite_error(origin: BaseException, name: str, path: Path) -> CrewMeterError:
    match primary_code(origin):
        case sqlite3.SQLITE_NOTADB:
            return LedgerCorruptError(
                f"ledger {name} is not a SQLite database",
                hint="set CREWMETER_LEDGER to another path, or move the file away",
            )
        case sqlite3.SQLITE_CORRUPT:
            return LedgerCorruptError(
                f"ledger {name} is damaged: {origin}",
                hint="the next app that writes moves it away and copies what can be read of it",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LedgerUnavailableError(
                f"ledger {name} is locked by another process",
                hint="end what holds it open, or try again",
            )
        case sqlite3.SQLITE_FULL:
            return LedgerUnavailableError(
                f"ledger {name}: the disk is full", hint="free some space, or `crewmeter prune`"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return unwritable(path, None)
        case _:
            return LedgerUnavailableError(
                f"ledger {name}: {origin}",
                hint="see the message; `crewmeter doctor` checks the ledger",
            )


def unwritable(path: Path, error: OSError | None) -> LedgerUnavailableError:
    """Return the error for a file or folder of somebody else, naming its owner.

    A folder in the file's stead is called so, and a file that went away missing.
    """
    if path.is_dir():
        return LedgerUnavailableError(
            f"ledger {path} is a folder", hint="name a file in it, e.g. ledger.db"
        )
    went_away = os.access(path.parent, os.W_OK) and not os.path.lexists(path)
    if error is None and path.parent.is_dir() and went_away:
        return LedgerUnavailableError(
            f"there is no ledger at {path} any more",
            hint="put it back; the next span or `crewmeter demo` makes a new one",
        )
    existing = next(each for each in (path, *path.parents, Path("/")) if each.exists())
    reason = f": {error.strerror}" if error is not None and error.strerror else ""
    owner = f"{existing} belongs to {_owner(existing)}, you are {_user(_effective_user())}"
    return LedgerUnavailableError(
        f"ledger sqlite:///{path} is not writable ({owner}){reason}",
        hint="set CREWMETER_LEDGER, or chown the folder; the app keeps running unmetered meanwhile",
    )


def _effective_user() -> int:
    if hasattr(os, "geteuid"):
        return os.geteuid()
    return -1


def _owner(path: Path) -> str:
    try:
        return _user(path.stat().st_uid)
    except OSError:
        return "unknown"


def _user(number: int) -> str:
    try:
        import pwd
    except ImportError:  # Windows
        return str(number)
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
