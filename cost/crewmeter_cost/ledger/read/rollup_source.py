"""A report's numbers from the roll-ups.

Sums per hour, and latency counts per hour and day.
"""

from __future__ import annotations

import json
from operator import sub
from typing import TYPE_CHECKING, Literal

from crewmeter_cost.ledger.read.query import TIMES, rollup_columns, time_of, within
from crewmeter_cost.ledger.read.rollup_windows import whole_days
from crewmeter_cost.ledger.schema.report_columns import SUM_NAMES
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS, LATENCY
from crewmeter_cost.ledger.sql import Sql, listed, one_of, sql, where

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from crewmeter_cost.ledger.location import Backend
    from crewmeter_cost.ledger.read.aggregate import Key
    from crewmeter_cost.ledger.read.query import ReportQuery
    from crewmeter_cost.ledger.read.report_names import ReportNames
    from crewmeter_cost.ledger.read.rollup_windows import Range
    from crewmeter_cost.ledger.session import Session

__all__ = ["RollupSource", "collected", "grouped", "numbers"]

ROLLUP_ROWS = 100_000
"""Up to so many roll-up rows are added up by the database. More are read one by one."""
_PACKED = 1024
"""More than there are latency buckets."""
_COLLECT = {"sqlite": "group_concat", "postgresql": "string_agg"}


def collected(subject: str, backend: Backend) -> str:
    """Return a group's numbers joined by commas: one row instead of one a call."""
    return f"{_COLLECT[backend]}(CAST({subject} AS TEXT), ',')"


def numbers(text: str | None) -> list[int]:
    """Return what `collected` joined, nothing where no row was read."""
    found: list[int] = json.loads(f"[{text or ''}]")
    return found


def grouped(keys: Sequence[str]) -> str:
    """Return the clause that makes one row a key.

    Without keys there is one row, of NULLs where nothing was read.
    """
    # HAVING alone would drop that row, but SQLite knows it from 3.39 on only.
    if keys:
        return f"GROUP BY {', '.join(keys)}"
    return ""


