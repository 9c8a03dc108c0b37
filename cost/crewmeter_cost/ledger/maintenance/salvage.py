"""Copies of what can be read of a damaged ledger, with sums computed afresh.

The damaged file is not touched. Ranges of rows that cannot be read are halved until what is lost is
single rows. Of a damaged write-ahead log, SQLite takes the commits before the damage.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crewmeter.semconv import KIND_TOOL
from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.session import SqliteSession
from crewmeter_cost.ledger.sqlite_file import connect, schema_of
from crewmeter_cost.ledger.write.rows import CALL, STEP
from crewmeter_cost.ledger.write.transaction import WriterState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crewmeter_cost.ledger.schema.table_spec import TableSpec
    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.ledger.write.transaction import Transaction

__all__ = ["Salvaged", "salvage"]

_COPIED = (
    columns.LABEL,
    columns.TAG_SET,
    columns.PRICE_VERSION,
    columns.BUDGET,
    columns.REPRICING,
    columns.ADJUSTMENT,
)
"""Tables that are copied row by row. Runs, calls and steps are counted as well."""
_CHUNK = 512

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What could be read."""

    path: Path
    """The new ledger."""
    calls: int = 0
    steps: int = 0
    runs: int = 0


def salvage(damaged: Path, target: Path) -> Salvaged:
    """Make a new ledger at `target` of what can be read of a damaged one.

    Raises `sqlite3.Error` where not even its list of tables can be read, and `FileExistsError`
    where there is a file at `target`.
    """
    target.touch(mode=0o600, exist_ok=False)
    with tempfile.TemporaryDirectory(prefix="crewmeter-salvage-") as folder:
        source = sqlite3.connect(_copy(damaged, Path(folder)))
        made = connect(
            target,
            durable=False,
            read_only=False,
            busy_seconds=5.0,
        )
        try:
            schema_of(made, str(target), read_only=False)
            return _Salvage(source, made, target).run()
        finally:
            source.close()
            made.close()


def _copy(damaged: Path, folder: Path) -> Path:
    """Copy the file and its WAL, not the WAL's index.

    Without the index SQLite checks every frame.
    """
    copied = folder / "ledger.db"
    shutil.copyfile(damaged, copied)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(
            damaged.with_name(f"{damaged.name}-wal"),
            folder / "ledger.db-wal",
        )
    return copied


