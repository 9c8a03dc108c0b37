"""Whether a ledger keeps any budget, found out with the standard library alone: an app without budgets loads no database layer."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

__all__ = ["keeps_budgets"]


def keeps_budgets(ledger: str | None) -> bool | None:
    """True or False for a SQLite ledger (False where there is no file yet); None for a server, which only a driver can ask."""
    text = (
        ledger
        or os.environ.get("CREWMETER_LEDGER")
        or str(Path.home() / ".crewmeter" / "ledger.db")
    )
    if "://" in text and not text.startswith("sqlite:///"):
        return None
    path = Path(text.removeprefix("sqlite:///")).expanduser()
    if not path.is_file():
        return False
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=0.2
        )
        try:
            return connection.execute("SELECT 1 FROM budget LIMIT 1").fetchone() is not None
        finally:
            connection.close()
    except sqlite3.Error:
        return False  # no ledger, or a damaged one: the exporter says so
