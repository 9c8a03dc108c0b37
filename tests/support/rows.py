"""A ledger's rows as plain dictionaries.

Names instead of label ids, hex instead of bytes, money as integer pico-USD.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["call_rows", "run_rows", "step_rows"]

_CALL_LABELS = [
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
]
_STEP_LABELS = ["kind", "name", "crew", "flow", "task", "agent", "error_type"]
_RUN_LABELS = ["name", "service", "environment", "team", "user", "session", "error_type"]


def _rows(path: Path, table: str, labels: list[str]) -> list[dict[str, object]]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        names = dict(connection.execute("SELECT id, value FROM label").fetchall())
        rows = [
            dict(row)
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY started_ns, id")
        ]
        runs = dict(connection.execute("SELECT id, run_id FROM run").fetchall())
        tags = dict(connection.execute("SELECT id, tags FROM tag_set").fetchall())
    connection.close()
    for row in rows:
        for column in labels:
            row[column] = names.get(row[column]) if row[column] is not None else None
        for column, value in row.items():
            if isinstance(value, bytes):
                row[column] = value.hex()
        if "state" in row:
            row["status"] = "error" if row["state"] else "ok"
        if "run" in row:
            row["run"] = runs.get(row["run"])
        if "tag_set" in row:
            row["tags"] = tags.get(row["tag_set"])
    return rows


def call_rows(path: Path) -> list[dict[str, object]]:
    """Every billed call, oldest first; ``run`` is the run id."""
    return _rows(path, '"call"', _CALL_LABELS)


def step_rows(path: Path) -> list[dict[str, object]]:
    """Every step, oldest first; ``run`` is the run id."""
    return _rows(path, "step", _STEP_LABELS)


def run_rows(path: Path) -> list[dict[str, object]]:
    """Every run, oldest first, with its running totals."""
    return _rows(path, "run", _RUN_LABELS)
