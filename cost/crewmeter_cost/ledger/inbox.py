"""Spans put into a SQLite ledger as they came, to be priced later: by the same app once it has the time, or by the next that opens it.

Pricing needs SQLAlchemy and the price book, which take longer to import than a short script runs. So an app that ends early
puts its spans here with the standard library alone, in milliseconds, and the ledger is complete all the same. Spans are
taken out after the transaction that wrote their rows; a crash in between takes them twice, and a span is one row only.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from crewmeter_cost.records import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["TABLE", "drain", "put"]

TABLE = "crewmeter_inbox"
"""Not part of the schema's revisions: it may be there before the first table is."""

_MAKE = f"CREATE TABLE IF NOT EXISTS {TABLE} (id INTEGER PRIMARY KEY, spans TEXT NOT NULL)"
_FIELDS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "started_ns",
    "ended_ns",
    "error",
    "attributes",
    "resource",
    "scope",
    "status_message",
)


def put(path: Path, spans: Sequence[Span], *, busy_seconds: float = 1.0) -> None:
    """Keep `spans` in the file at `path`, which is made if need be (owner only). Raises `sqlite3.Error` or `OSError`; then none is kept."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    text = json.dumps([[_plain(getattr(span, field)) for field in _FIELDS] for span in spans], default=str)
    with closing(sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_MAKE)
        connection.execute(f"INSERT INTO {TABLE} (spans) VALUES (?)", (text,))  # noqa: S608  the name is a constant
        connection.execute("COMMIT")


def drain(path: Path, ingest: Callable[[list[Span]], object], *, busy_seconds: float = 5.0) -> int:
    """Give every kept batch to `ingest` and forget it once that returned; how many spans there were. 0 where nothing is kept.

    Raises what `ingest` raises, with the batch still kept. A batch that cannot be read is skipped and kept for a newer version.
    """
    taken = 0
    with closing(sqlite3.connect(path, timeout=busy_seconds, isolation_level=None)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (TABLE,)).fetchone():
            return 0
        for number, text in connection.execute(f"SELECT id, spans FROM {TABLE} ORDER BY id").fetchall():  # noqa: S608  a constant
            spans = _read(text)
            if spans is None:
                continue
            ingest(spans)
            connection.execute(f"DELETE FROM {TABLE} WHERE id = ?", (number,))  # noqa: S608  a constant
            taken += len(spans)
    return taken


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value


def _read(text: str) -> list[Span] | None:
    try:
        return [Span(**dict(zip(_FIELDS, fields, strict=True))) for fields in json.loads(text)]
    except (TypeError, ValueError):
        return None
