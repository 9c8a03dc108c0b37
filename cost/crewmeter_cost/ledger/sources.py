"""Where a report's numbers come from: hourly roll-ups for whole hours, the calls themselves for the rest.

Every source yields (raw key, sums): the key in the order of the groups, as label ids, tag sets, run numbers or unix
seconds; the sums as unbounded integers in the order of `rollups.SUMS`.
"""

from __future__ import annotations

import json
from operator import sub
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, select

from crewmeter_cost.ledger import core
from crewmeter_cost.ledger.grouping import TIMES, call_column, rollup_columns, rounded, time_of, tool_column
from crewmeter_cost.ledger.rollups import DAY, DIMENSIONS, LATENCY
from crewmeter_cost.ledger.rows import CallState
from crewmeter_cost.pricing.charge import PICO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.grouping import Question

__all__ = ["Key", "Sources"]

Key = tuple[int | str | None, ...]
_CALL, _STEP, _RUN, _LABEL, _TAGS = core.call, core.step, core.run, core.label, core.tag_set
_ROLLUP, _LATENCY_HOUR, _LATENCY_DAY = core.rollup_hour, core.latency_hour, core.latency_day
_NS = 10**9
_SUMMED = ("calls", "failed_calls", "unpriced_calls", "priced_calls", "input_tokens", "cache_read_tokens", "cache_write_tokens",
           "output_tokens", "reasoning_tokens", "duration_ns")  # fmt: skip


def _sums(values: Iterable[Any]) -> list[int]:
    """SQL's sums (…, whole dollars, pico-dollars, duration) with the cost as one integer; NULL, the sum of nothing, is 0."""
    *counts, whole, pico, duration = (int(value or 0) for value in values)
    return [*counts, whole * PICO + pico, duration]


