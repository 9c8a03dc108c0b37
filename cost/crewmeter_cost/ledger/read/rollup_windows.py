"""Where a report's numbers come from: hourly roll-ups for whole hours, the calls themselves for the rest.

Every source yields (raw key, sums): the key in the order of the groups, as label ids, tag values, run numbers or unix
seconds, 0 where there is no name; the sums in the order of the ledger's columns. What is read at a time is bounded: a
GROUP BY keeps a copy of every row it reads.
"""

from __future__ import annotations

import json
from operator import sub
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Text, and_, case, cast, func, literal, select, union_all

from crewmeter_cost.ledger.read.filter_sql import call_conditions, step_conditions
from crewmeter_cost.ledger.read.query import (
    TIMES,
    call_column,
    number,
    rollup_columns,
    rounded,
    time_of,
    tool_column,
)
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.rollups import DAY, DIMENSIONS, HOUR, LATENCY
from crewmeter_cost.ledger.write.rows import CallState
from crewmeter_cost.pricing.charge import PICO

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Select, Subquery, Table
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.read.aggregate import Key
    from crewmeter_cost.ledger.read.query import Question

__all__ = ["Sources"]

Range = tuple[int | None, int | None, int]
"""From, to (exclusive), and 1 to add or -1 to take away."""

_CALL, _STEP, _RUN, _LABEL, _TAGS = (
    core_tables.call,
    core_tables.step,
    core_tables.run,
    core_tables.label,
    core_tables.tag_set,
)
_ROLLUP, _LATENCY_HOUR, _LATENCY_DAY = (
    core_tables.rollup_hour,
    core_tables.latency_hour,
    core_tables.latency_day,
)
_NS = 10**9
_AMOUNTS = (
    "calls",
    "failed_calls",
    "unpriced_calls",
    "priced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_whole_usd",
    "cost_pusd",
    "duration_ns",
)
_HOUR_NS = HOUR * _NS

ROWS = 50_000
"""Calls added up by one statement."""
ROLLUP_ROWS = 100_000
"""Up to so many roll-up rows are added up by the database; more are read one by one."""
_PACKED = cast(number(1024), BigInteger)
"""More than there are latency buckets, and 64 bits wide for databases that care."""
_STREAMED = {"yield_per": 1000}


