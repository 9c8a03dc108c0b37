"""A ledger's rows as plain dictionaries, from an open ledger or from its SQLite file.

`call_rows` and its neighbours have names instead of label ids, hex instead of bytes, money as
integer pico-USD.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["call_rows", "label_names", "named_rows", "rows", "run_rows", "step_rows"]

_LABEL_COLUMNS = {
    "call": [
        "scope",
        "provider",
        "host",
        "request_model",
        "response_model",
        "crew",
        "flow",
        "task",
        "agent",
        "tool",
        "user",
        "team",
        "session",
        "service",
        "environment",
        "error_type",
        "finish_reason",
        "service_tier",
        "cost_flags",
        "operation",
        "origin",
        "usage_status",
        "cost_status",
    ],
    "step": ["kind", "name", "crew", "flow", "task", "agent", "error_type"],
    "run": ["name", "service", "environment", "team", "user", "session", "error_type"],
}


def rows(source: Ledger | Path, query: str, **values: object) -> list[dict[str, object]]:
    """Return what a query with ``:name`` parameters finds."""
    if not isinstance(source, Path):
        with source.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(query), values).mappings()]
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, values)]


def label_names(source: Ledger | Path) -> dict[object, object]:
    """Return the text of every label id."""
    return {row["id"]: row["value"] for row in rows(source, "SELECT id, value FROM label")}


def named_rows(source: Ledger | Path, table: str) -> list[dict[str, object]]:
    """Return a table's rows, oldest first, with names instead of label ids."""
    names = label_names(source)
    found = rows(source, f'SELECT * FROM "{table}" ORDER BY started_ns, id')
    for row in found:
        row.update({column: names.get(row[column]) for column in _LABEL_COLUMNS[table]})
    return found


def _plain_rows(path: Path, table: str) -> list[dict[str, object]]:
    found = named_rows(path, table)
    runs = {row["id"]: row["run_id"] for row in rows(path, "SELECT id, run_id FROM run")}
    tags = {row["id"]: row["tags"] for row in rows(path, "SELECT id, tags FROM tag_set")}
    for row in found:
        for column, value in row.items():
            if isinstance(value, bytes):
                row[column] = value.hex()
        if "state" in row:
            row["status"] = "error" if row["state"] else "ok"
        if "run" in row:
            row["run"] = runs.get(row["run"])
        if "tag_set" in row:
            row["tags"] = tags.get(row["tag_set"])
    return found


def call_rows(path: Path) -> list[dict[str, object]]:
    """Return every billed call, oldest first; ``run`` is the run id."""
    return _plain_rows(Path(path), "call")


def step_rows(path: Path) -> list[dict[str, object]]:
    """Return every step, oldest first; ``run`` is the run id."""
    return _plain_rows(Path(path), "step")


def run_rows(path: Path) -> list[dict[str, object]]:
    """Return every run, oldest first, with its running totals."""
    return _plain_rows(Path(path), "run")