class Sources:
    """Reads one question's numbers over one connection. Times are unix nanoseconds, half-open; None is without end."""

    def __init__(self, connection: Connection, question: Question) -> None:
        self._connection, self._question = connection, question
        self._tag_sets: dict[int, dict[str, str]] | None = None

    # --- roll-ups ------------------------------------------------------------------------------------------------

    def rollups(self, dimension: str, first: int | None, last: int | None) -> Iterator[tuple[Key, list[int]]]:
        """Sums over the whole hours [first, last) (unix seconds)."""
        columns = rollup_columns(dimension, _ROLLUP)
        keys = [columns[name] for name in self._question.by]
        yield from self._summed(dimension, keys, self._named(columns), first, last)

    def tagged(self, key: str, first: int | None, last: int | None) -> Iterator[tuple[Key, list[int]]]:
        """Sums by the values of one tag; what carries no such tag is the total less the rest."""
        query = select(_LABEL.c.id, _LABEL.c.value).where(_LABEL.c.kind == "tag", _LABEL.c.value.startswith(f"{key}=", autoescape=True))
        values = {row[0]: row[1][len(key) + 1 :] for row in self._connection.execute(query)}
        columns = rollup_columns("tag", _ROLLUP)
        spot = next(index for index, name in enumerate(self._question.by) if name not in TIMES)
        keys = [columns.get(name, _ROLLUP.c.key) for name in self._question.by]
        untagged: dict[Key, list[int]] = dict(self._summed("total", [columns.get(name) for name in self._question.by], [], first, last))
        for raw, sums in self._summed("tag", keys, [_ROLLUP.c.key.in_(values)], first, last):
            where = raw[spot]
            yield (*raw[:spot], values[int(where or 0)], *raw[spot + 1 :]), sums
            total = (*raw[:spot], None, *raw[spot + 1 :])
            untagged[total] = list(map(sub, untagged[total], sums))
        yield from ((place, sums) for place, sums in untagged.items() if any(sums))

    def _summed(
        self,
        dimension: str,
        keys: Sequence[ColumnElement[Any] | None],
        where: list[ColumnElement[bool]],
        first: int | None,
        last: int | None,
    ) -> Iterator[tuple[Key, list[int]]]:
        """Sums of one dimension by the given columns; a column that is None is None in every key."""
        c = _ROLLUP.c
        real = [column for column in keys if column is not None]
        amounts = [func.sum(c[name]) for name in (*_SUMMED[:-1], "cost_whole_usd", "cost_pusd", "duration_ns")]
        query = select(*real, *amounts).where(c.dimension == DIMENSIONS[dimension].code, *where)
        if first is not None:
            query = query.where(c.hour >= first)
        if last is not None:
            query = query.where(c.hour < last)
        query = query.group_by(*real) if real else query.having(func.count() > 0)
        for row in self._connection.execute(query):
            values = iter(row[: len(real)])
            raw = [None if column is None else next(values) for column in keys]
            yield self._none_for_zero(raw), _sums(row[len(real) :])

    def _none_for_zero(self, raw: list[Any]) -> Key:
        """The roll-ups' 0 is "no name"; a time may be 0 (1970) and stays."""
        return tuple(value if name in TIMES else value or None for value, name in zip(raw, self._question.by, strict=True))

    def latencies(self, dimension: str, first: int | None, last: int | None) -> Iterator[tuple[Key, int, int]]:
        """(key, bucket, count) over the whole hours [first, last): whole days from the daily counts, the rest from the hourly."""
        by_day = "hour" not in self._question.by
        first_day = None if first is None else -(-first // DAY) * DAY
        last_day = None if last is None else last // DAY * DAY
        if not by_day or (first_day is not None and last_day is not None and first_day >= last_day):
            yield from self._counts(_LATENCY_HOUR, dimension, first, last)
            return
        yield from self._counts(_LATENCY_DAY, dimension, first_day, last_day)
        if first is not None and first_day != first:
            yield from self._counts(_LATENCY_HOUR, dimension, first, first_day)
        if last is not None and last_day != last:
            yield from self._counts(_LATENCY_HOUR, dimension, last_day, last)

    def _counts(self, table: Table, dimension: str, first: int | None, last: int | None) -> Iterator[tuple[Key, int, int]]:
        start = table.c.hour if table is _LATENCY_HOUR else table.c.day
        keys = [time_of(start, name) if name in TIMES else table.c.key for name in self._question.by]
        query = select(*keys, table.c.bucket, func.sum(table.c["count"])).where(table.c.dimension == LATENCY[dimension])
        if first is not None:
            query = query.where(start >= first)
        if last is not None:
            query = query.where(start < last)
        query = query.where(*self._named({dimension: table.c.key})).group_by(*keys, table.c.bucket)
        for *raw, bucket, count in self._connection.execute(query):
            yield self._none_for_zero(raw), bucket, int(count)

    # --- detail --------------------------------------------------------------------------------------------------

    def detail(self, since: int | None, until: int | None) -> Iterator[tuple[Key, list[int]]]:
        """Sums over the calls (or tool calls) that started in [since, until)."""
        c = _CALL.c
        written = c.cache_write_5m_tokens + c.cache_write_1h_tokens
        tokens = [c.input_tokens, c.cache_read_tokens, written, c.output_tokens, c.reasoning_tokens]
        money = [func.sum(c.cost_pusd // PICO), func.sum(c.cost_pusd % PICO)]
        failed = func.sum(case((c.state > 0, 1), else_=0))
        unpriced = func.sum(case((and_(c.cost_pusd.is_(None), c.state != CallState.REJECTED), 1), else_=0))
        counts = [func.count(), failed, unpriced, func.count(c.cost_pusd), *(func.sum(column) for column in tokens), *money]
        keys = [call_column(name) for name in self._question.by]
        of_tools = self._question.of_tools
        where = [*self._named({name: call_column(name) for name, _ in self._question.where}), *_between(c, since, until)]
        if of_tools:
            where.append(c.tool.is_not(None))
        query = select(*keys, *counts, func.sum(c.duration_ns)).where(*where)
        query = query.group_by(*keys) if keys else query.having(func.count() > 0)
        for row in self._connection.execute(query):
            sums = _sums(row[len(keys) :])
            if of_tools:
                sums[0] = sums[1] = sums[10] = 0
            yield self._key(row[: len(keys)]), sums
        if of_tools:
            yield from self._tool_calls(since, until)

    def _tool_calls(self, since: int | None, until: int | None) -> Iterator[tuple[Key, list[int]]]:
        c = _STEP.c
        keys = [tool_column(name) for name in self._question.by]
        amounts = [func.count(), func.sum(case((c.state > 0, 1), else_=0)), func.sum(c.duration_ns)]
        query = select(*keys, *amounts).select_from(_STEP.outerjoin(_RUN, _RUN.c.id == c.run)).where(*self._of_tools(since, until))
        query = query.group_by(*keys) if keys else query.having(func.count() > 0)
        for row in self._connection.execute(query):
            calls, failed, duration = (int(value) for value in row[len(keys) :])
            yield self._key(row[: len(keys)]), [calls, failed, *[0] * 8, duration]

    def _of_tools(self, since: int | None, until: int | None) -> list[ColumnElement[bool]]:
        kind = select(_LABEL.c.id).where(_LABEL.c.kind == "kind", _LABEL.c.value == "tool").scalar_subquery()
        columns = {name: tool_column(name) for name, _ in self._question.where}
        return [_STEP.c.kind == kind, *self._named(columns), *_between(_STEP.c, since, until)]

    def durations(self, since: int | None, until: int | None) -> Iterator[tuple[Key, int]]:
        """(key, duration in ns) of every call, or tool call, that started in [since, until)."""
        if self._question.of_tools:
            keys = [tool_column(name) for name in self._question.by]
            joined = _STEP.outerjoin(_RUN, _RUN.c.id == _STEP.c.run)
            query = select(*keys, _STEP.c.duration_ns).select_from(joined).where(*self._of_tools(since, until))
        else:
            keys = [call_column(name) for name in self._question.by]
            columns = {name: call_column(name) for name, _ in self._question.where}
            query = select(*keys, _CALL.c.duration_ns).where(*self._named(columns), *_between(_CALL.c, since, until))
        for *values, duration in self._connection.execute(query):
            yield self._key(values), duration

    # --- names ---------------------------------------------------------------------------------------------------

    def _named(self, columns: dict[str, ColumnElement[Any]]) -> list[ColumnElement[bool]]:
        """The question's filters as conditions on these columns."""
        conditions: list[ColumnElement[bool]] = []
        for name, value in self._question.where:
            if name == "run":
                conditions.append(columns[name].in_(select(_RUN.c.id).where(_RUN.c.run_id == value)))
            elif name.startswith("tag:"):
                key = name[4:]
                conditions.append(columns[name].in_([number for number, tags in self.tag_sets().items() if tags.get(key) == value]))
            else:
                conditions.append(columns[name].in_(select(_LABEL.c.id).where(_LABEL.c.kind == name, _LABEL.c.value == value)))
        return conditions

    def _key(self, values: Iterable[Any]) -> Key:
        """A raw key with tag sets replaced by the value of the tag that is asked about."""
        return tuple(
            self.tag_sets().get(value, {}).get(name[4:]) if name.startswith("tag:") else value
            for value, name in zip(values, self._question.by, strict=True)
        )

    def tag_sets(self) -> dict[int, dict[str, str]]:
        """Every tag set by its number."""
        if self._tag_sets is None:
            self._tag_sets = {row[0]: json.loads(row[1]) for row in self._connection.execute(select(_TAGS.c.id, _TAGS.c.tags))}
        return self._tag_sets

    def names(self, group: str, keys: Iterable[Any]) -> dict[Any, str | None]:
        """What the raw keys of one group are called: labels and runs by id, tags as they are."""
        if group.startswith("tag:"):
            return {key: None if key is None else str(key) for key in keys}
        wanted = sorted({key for key in keys if key is not None})
        names: dict[Any, str | None] = {None: None}
        column, text = (_RUN.c.id, _RUN.c.run_id) if group == "run" else (_LABEL.c.id, _LABEL.c.value)
        for start in range(0, len(wanted), 5000):
            query = select(column, text).where(column.in_(wanted[start : start + 5000]))
            names.update((row[0], row[1]) for row in self._connection.execute(query))
        return names


def _between(columns: Any, since: int | None, until: int | None) -> list[ColumnElement[bool]]:
    """Started in [since, until) (ns), written so that the index on whole seconds serves."""
    conditions: list[ColumnElement[bool]] = []
    seconds = rounded(columns.started_ns, _NS)  # a bound divisor would not match the index
    if since is not None:
        conditions += [seconds >= since // _NS, columns.started_ns >= since]
    if until is not None:
        conditions += [seconds <= until // _NS, columns.started_ns < until]
    return conditions
