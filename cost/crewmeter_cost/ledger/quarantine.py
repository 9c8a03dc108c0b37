"""Quarantine of damaged SQLite ledgers: moved aside, never deleted.

A new file is begun at the old path.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_damaged", "quarantine"]


def is_damaged(path: Path) -> bool:
    """True if the file is no SQLite database or fails SQLite's own quick check.

    False where it is sound, locked or missing.
    """
    if not path.exists():
        return False
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None)
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)
        return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    finally:
        connection.close()


def quarantine(path: Path) -> Path | None:
    """Rename a damaged ledger, with its WAL, to ``<name>.corrupt-<UTC time>``.

    Returns where it is now.

    None where nothing was moved: the file is sound, or another process was quicker and a new ledger already stands there.
    """
    try:
        found = path.stat().st_ino
    except FileNotFoundError:
        return None
    if not is_damaged(path):
        return None
    aside = path.with_name(f"{path.name}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return None
    if (
        aside.stat().st_ino != found
    ):  # another process had put a new one there between the check and the rename
        aside.rename(path)
        return None
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + suffix))
    return aside