class Sources:
    """Reads one question's numbers over one connection. Times are unix nanoseconds, half-open; None is without end."""

    def __init__(self, connection: Connection, question: Question) -> None:
        self._connection, self._question = connection, question
        self._tags: dict[str, dict[int, str]] = {}

    def _rows(self, query: Select[Any]) -> Iterator[Sequence[Any]]:
        return iter(self._connection.execute(query, execution_options=_STREAMED))

    # --- roll-ups ------------------------------------------------------------------------------------------------

    def rollups(
        self, dimension: str, first: int | None, last: int | None
    ) -> Iterator[tuple[Key, list[int]]]:
        """Sums over the whole hours [first, last) (unix seconds)."""
        columns = rollup_columns(dimension, _ROLLUP)
        return self._summed(
            dimension,
            [columns[name] for name in self._question.by],
            self._named(columns),
            first,
            last,
        )

    def tagged(
        self, key: str, first: int | None, last: int | None
    ) -> Iterator[tuple[Key, list[int]]]:
        """Sums by the values of one tag; what carries no such tag is the total less the rest."""
        query = select(_LABEL.c.id, _LABEL.c.value).where(
            _LABEL.c.kind == "tag", _LABEL.c.value.startswith(f"{key}=", autoescape=True)
        )
        values = {row[0]: row[1][len(key) + 1 :] for row in self._rows(query)}
        by = self._question.by
        spot = next(index for index, name in enumerate(by) if name not in TIMES)
        columns = rollup_columns("tag", _ROLLUP)
        times = [columns[name] for name in by if name in TIMES]
        untagged = dict(self._summed("total", times, [], first, last))
        keys = [columns.get(name, _ROLLUP.c.key) for name in by]
        of_key = select(_LABEL.c.id).where(
            _LABEL.c.kind == "tag", _LABEL.c.value.startswith(f"{key}=", autoescape=True)
        )
        for raw, sums in self._summed("tag", keys, [_ROLLUP.c.key.in_(of_key)], first, last):
            time = raw[:spot] + raw[spot + 1 :]
            yield (*raw[:spot], values[int(raw[spot])], *raw[spot + 1 :]), sums
            untagged[time] = list(map(sub, untagged[time], sums))
        yield from (
            ((*time[:spot], 0, *time[spot:]), sums) for time, sums in untagged.items() if any(sums)
        )

    def _summed(
        self,
        dimension: str,
        keys: Sequence[ColumnElement[Any]],
        where: list[ColumnElement[bool]],
        first: int | None,
        last: int | None,
    ) -> Iterator[tuple[Key, list[int]]]:
        """Sums of one dimension by the given columns."""
        c = _ROLLUP.c
        conditions = [
            c.dimension == DIMENSIONS[dimension].code,
            *where,
            *_hours(c.hour, first, last),
        ]
        held = (
            self._connection.scalar(select(func.count()).select_from(_ROLLUP).where(*conditions))
            if keys
            else 0
        )
        if (held or 0) > ROLLUP_ROWS:
            query = select(*keys, *(c[name] for name in _AMOUNTS)).where(*conditions)
        else:
            query = _grouped(
                select(*keys, *(func.sum(c[name]) for name in _AMOUNTS)).where(*conditions), keys
            )
        width = len(keys)
        for row in self._rows(query):
            yield tuple(row[:width]), [int(value) for value in row[width:]]

    def counts(
        self,
        dimension: str,
        first: int | None,
        last: int | None,
        *,
        by: Sequence[str],
        only: Collection[Key] | None = None,
    ) -> Iterator[tuple[Key, dict[int, int]]]:
        """(key, calls by latency bucket) over the whole hours [first, last); `only` these keys, where given.

        Whole days come from the daily counts, with the nearer of what lies in the day before and after an edge added or taken.
        """
        if "hour" in by:
            each = self._parts(_LATENCY_HOUR, dimension, [(first, last, 1)], by, only)[0].subquery()
        else:
            days, hours = _days(first, last)
            parts = self._parts(_LATENCY_DAY, dimension, days, by, only) + self._parts(
                _LATENCY_HOUR, dimension, hours, by, only
            )
            each = _added(union_all(*parts).subquery(), len(by))
        names = [each.c[f"key{index}"] for index in range(len(by))]
        query = _grouped(
            select(*names, *(_listed(each.c[name]) for name in ("bucket", "count"))), names
        )
        for *key, buckets, counts in self._rows(query):
            yield tuple(key), dict(zip(_numbers(buckets), _numbers(counts), strict=True))

    def _parts(
        self,
        table: Table,
        dimension: str,
        ranges: Iterable[Range],
        by: Sequence[str],
        only: Collection[Key] | None,
    ) -> list[Select[Any]]:
        """(key…, bucket, count) of one table in each of the ranges, times the sign of the range."""
        c = table.c
        start = c.hour if table is _LATENCY_HOUR else c.day
        keys = [
            start if name == "hour" else time_of(start, name) if name in TIMES else c.key
            for name in by
        ]
        where = [c.dimension == LATENCY[dimension], *self._named({dimension: c.key})]
        if dimension == "total":
            where.append(c.key == 0)  # so that the rows come in the order of the groups
        if only is not None and dimension in by:
            where.append(c.key.in_(sorted({int(key[by.index(dimension)]) for key in only})))
        names = [column.label(f"key{index}") for index, column in enumerate(keys)]
        counts = {1: c["count"], -1: (-c["count"]).label("count")}
        return [
            select(*names, c.bucket, counts[sign]).where(*where, *_hours(start, low, high))
            for low, high, sign in ranges
        ]

    # --- detail --------------------------------------------------------------------------------------------------

    def calls(self, *ranges: tuple[int, int]) -> list[int]:
        """How many calls started in the seconds of each range, both ends included, so at most too many: read off the index on time."""
        seconds = _seconds(_CALL.c)
        every = select(func.count()).select_from(_CALL)
        counts = [
            every.where(seconds >= since // _NS, seconds <= until // _NS).scalar_subquery()
            for since, until in ranges
        ]
        return list(self._connection.execute(select(*counts)).one())

    def detail(
        self,
        since: int | None,
        until: int | None,
        *,
        sign: int = 1,
        timed: bool = False,
        few: bool = False,
    ) -> Iterator[tuple[Key, list[int], list[int]]]:
        """(key, sums times `sign`, durations in ns if `timed`) of the calls, or tool calls, that started in [since, until).

        A key may come several times. `few` is known not to be many.
        """
        durations = [_listed(_CALL.c.duration_ns)] if timed else []
        width = len(self._question.by)
        for start, end in [(since, until)] if few else self._slices(since, until):
            queries = [self._calls([*_CALL_AMOUNTS, *durations], start, end)]
            if self._question.of_tools:
                listed = [_listed(_STEP.c.duration_ns)] if timed else []
                queries = [
                    self._calls(_MODEL_AMOUNTS_IN_TOOLS, start, end),
                    self._tool_calls([*_TOOL_AMOUNTS, *listed], start, end),
                ]
            for query in queries:
                for row in self._rows(query):
                    values = row[width:]
                    sums = [sign * int(value or 0) for value in values[: len(_AMOUNTS)]]
                    yield (
                        self._key(row[:width]),
                        sums,
                        _numbers(values[-1]) if len(values) > len(_AMOUNTS) else [],
                    )

    def durations(self, since: int | None, until: int | None) -> Iterator[tuple[Key, list[int]]]:
        """(key, durations in ns) of the calls, or tool calls, that started in [since, until). A key may come several times."""
        for start, end in self._slices(since, until):
            if self._question.of_tools:
                query = self._tool_calls([_listed(_STEP.c.duration_ns)], start, end)
            else:
                query = self._calls([_listed(_CALL.c.duration_ns)], start, end)
            for *values, listed in self._rows(query):
                yield self._key(values), _numbers(listed)

    def _slices(
        self, since: int | None, until: int | None
    ) -> Iterator[tuple[int | None, int | None]]:
        """[since, until) in ranges of about `ROWS` calls or tool calls."""
        c = _ROLLUP.c
        codes = [DIMENSIONS["total"].code, DIMENSIONS["tool"].code]
        hours = _hours(
            c.hour,
            None if since is None else since // _HOUR_NS * HOUR,
            None if until is None else -(-until // _NS),
        )
        hourly = (
            select(c.hour, func.sum(c.calls))
            .where(c.dimension.in_(codes), *hours)
            .group_by(c.hour)
            .order_by(c.hour)
        )
        start, held = since, 0
        for hour, calls in self._connection.execute(hourly).all():
            parts = max(1, -(-int(calls) // ROWS))
            for part in range(parts):
                cut = hour * _NS + _HOUR_NS * part // parts
                if (
                    held + calls // parts > ROWS
                    and (start is None or start < cut)
                    and (until is None or cut < until)
                ):
                    yield start, cut
                    start, held = cut, 0
                held += int(calls) // parts
        yield start, until

    def _calls(
        self, amounts: Sequence[ColumnElement[Any]], since: int | None, until: int | None
    ) -> Select[Any]:
        keys = [call_column(name) for name in self._question.by]
        where = [
            *self._named({name: call_column(name) for name, _ in self._question.where}),
            *_between(_CALL.c, since, until),
            *call_conditions(self._connection, self._question.beyond),
        ]
        if self._question.of_tools:
            where.append(_CALL.c.tool.is_not(None))
        return _grouped(select(*keys, *amounts).where(*where), keys)

    def _tool_calls(
        self, amounts: Sequence[ColumnElement[Any]], since: int | None, until: int | None
    ) -> Select[Any]:
        keys = [tool_column(name) for name in self._question.by]
        kind = (
            select(_LABEL.c.id)
            .where(_LABEL.c.kind == "kind", _LABEL.c.value == "tool")
            .scalar_subquery()
        )
        named = self._named({name: tool_column(name) for name, _ in self._question.where})
        joined = _STEP.outerjoin(_RUN, _RUN.c.id == _STEP.c.run)
        query = (
            select(*keys, *amounts)
            .select_from(joined)
            .where(_STEP.c.kind == kind, *named, *_between(_STEP.c, since, until))
            .where(*step_conditions(self._connection, self._question.beyond))
        )
        return _grouped(query, keys)

    # --- names ---------------------------------------------------------------------------------------------------

    def _named(self, columns: dict[str, ColumnElement[Any]]) -> list[ColumnElement[bool]]:
        """The question's filters as conditions on these columns."""
        conditions: list[ColumnElement[bool]] = []
        for name, value in self._question.where:
            if name == "run":
                conditions.append(
                    columns[name].in_(select(_RUN.c.id).where(_RUN.c.run_id == value))
                )
            elif name.startswith("tag:"):
                conditions.append(
                    columns[name].in_(
                        [
                            number
                            for number, text in self._values_of(name[4:]).items()
                            if text == value
                        ]
                    )
                )
            else:
                conditions.append(
                    columns[name].in_(
                        select(_LABEL.c.id).where(_LABEL.c.kind == name, _LABEL.c.value == value)
                    )
                )
        return conditions

    def _key(self, values: Iterable[Any]) -> Key:
        """A raw key with 0 for no name, and tag sets replaced by the value of the tag that is asked about."""
        return tuple(
            self._values_of(name[4:]).get(value, 0) if name.startswith("tag:") else value or 0
            for value, name in zip(values, self._question.by, strict=True)
        )

    def _values_of(self, key: str) -> dict[int, str]:
        """The value of one tag in every tag set that has it, by the set's number."""
        if key not in self._tags:
            parsed = (
                (row[0], json.loads(row[1]).get(key))
                for row in self._rows(select(_TAGS.c.id, _TAGS.c.tags))
            )
            self._tags[key] = {number: str(value) for number, value in parsed if value is not None}
        return self._tags[key]

    def names(self, group: str, keys: Iterable[int | str]) -> dict[int | str, str | None]:
        """What the raw keys of one group are called: labels and runs by id, tags as they are."""
        if group.startswith("tag:"):
            return {key: None if key == 0 else str(key) for key in keys}
        wanted = sorted({int(key) for key in keys})
        names: dict[int | str, str | None] = dict.fromkeys(wanted)
        column, text = (
            (_RUN.c.id, _RUN.c.run_id) if group == "run" else (_LABEL.c.id, _LABEL.c.value)
        )
        for start in range(0, len(wanted), 5000):
            query = select(column, text).where(column.in_(wanted[start : start + 5000]))
            names.update((row[0], row[1]) for row in self._connection.execute(query))
        return names


def _call_amounts() -> list[ColumnElement[Any]]:
    """The sums of calls, in the order of `_AMOUNTS`."""
    c = _CALL.c
    failed = func.sum(case((c.state > 0, 1), else_=0))
    unpriced = func.sum(
        case((and_(c.cost_pusd.is_(None), c.state != CallState.REJECTED), 1), else_=0)
    )
    tokens = [
        c.input_tokens,
        c.cache_read_tokens,
        c.cache_write_5m_tokens + c.cache_write_1h_tokens,
        c.output_tokens,
        c.reasoning_tokens,
    ]
    money = [func.sum(c.cost_pusd // PICO), func.sum(c.cost_pusd % PICO)]
    sums = [func.sum(column) for column in tokens]
    return [
        func.count(),
        failed,
        unpriced,
        func.count(c.cost_pusd),
        *sums,
        *money,
        func.sum(c.duration_ns),
    ]


_CALL_AMOUNTS = _call_amounts()
_MODEL_AMOUNTS_IN_TOOLS = [
    literal(0) if index in (0, 1, 11) else amount for index, amount in enumerate(_CALL_AMOUNTS)
]
"""What model calls made inside a tool lend it: tokens and cost, but no calls, failures and time, which are the tool's own."""
_TOOL_AMOUNTS = [
    func.count(),
    func.sum(case((_STEP.c.state > 0, 1), else_=0)),
    *[literal(0)] * 9,
    func.sum(_STEP.c.duration_ns),
]


def _listed(column: ColumnElement[int]) -> ColumnElement[str]:
    """A group's numbers with commas between, read by `_numbers`: one row instead of one a call."""
    return func.aggregate_strings(cast(column, Text), ",")


def _numbers(listed: str) -> list[int]:
    numbers: list[int] = json.loads(f"[{listed}]")
    return numbers


def _grouped(query: Select[Any], keys: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """One row a key; without keys one row, or none where there is nothing to add up."""
    return query.group_by(*keys) if keys else query.having(func.count() > 0)


def _added(every: Subquery, keys: int) -> Subquery:
    """(key…, bucket, count) added up by key and bucket. The last key and the bucket are one number meanwhile: it sorts a third faster."""
    names = [every.c[f"key{index}"] for index in range(keys)]
    count = func.sum(every.c["count"]).label("count")
    if not names:
        return select(every.c.bucket, count).group_by(every.c.bucket).subquery()
    packed = (names[-1] * _PACKED + every.c.bucket).label("packed")
    each = select(*names[:-1], packed, count).group_by(*names[:-1], packed).subquery()
    last, bucket = (
        (each.c.packed // _PACKED).label(names[-1].name),
        (each.c.packed % _PACKED).label("bucket"),
    )
    return select(
        *(each.c[name.name] for name in names[:-1]), last, bucket, each.c["count"]
    ).subquery()


def _hours(
    column: ColumnElement[int], first: int | None, last: int | None
) -> list[ColumnElement[bool]]:
    return [
        *([] if first is None else [column >= first]),
        *([] if last is None else [column < last]),
    ]


def _days(first: int | None, last: int | None) -> tuple[list[Range], list[Range]]:
    """The hours [first, last) as (whole days, hours), each (from, to, sign): at each end what lies nearer is added or taken."""
    low, high = (
        None if first is None else first // DAY * DAY,
        None if last is None else -(-last // DAY) * DAY,
    )
    if low is not None and high is not None and high - low <= DAY:
        return [], [(first, last, 1)]
    hours: list[Range] = []
    if first is not None and low is not None and first > low:
        if first - low < DAY // 2:
            hours.append((low, first, -1))
        else:
            low += DAY
            hours.append((first, low, 1))
    if last is not None and high is not None and last < high:
        if high - last < DAY // 2:
            hours.append((last, high, -1))
        else:
            high -= DAY
            hours.append((high, last, 1))
    return [(low, high, 1)] if low is None or high is None or low < high else [], hours


def _seconds(columns: Any) -> ColumnElement[int]:
    return rounded(columns.started_ns, _NS)  # a bound divisor would not match the index


def _between(columns: Any, since: int | None, until: int | None) -> list[ColumnElement[bool]]:
    """Started in [since, until) (ns), written so that the index on whole seconds serves."""
    conditions: list[ColumnElement[bool]] = []
    seconds = _seconds(columns)
    if since is not None:
        conditions += [seconds >= since // _NS, columns.started_ns >= since]
    if until is not None:
        conditions += [seconds <= until // _NS, columns.started_ns < until]
    return conditions
