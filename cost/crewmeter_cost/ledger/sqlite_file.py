"""A SQLite ledger over `sqlite3` alone.

Made where it is missing, opened, and watched.

The file can be deleted, moved, or replaced by a backup while a process holds it open. SQLite does
not notice, and what is committed then is lost with the old file. `FileIdentity` tells: it is the
device and inode that a connection was opened on.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from crewmeter_cost.ledger.database_errors import unwritable
from crewmeter_cost.ledger.schema.version_numbers import (
    HEAD,
    VERSION_TABLE,
    foreign_database,
    known,
    needs_writing,
)

__all__ = [
    "FileIdentity",
    "connect",
    "identity_of",
    "pragmas",
    "prepare_file",
    "real_path",
    "schema_of",
]

_SCHEMA = Path(__file__).parent / "schema" / "sqlite_schema.sql"
_PREPARED_STATEMENTS = 256
"""Each bulk statement exists in a dozen sizes, so the driver's default of 128 is too few."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file a path leads to."""

    device: int
    inode: int


def identity_of(path: str | Path) -> FileIdentity | None:
    """Return what stands at a path now, None for nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return FileIdentity(found.st_dev, found.st_ino)


def real_path(path: Path) -> Path:
    """Return the file that symbolic links lead to.

    SQLite follows links too, so the write-ahead log lies beside that file.
    """
    return Path(os.path.realpath(path))


def prepare_file(path: Path) -> bool:
    """Make the folder (0700) and the file (0600) where missing.

    True if the file is new.

    Raises `LedgerUnavailableError` naming the owner, or for a folder.
    """
    # To `O_EXCL` a link to nothing is a file, and SQLite would make its target readable to all.
    path = real_path(path)
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(
            os.open(
                path,
                os.O_CREAT | os.O_EXCL | os.O_RDWR,
                0o600,
            )
        )
    except FileExistsError:
        if path.is_dir():
            raise unwritable(path, None) from None
        return False
    except OSError as error:
        raise unwritable(path, error) from error
    return True


def pragmas(*, durable: bool, read_only: bool) -> list[str]:
    """Return how every connection is set up."""
    cache_kib = 64_000 if durable else 4_000
    checkpoint_pages = 4_000 if durable else 1_000
    synchronous = "FULL" if durable else "NORMAL"
    return [
        # With a write-ahead log NORMAL survives a crash of the process, FULL one of the machine.
        f"PRAGMA synchronous = {synchronous}",
        f"PRAGMA cache_size = {-cache_kib}",
        f"PRAGMA wal_autocheckpoint = {checkpoint_pages}",
        "PRAGMA temp_store = MEMORY",
        "PRAGMA query_only = ON" if read_only else "PRAGMA journal_mode = WAL",
    ]


def connect(
    path: Path, *, durable: bool, read_only: bool, busy_seconds: float
) -> sqlite3.Connection:
    """Open a connection to an existing file, that begins no transactions of its own.

    Raises `sqlite3.Error`, also where there is no file.
    """
    may_write = os.access(path, os.W_OK) and os.access(
        path.parent,
        os.W_OK,
    )
    # Never "rwc": a file that went away is made by `prepare_file` alone, for its owner only.
    mode = "ro" if read_only and not may_write else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        # Transactions are begun by hand: the driver would begin deferred ones.
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_PREPARED_STATEMENTS,
    )
    try:
        for pragma in pragmas(durable=durable, read_only=read_only):
            connection.execute(pragma)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def schema_of(connection: sqlite3.Connection, name: str, *, read_only: bool) -> str:
    """Return the schema's revision, after making a new file a ledger.

    An older revision is returned as it is: upgrading takes Alembic. Raises `CrewMeterError` for a
    newer ledger, another program's database, and an empty file that may only be read.
    """
    found = _version(connection, name)
    if found is not None:
        return found
    if read_only:
        raise needs_writing(name, None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _version(connection, name)  # again, now that nobody else can change it
        if found is None:
            for statement in _SCHEMA.read_text(encoding="utf-8").split(";\n"):
                connection.execute(statement)
            found = HEAD
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return found


def _version(connection: sqlite3.Connection, name: str) -> str | None:
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    ).fetchall()
    if not tables:
        return None
    if (VERSION_TABLE,) not in tables:
        raise foreign_database(name)
    query = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - a constant
    (version,) = connection.execute(query).fetchone()
    return known(str(version), name)