class _Salvage:
    """One salvage under way."""

    def __init__(self, source: sqlite3.Connection, made: sqlite3.Connection, path: Path) -> None:
        self._source = source
        self._made = made
        self._salvaged = Salvaged(path)

    def run(self) -> Salvaged:
        self._made.execute("BEGIN IMMEDIATE")
        for table in _COPIED:
            for rows in self._readable(table):
                self._insert(table, rows)
        self._copy_state()
        transaction = WriterState("sqlite").begin(SqliteSession(self._made))
        outcomes = self._copy_runs()
        self._copy_calls(transaction, outcomes)
        self._copy_steps(transaction, outcomes)
        for number, row in outcomes.items():
            transaction.runs.load_numbers([number])
            ending = {name: row[name] for name in ("status", "started_ns", "duration_ns")}
            transaction.runs.restore(number, **ending)
        transaction.save_sums()
        self._made.execute("COMMIT")
        return self._salvaged

    def _copy_state(self) -> None:
        """Keep what was pruned: replays of it must be refused further on."""
        with contextlib.suppress(sqlite3.Error):
            rows = self._source.execute("SELECT name, value FROM ledger_state").fetchall()
            self._insert(columns.LEDGER_STATE, rows)

    def _copy_runs(self) -> dict[int, dict[str, Any]]:
        """Copy runs as if they were running and empty. Returns how they were, by number."""
        outcomes: dict[int, dict[str, Any]] = {}
        names = columns.RUN.names
        from_totals = names.index("calls")
        for rows in self._readable(columns.RUN):
            emptied = []
            for row in rows:
                was = dict(zip(names, row, strict=True))
                outcomes[was["id"]] = was
                empty = {**was, "status": "running", "duration_ns": None}
                zeros = [0] * (len(names) - from_totals)
                emptied.append((*tuple(empty.values())[:from_totals], *zeros))
            self._insert(columns.RUN, emptied)
        self._salvaged = replace(
            self._salvaged,
            runs=len(outcomes),
        )
        return outcomes

    def _copy_calls(self, transaction: Transaction, runs: dict[int, Any]) -> None:
        for rows in self._readable(columns.CALL):
            known = [
                _in_known_run(
                    row,
                    CALL.run,
                    runs,
                )
                for row in rows
            ]
            self._insert(columns.CALL, known)
            transaction.runs.load_numbers(row[1:][CALL.run] for row in known)
            for row in known:
                transaction.count_call(row[1:])
            self._salvaged = replace(
                self._salvaged,
                calls=self._salvaged.calls + len(known),
            )

    def _copy_steps(self, transaction: Transaction, runs: dict[int, Any]) -> None:
        tool = transaction.labels.of["kind"][KIND_TOOL]
        for rows in self._readable(columns.STEP):
            known = [
                _in_known_run(
                    row,
                    STEP.run,
                    runs,
                )
                for row in rows
            ]
            self._insert(columns.STEP, known)
            tools = [row[1:] for row in known if row[1:][STEP.kind] == tool]
            transaction.runs.load_numbers(row[STEP.run] for row in tools)
            for row in tools:
                transaction.count_tool(row)
            self._salvaged = replace(
                self._salvaged,
                steps=self._salvaged.steps + len(known),
            )

    def _insert(self, table: TableSpec, rows: Rows) -> None:
        names = ", ".join(f'"{name}"' for name in table.names)
        marks = ", ".join("?" * len(table.names))
        # Our own names.
        sql = f'INSERT OR IGNORE INTO "{table.name}" ({names}) VALUES ({marks})'  # noqa: S608
        self._made.executemany(sql, rows)

    def _readable(self, table: TableSpec) -> Iterator[Rows]:
        """Yield the rows of a table that can be read, some hundred at a time."""
        try:
            newest = f'SELECT max(id) FROM "{table.name}"'  # noqa: S608 - our own name
            (last,) = self._source.execute(newest).fetchone()
        except sqlite3.Error:
            return
        names = ", ".join(f'"{name}"' for name in table.names)
        every = f'SELECT {names} FROM "{table.name}"'  # noqa: S608 - our own names
        sql = f"{every} WHERE id BETWEEN ? AND ? ORDER BY id"
        for start in range(0, (last or 0) + 1, _CHUNK):
            found = self._between(
                sql,
                start,
                start + _CHUNK - 1,
            )
            rows = [row for row in found if _is_whole(table, row)]
            if rows:
                yield rows

    def _between(self, sql: str, low: int, high: int) -> Iterator[tuple[Any, ...]]:
        try:
            rows = self._source.execute(
                sql,
                (low, high),
            ).fetchall()
        except (sqlite3.Error, UnicodeDecodeError):
            if low == high:
                return
            middle = (low + high) // 2
            yield from self._between(sql, low, middle)
            yield from self._between(sql, middle + 1, high)
        else:
            yield from rows


def _is_whole(table: TableSpec, row: Row) -> bool:
    """Whether every value is of its column's type."""
    kinds: dict[str, type | tuple[type, ...]] = {"text": str, "bytes": bytes, "float": float}
    return all(
        column.nullable if value is None else isinstance(value, kinds.get(column.type, int))
        for column, value in zip(table.columns, row, strict=True)
    )


def _in_known_run(row: Row, position: int, runs: dict[int, Any]) -> Row:
    """Return a row, whose id comes first, without a run that was lost."""
    if row[1:][position] in runs:
        return row
    return (*row[: position + 1], None, *row[position + 2 :])
