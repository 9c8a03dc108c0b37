"""A report's numbers from the roll-ups.

Sums per hour, and latency counts per hour and day.
"""

from __future__ import annotations

import json
from operator import sub
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Text, cast, func, select, union_all

from crewmeter_cost.ledger.read.query import TIMES, number, rollup_columns, time_of
from crewmeter_cost.ledger.read.rollup_windows import whole_days
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.report_columns import SUM_NAMES
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS, LATENCY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Select, Subquery, Table
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.read.aggregate import Key
    from crewmeter_cost.ledger.read.query import ReportQuery
    from crewmeter_cost.ledger.read.report_names import ReportNames
    from crewmeter_cost.ledger.read.rollup_windows import Range

__all__ = ["STREAMED", "RollupSource", "grouped", "listed", "numbers", "within"]

ROLLUP_ROWS = 100_000
"""Up to so many roll-up rows are added up by the database. More are read one by one."""
STREAMED = {"yield_per": 1000}
"""Execution options: a GROUP BY of a million rows is not held in memory twice."""

_LABEL = core_tables.label
_ROLLUP = core_tables.rollup_hour
_LATENCY_HOUR = core_tables.latency_hour
_LATENCY_DAY = core_tables.latency_day
_PACKED = cast(number(1024), BigInteger)
"""More than there are latency buckets, and 64 bits wide for databases that care."""


def listed(column: ColumnElement[int]) -> ColumnElement[str]:
    """Return a group's numbers joined by commas: one row instead of one a call."""
    return func.aggregate_strings(cast(column, Text), ",")


def numbers(text: str) -> list[int]:
    """Return what `listed` joined."""
    found: list[int] = json.loads(f"[{text}]")
    return found