class RollupSource:
    """One report's view of the roll-ups, over one connection."""

    def __init__(self, session: Session, query: ReportQuery, names: ReportNames) -> None:
        self._session = session
        self._query = query
        self._names = names

    def sums(
        self, dimension: str, first: int | None, last: int | None
    ) -> Iterator[tuple[Key, list[int]]]:
        """Yield (key, sums) over the whole hours [first, last) of unix seconds."""
        columns = rollup_columns(dimension)
        keys = [columns[name] for name in self._query.by]
        return self._summed(dimension, keys, self._names.conditions(columns), first, last)

    def sums_by_tag(
        self, key: str, first: int | None, last: int | None
    ) -> Iterator[tuple[Key, list[int]]]:
        """Yield sums by the values of one tag.

        What has no such tag is the total less the rest.
        """
        values = self._tag_labels(key)
        by = self._query.by
        at = next(index for index, name in enumerate(by) if name not in TIMES)
        columns = rollup_columns("tag")
        times = [columns[name] for name in by if name in TIMES]
        untagged = dict(self._summed("total", times, [], first, last))
        keys = [columns.get(name, "rollup_hour.key") for name in by]
        labels = sql("SELECT id FROM label", _is_tag(key))
        of_key = [one_of("rollup_hour.key", labels)]
        for raw, sums in self._summed("tag", keys, of_key, first, last):
            before = raw[:at]
            after = raw[at + 1 :]
            value = values[int(raw[at])]
            yield (*before, value, *after), sums
            time = before + after
            rest = map(sub, untagged[time], sums)
            untagged[time] = list(rest)
        # A row without that tag is in the total but in no value of the tag.
        for time, sums in untagged.items():
            before = time[:at]
            after = time[at:]
            if any(sums):
                yield (*before, 0, *after), sums

    def _tag_labels(self, key: str) -> dict[int, str]:
        """Return the values of one tag by the id of their label."""
        query = sql("SELECT id, value FROM label", _is_tag(key))
        start = len(key) + 1
        return {number: text[start:] for number, text in self._session.rows(query)}

    def _summed(
        self,
        dimension: str,
        keys: Sequence[str],
        conditions: Sequence[Sql],
        first: int | None,
        last: int | None,
    ) -> Iterator[tuple[Key, list[int]]]:
        """Yield sums of one dimension by the given columns."""
        code = DIMENSIONS[dimension].code
        of_dimension = Sql("rollup_hour.dimension = ?", (code,))
        hours = within("rollup_hour.hour", first, last)
        rows = sql("FROM rollup_hour", where([of_dimension, *conditions, *hours]))
        sums = [f"rollup_hour.{name}" for name in SUM_NAMES]
        if self._are_many(keys, rows):
            query = sql("SELECT", listed([*keys, *sums]), rows)
        else:
            totals = [f"sum({each})" for each in sums]
            query = sql("SELECT", listed([*keys, *totals]), rows, grouped(keys))
        width = len(keys)
        for row in self._session.stream(query):
            if row[width] is None:
                continue  # nothing was read
            yield row[:width], [int(value) for value in row[width:]]

    def _are_many(self, keys: Sequence[str], rows: Sql) -> bool:
        """Whether a GROUP BY would hold too many rows at once."""
        if not keys:
            return False
        count = self._session.value(sql("SELECT count(*)", rows))
        return int(count) > ROLLUP_ROWS

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
        names = [f"key{index}" for index in range(len(by))]
        if "hour" in by:
            (each,) = self._parts("hour", dimension, [(first, last, 1)], by, only)
        else:
            days, hours = whole_days(first, last)
            parts = self._parts("day", dimension, days, by, only)
            parts += self._parts("hour", dimension, hours, by, only)
            each = _added(_all_of(parts), names)
        backend = self._session.backend
        lists = [collected("bucket", backend), collected('"count"', backend)]
        query = sql(
            "SELECT", listed([*names, *lists]), "FROM (", each, ") AS each_bucket", grouped(names)
        )
        for *key, buckets, counts in self._session.stream(query):
            if buckets is None:
                continue  # nothing was read
            counted = zip(numbers(buckets), numbers(counts), strict=True)
            yield tuple(key), dict(counted)

    def _parts(
        self,
        step: Literal["hour", "day"],
        dimension: str,
        ranges: Iterable[Range],
        by: Sequence[str],
        only: Collection[Key] | None,
    ) -> list[Sql]:
        """Return (key…, bucket, count) of one table in each range, times the range's sign."""
        conditions = [
            Sql("dimension = ?", (LATENCY[dimension],)),
            *self._names.conditions({dimension: "key"}),
        ]
        if dimension == "total":
            # So that the rows come in the order of the groups.
            conditions.append(Sql("key = 0"))
        if only is not None and dimension in by:
            at = by.index(dimension)
            conditions.append(one_of("key", sorted({int(key[at]) for key in only})))
        keys = [f"{_latency_key(step, name)} AS key{index}" for index, name in enumerate(by)]
        counts = {1: '"count"', -1: '-"count" AS "count"'}
        parts = []
        for low, high, sign in ranges:
            columns = listed([*keys, "bucket", counts[sign]])
            in_range = where([*conditions, *within(step, low, high)])
            parts.append(sql("SELECT", columns, f"FROM latency_{step}", in_range))
        return parts


def _is_tag(key: str) -> Sql:
    """Return the WHERE clause of the labels that are values of one tag."""
    start = f"{key}="
    # Not LIKE: on SQLite it would take Customer=acme for a value of the tag customer.
    begins = Sql("substr(value, 1, ?) = ?", (len(start), start))
    return where([Sql("kind = 'tag'"), begins])


def _latency_key(step: str, name: str) -> str:
    if name == "hour":
        return step
    if name in TIMES:
        return time_of(step, name)
    return "key"


def _all_of(parts: Sequence[Sql]) -> Sql:
    """Return the rows of every query."""
    first, *others = parts
    return sql(first, *(sql("UNION ALL", part) for part in others))


def _added(every: Sql, names: Sequence[str]) -> Sql:
    """Return (key…, bucket, count) added up by key and bucket.

    The last key and the bucket are one number meanwhile: it sorts a third faster.
    """
    if not names:
        total = 'SELECT bucket, sum("count") AS "count" FROM ('
        return sql(total, every, ") AS every_part GROUP BY bucket")
    *before, last = names
    # One number sorts faster than two columns; it is 64 bits wide for PostgreSQL.
    packed = f"{last} * CAST({_PACKED} AS BIGINT) + bucket AS packed"
    groups = listed([*before, "packed"])
    columns = listed([*before, packed, 'sum("count") AS "count"'])
    each = sql("SELECT", columns, "FROM (", every, ") AS every_part GROUP BY", groups)
    key = f"packed / {_PACKED} AS {last}"
    bucket = f"packed % {_PACKED} AS bucket"
    columns = listed([*before, key, bucket, '"count"'])
    return sql("SELECT", columns, "FROM (", each, ") AS packed_bucket")
