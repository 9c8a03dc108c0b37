"""The copy: compare slice by slice, then row by row, and send what differs.

There is no watermark that could be wrong: new calls, runs that went on, re-priced calls, calls
that found their run late and a copy that was interrupted all show as slices whose sums differ. So
running it again is always safe, and a run that finds nothing sends nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select

from crewmeter_cost.clickhouse.mirror_schema import statements
from crewmeter_cost.clickhouse.mirrored_tables import mirrored_tables
from crewmeter_cost.ledger.metadata import pruned_before
from crewmeter_cost.ledger.schema.views import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from clickhouse_connect.driver.client import Client

    from crewmeter_cost.clickhouse.mirrored_tables import MirrorTable
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["CopyResult", "copy"]

BATCH = 50_000
"""Rows compared and sent at once: some fifty megabytes."""

_UNSET = {"Int64": 0, "Float64": 0.0, "String": "", "LowCardinality(String)": ""}
"""What the columns of a removed row hold that may not be NULL."""


class _Sums(NamedTuple):
    """A slice: how many rows, and the sum of their fingerprints."""

    rows: int
    fingerprints: int


_NOTHING = _Sums(0, 0)


@dataclass(slots=True)
class CopyResult:
    """Rows sent and removed by one copy, per table.

    Removed are rows that the ledger no longer has.
    """

    rows: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Return the rows sent or removed, 0 where nothing differed."""
        return sum(self.rows.values()) + sum(self.removed.values())


def copy(
    ledger: Ledger,
    client: Client,
    *,
    since: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> CopyResult:
    """Make the mirror equal to the ledger, wholly or from `since` (unix seconds) on.

    `progress` is called with the rows compared.

    A whole copy also makes the tables and views; one with `since` needs them made.
    What the ledger pruned stays in the mirror. Writers of the ledger do not wait: what they add
    meanwhile is for the next copy.
    """
    tables = mirrored_tables(ledger.engine.dialect.name)
    if since is None:
        for statement in statements(tables):
            client.command(statement)
    sent = CopyResult()
    with ledger.read_session() as session:
        floor = pruned_before(session) // SECOND_NS
    for table in tables:
        one = _Copy(
            ledger,
            client,
            table,
            floor if table.pruned else None,
        )
        one.run(since, progress)
        sent.rows[table.name.removesuffix("_copy")] = one.sent
        sent.removed[table.name.removesuffix("_copy")] = one.removed
    return sent


class _Copy:
    """One table's copy.

    Before `floor` (unix seconds) the ledger may lack rows that the mirror keeps.
    """

    def __init__(
        self, ledger: Ledger, client: Client, table: MirrorTable, floor: int | None
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._table = table
        self._floor = floor if floor is not None else -(2**62)
        self._names = [*table.columns, "fingerprint", "version", "removed"]
        self._key = [list(table.columns).index(name) for name in table.key]
        query = f"SELECT max(version) FROM {table.name}"  # noqa: S608 - a constant name
        newest = client.query(query).result_rows[0][0]
        self._version = max(
            time.time_ns(),
            int(newest) + 1,
        )
        self.sent = self.removed = 0

    def run(self, since: int | None, progress: Callable[[int], None]) -> None:
        """Compare from `since` on and send."""
        first = None if since is None else since // self._table.slice_seconds
        for start, end in self._differing(self._ours(first), self._theirs(first)):
            progress(
                self._send(
                    start * self._table.slice_seconds,
                    end * self._table.slice_seconds,
                )
            )

    def _ours(self, first: int | None) -> Mapping[int, _Sums]:
        table = self._table
        part = table.time // table.slice_seconds
        query = (
            select(part, func.count(), func.sum(table.fingerprint))
            .select_from(table.source)
            .group_by(part)
        )
        if first is not None:
            query = query.where(table.time >= first * table.slice_seconds)
        with self._ledger.reading() as connection:
            return {
                int(number): _Sums(rows, int(total))
                for number, rows, total in connection.execute(query)
            }

    def _theirs(self, first: int | None) -> Mapping[int, _Sums]:
        table = self._table
        part = f"intDiv(time, {table.slice_seconds}) AS part"
        query = f"SELECT {part}, count(), sum(fingerprint) FROM {table.name} FINAL "  # noqa: S608
        found = self._client.query(
            query + "WHERE time >= {start:Int64} GROUP BY part",
            parameters={"start": -(2**62) if first is None else first * table.slice_seconds},
        )
        return {number: _Sums(rows, total) for number, rows, total in found.result_rows}

    def _differing(
        self, ours: Mapping[int, _Sums], theirs: Mapping[int, _Sums]
    ) -> Iterator[tuple[int, int]]:
        """Return ranges of slices [start, end) with every difference.

        Neighbours are joined up to `BATCH` rows.
        """
        start: int | None = None
        end = 0
        size = 0
        for number in sorted(ours.keys() | theirs.keys()):
            mine = ours.get(number, _NOTHING)
            other = theirs.get(number, _NOTHING)
            rows = max(mine.rows, other.rows)
            size += rows
            # Before the floor the ledger was pruned, and the mirror has what it lacks.
            is_pruned = (number + 1) * self._table.slice_seconds <= self._floor and not mine.rows
            if mine == other or is_pruned:
                continue
            if start is not None and size > BATCH:
                yield start, end
                start = None
            if start is None:
                start = number
                size = rows
            end = number + 1
        if start is not None:
            yield start, end

    def _send(self, start: int, end: int) -> int:
        """Send what differs in [start, end), and return how many rows were compared.

        Times are unix seconds.
        """
        table = self._table
        theirs = self._rows_of_mirror(start, end)
        rows: list[tuple[Any, ...]] = []
        compared = 0
        query = table.rows.where(
            table.time >= start,
            table.time < end,
        )
        with self._ledger.reading() as connection:
            for row in connection.execute(query):
                compared += 1
                key = tuple(row[at] for at in self._key)
                if theirs.pop(key, None) != row[-1]:
                    rows.append((*row, self._version, 0))
        time_at = table.key.index("time")
        gone = [self._gone(key) for key in theirs if key[time_at] >= self._floor]
        if rows or gone:
            self._client.insert(
                table.name,
                [*rows, *gone],
                column_names=self._names,
            )
        self.sent += len(rows)
        self.removed += len(gone)
        return compared

    def _rows_of_mirror(self, start: int, end: int) -> dict[tuple[Any, ...], int]:
        """Return key → fingerprint of the mirror's rows in [start, end)."""
        name = self._table.name
        keys = ", ".join(self._table.key)
        found = self._client.query(
            f"SELECT {keys}, fingerprint FROM {name} FINAL "  # noqa: S608 - constants
            "WHERE time >= {start:Int64} AND time < {end:Int64}",
            parameters={"start": start, "end": end},
        )
        return {tuple(row[:-1]): row[-1] for row in found.result_rows}

    def _gone(self, key: tuple[Any, ...]) -> tuple[Any, ...]:
        known = dict(
            zip(
                self._table.key,
                key,
                strict=True,
            )
        )
        values = (
            known.get(
                name,
                _UNSET.get(kind),
            )
            for name, kind in self._table.columns.items()
        )
        return (*values, 0, self._version, 1)