def grouped(query: Select[Any], keys: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """Return a query with one row a key.

    Without keys: one row, or none for no rows at all.
    """
    if keys:
        return query.group_by(*keys)
    return query.having(func.count() > 0)


def within(
    column: ColumnElement[int], first: int | None, last: int | None
) -> list[ColumnElement[bool]]:
    """Return the conditions for [first, last)."""
    conditions = []
    if first is not None:
        conditions.append(column >= first)
    if last is not None:
        conditions.append(column < last)
    return conditions


class RollupSource:
    """One report's view of the roll-ups, over one connection."""

    def __init__(self, connection: Connection, query: ReportQuery, names: ReportNames) -> None:
        self._connection = connection
        self._query = query
        self._names = names

    def _rows(self, query: Select[Any]) -> Iterator[Sequence[Any]]:
        return iter(self._connection.execute(query, execution_options=STREAMED))

    def sums(
        self, dimension: str, first: int | None, last: int | None
    ) -> Iterator[tuple[Key, list[int]]]:
        """Yield (key, sums) over the whole hours [first, last) of unix seconds."""
        columns = rollup_columns(dimension, _ROLLUP)
        keys = [columns[name] for name in self._query.by]
        return self._summed(
            dimension,
            keys,
            self._names.conditions(columns),
            first,
            last,
        )

    def sums_by_tag(
        self, key: str, first: int | None, last: int | None
    ) -> Iterator[tuple[Key, list[int]]]:
        """Yield sums by the values of one tag.

        What has no such tag is the total less the rest.
        """
        values = self._tag_labels(key)
        by = self._query.by
        at = next(index for index, name in enumerate(by) if name not in TIMES)
        columns = rollup_columns("tag", _ROLLUP)
        times = [columns[name] for name in by if name in TIMES]
        untagged = dict(
            self._summed(
                "total",
                times,
                [],
                first,
                last,
            )
        )
        keys = [
            columns.get(
                name,
                _ROLLUP.c.key,
            )
            for name in by
        ]
        of_key: list[ColumnElement[bool]] = [_ROLLUP.c.key.in_(_tag_ids(key))]
        for raw, sums in self._summed("tag", keys, of_key, first, last):
            time = raw[:at] + raw[at + 1 :]
            yield (*raw[:at], values[int(raw[at])], *raw[at + 1 :]), sums
            untagged[time] = list(
                map(
                    sub,
                    untagged[time],
                    sums,
                )
            )
        for time, sums in untagged.items():
            if any(sums):
                yield (*time[:at], 0, *time[at:]), sums

    def _tag_labels(self, key: str) -> dict[int, str]:
        """Return the values of one tag by the id of their label."""
        query = select(
            _LABEL.c.id,
            _LABEL.c.value,
        ).where(_LABEL.c.id.in_(_tag_ids(key)))
        return {number: text[len(key) + 1 :] for number, text in self._rows(query)}

    def _summed(
        self,
        dimension: str,
        keys: Sequence[ColumnElement[Any]],
        where: list[ColumnElement[bool]],
        first: int | None,
        last: int | None,
    ) -> Iterator[tuple[Key, list[int]]]:
        """Yield sums of one dimension by the given columns."""
        c = _ROLLUP.c
        code = DIMENSIONS[dimension].code
        conditions = [
            c.dimension == code,
            *where,
            *within(c.hour, first, last),
        ]
        sums = [c[name] for name in SUM_NAMES]
        if self._are_many(keys, conditions):
            query = select(
                *keys,
                *sums,
            ).where(*conditions)
        else:
            totals = [func.sum(column) for column in sums]
            query = grouped(
                select(*keys, *totals).where(*conditions),
                keys,
            )
        width = len(keys)
        for row in self._rows(query):
            yield tuple(row[:width]), [int(value) for value in row[width:]]

    def _are_many(self, keys: Sequence[Any], conditions: list[ColumnElement[bool]]) -> bool:
        """Whether a GROUP BY would hold too many rows at once."""
        if not keys:
            return False
        query = select(func.count()).select_from(_ROLLUP).where(*conditions)
        return (self._connection.scalar(query) or 0) > ROLLUP_ROWS

    def latencies(
        self,
        dimension: str,
        first: int | None,
        last: int | None,
        *,
        by: Sequence[str],
        only: Collection[Key] | None = None,
    ) -> Iterator[tuple[Key, dict[int, int]]]:
        """Yield (key, calls by latency bucket) over the whole hours [first, last).

        Whole days come from the daily counts. `only` limits it to these keys.
        """
        if "hour" in by:
            whole: list[Range] = [(first, last, 1)]
            each = self._parts(
                _LATENCY_HOUR,
                dimension,
                whole,
                by,
                only,
            )[0].subquery()
        else:
            days, hours = whole_days(first, last)
            parts = self._parts(
                _LATENCY_DAY,
                dimension,
                days,
                by,
                only,
            )
            parts += self._parts(
                _LATENCY_HOUR,
                dimension,
                hours,
                by,
                only,
            )
            each = _added(
                union_all(*parts).subquery(),
                len(by),
            )
        keys = [each.c[f"key{index}"] for index in range(len(by))]
        columns = [
            *keys,
            listed(each.c.bucket),
            listed(each.c["count"]),
        ]
        for *key, buckets, counts in self._rows(grouped(select(*columns), keys)):
            yield (
                tuple(key),
                dict(
                    zip(
                        numbers(buckets),
                        numbers(counts),
                        strict=True,
                    )
                ),
            )

    def _parts(
        self,
        table: Table,
        dimension: str,
        ranges: Iterable[Range],
        by: Sequence[str],
        only: Collection[Key] | None,
    ) -> list[Select[Any]]:
        """Return (key…, bucket, count) of one table in each range, times the range's sign."""
        c = table.c
        start = c.hour if table is _LATENCY_HOUR else c.day
        where = [
            c.dimension == LATENCY[dimension],
            *self._names.conditions({dimension: c.key}),
        ]
        if dimension == "total":
            where.append(c.key == 0)  # so that the rows come in the order of the groups
        if only is not None and dimension in by:
            at = by.index(dimension)
            where.append(c.key.in_(sorted({int(key[at]) for key in only})))
        keys: list[ColumnElement[Any]] = [
            _latency_key(start, c.key, name).label(f"key{index}") for index, name in enumerate(by)
        ]
        counts = {
            1: c["count"],
            -1: (-c["count"]).label("count"),
        }
        return [
            select(*keys, c.bucket, counts[sign]).where(*where, *within(start, low, high))
            for low, high, sign in ranges
        ]


def _tag_ids(key: str) -> Select[Any]:
    is_value = _LABEL.c.value.startswith(f"{key}=", autoescape=True)
    return select(_LABEL.c.id).where(
        _LABEL.c.kind == "tag",
        is_value,
    )


def _latency_key(
    start: ColumnElement[int], key: ColumnElement[int], name: str
) -> ColumnElement[int]:
    if name == "hour":
        return start
    if name in TIMES:
        return time_of(start, name)
    return key


def _added(every: Subquery, keys: int) -> Subquery:
    """Return (key…, bucket, count) added up by key and bucket.

    The last key and the bucket are one number meanwhile: it sorts a third faster.
    """
    names = [every.c[f"key{index}"] for index in range(keys)]
    count = func.sum(every.c["count"]).label("count")
    if not names:
        return (
            select(
                every.c.bucket,
                count,
            )
            .group_by(every.c.bucket)
            .subquery()
        )
    packed = (names[-1] * _PACKED + every.c.bucket).label("packed")
    each = (
        select(
            *names[:-1],
            packed,
            count,
        )
        .group_by(*names[:-1], packed)
        .subquery()
    )
    last = (each.c.packed // _PACKED).label(names[-1].name)
    bucket = (each.c.packed % _PACKED).label("bucket")
    before = [each.c[name.name] for name in names[:-1]]
    return select(
        *before,
        last,
        bucket,
        each.c["count"],
    ).subquery()
