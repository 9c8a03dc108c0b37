"""A report's numbers from the calls and tool steps themselves.

What is read at a time is bounded: a GROUP BY keeps a copy of every row it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, func, literal_column, select

from crewmeter.semconv import KIND_TOOL
from crewmeter_cost.ledger.read.filter_sql import call_conditions, step_conditions
from crewmeter_cost.ledger.read.query import call_column, rounded, tool_column
from crewmeter_cost.ledger.read.rollup_source import STREAMED, grouped, listed, numbers, within
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.report_columns import (
    SUMS,
    sums_of_calls,
    sums_of_models_in_tools,
    sums_of_tool_steps,
)
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS, HOUR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.read.aggregate import Key
    from crewmeter_cost.ledger.read.query import ReportQuery
    from crewmeter_cost.ledger.read.report_names import ReportNames
    from crewmeter_cost.ledger.read.rollup_windows import Span

__all__ = ["DetailSource"]

ROWS = 50_000
"""Calls added up by one statement."""

_CALL = core_tables.call
_STEP = core_tables.step
_RUN = core_tables.run
_LABEL = core_tables.label
_ROLLUP = core_tables.rollup_hour
_NS = 10**9
_HOUR_NS = HOUR * _NS
_WIDTH = len(SUMS)

Slice = tuple[int | None, int | None]


def _expressions(sql: list[str]) -> list[ColumnElement[Any]]:
    return [literal_column(text, BigInteger()) for text in sql]


_CALL_SUMS = _expressions(sums_of_calls())
_MODELS_IN_TOOLS = _expressions(sums_of_models_in_tools())
_TOOL_SUMS = _expressions(sums_of_tool_steps())


class DetailSource:
    """One report's view of `call` and `step`. Times are unix nanoseconds, half-open."""

    def __init__(self, connection: Connection, query: ReportQuery, names: ReportNames) -> None:
        self._connection = connection
        self._query = query
        self._names = names

    def _rows(self, query: Select[Any]) -> Iterator[Sequence[Any]]:
        return iter(self._connection.execute(query, execution_options=STREAMED))

    def count(self, spans: list[Span]) -> list[int]:
        """Return how many calls started in the seconds of each span, both ends included.

        So at most too many: they are read off the index on whole seconds.
        """
        seconds = _seconds(_CALL.c)
        every = select(func.count()).select_from(_CALL)
        counts = [
            every.where(seconds >= start // _NS, seconds <= end // _NS).scalar_subquery()
            for start, end in spans
        ]
        return list(self._connection.execute(select(*counts)).one())

    def sums(
        self,
        since: int | None,
        until: int | None,
        *,
        sign: int = 1,
        timed: bool = False,
        few: bool = False,
    ) -> Iterator[tuple[Key, list[int], list[int]]]:
        """Yield (key, sums times `sign`, durations in ns if `timed`) of [since, until).

        The sums are of calls, or of tool calls with what their model calls cost. A key may come
        several times. `few` says that they are known not to be many.
        """
        slices = [(since, until)] if few else self._slices(since, until)
        for start, end in slices:
            for query in self._summed(start, end, timed=timed):
                for row in self._rows(query):
                    yield self._parted(row, sign)

    def _summed(self, start: int | None, end: int | None, *, timed: bool) -> list[Select[Any]]:
        durations = [listed(_CALL.c.duration_ns)] if timed else []
        if not self._query.of_tools:
            return [
                self._calls(
                    [*_CALL_SUMS, *durations],
                    start,
                    end,
                )
            ]
        tool_durations = [listed(_STEP.c.duration_ns)] if timed else []
        return [
            self._calls(_MODELS_IN_TOOLS, start, end),
            self._tool_calls([*_TOOL_SUMS, *tool_durations], start, end),
        ]

    def _parted(self, row: Sequence[Any], sign: int) -> tuple[Key, list[int], list[int]]:
        """Return key, sums and durations of one row."""
        keys = len(self._query.by)
        values = row[keys:]
        sums = [sign * int(value or 0) for value in values[:_WIDTH]]
        durations = numbers(values[_WIDTH]) if len(values) > _WIDTH else []
        return self._names.key(row[:keys]), sums, durations

    def durations(self, since: int | None, until: int | None) -> Iterator[tuple[Key, list[int]]]:
        """Yield (key, durations in ns) of the calls, or tool calls, of [since, until).

        A key may come several times.
        """
        for start, end in self._slices(since, until):
            if self._query.of_tools:
                query = self._tool_calls(
                    [listed(_STEP.c.duration_ns)],
                    start,
                    end,
                )
            else:
                query = self._calls(
                    [listed(_CALL.c.duration_ns)],
                    start,
                    end,
                )
            for *values, found in self._rows(query):
                yield self._names.key(values), numbers(found)

    def _slices(self, since: int | None, until: int | None) -> Iterator[Slice]:
        """Yield [since, until) in ranges of about `ROWS` calls or tool calls."""
        start = since
        held = 0
        for hour, calls in self._hourly(since, until):
            parts = max(
                1,
                -(-calls // ROWS),
            )
            for part in range(parts):
                cut = hour * _NS + _HOUR_NS * part // parts
                inside = (start is None or start < cut) and (until is None or cut < until)
                if inside and held + calls // parts > ROWS:
                    yield start, cut
                    start = cut
                    held = 0
                held += calls // parts
        yield start, until

    def _hourly(self, since: int | None, until: int | None) -> list[tuple[int, int]]:
        """Return (hour, calls and tool calls) of every hour that [since, until) touches."""
        c = _ROLLUP.c
        codes = [
            DIMENSIONS["total"].code,
            DIMENSIONS["tool"].code,
        ]
        first = None if since is None else since // _HOUR_NS * HOUR
        last = None if until is None else -(-until // _NS)
        query = select(c.hour, func.sum(c.calls)).where(
            c.dimension.in_(codes), *within(c.hour, first, last)
        )
        rows = self._connection.execute(query.group_by(c.hour).order_by(c.hour))
        return [(int(hour), int(calls)) for hour, calls in rows]

    def _calls(
        self, amounts: Sequence[ColumnElement[Any]], since: int | None, until: int | None
    ) -> Select[Any]:
        keys = [call_column(name) for name in self._query.by]
        filters = {name: call_column(name) for name, _ in self._query.where}
        where = [
            *self._names.conditions(filters),
            *_between(_CALL.c, since, until),
        ]
        where += call_conditions(
            self._connection,
            self._query.beyond,
        )
        if self._query.of_tools:
            where.append(_CALL.c.tool.is_not(None))
        return grouped(
            select(*keys, *amounts).select_from(_CALL).where(*where),
            keys,
        )

    def _tool_calls(
        self, amounts: Sequence[ColumnElement[Any]], since: int | None, until: int | None
    ) -> Select[Any]:
        keys = [tool_column(name) for name in self._query.by]
        filters = {name: tool_column(name) for name, _ in self._query.where}
        is_tool = (_LABEL.c.kind == "kind") & (_LABEL.c.value == KIND_TOOL)
        kind = select(_LABEL.c.id).where(is_tool).scalar_subquery()
        where = [
            *self._names.conditions(filters),
            *_between(_STEP.c, since, until),
        ]
        where += step_conditions(
            self._connection,
            self._query.beyond,
        )
        joined = _STEP.outerjoin(
            _RUN,
            _RUN.c.id == _STEP.c.run,
        )
        query = (
            select(*keys, *amounts)
            .select_from(joined)
            .where(
                _STEP.c.kind == kind,
                *where,
            )
        )
        return grouped(query, keys)


def _seconds(columns: Any) -> ColumnElement[int]:
    return rounded(columns.started_ns, _NS)


def _between(columns: Any, since: int | None, until: int | None) -> list[ColumnElement[bool]]:
    """Return "started in [since, until)" so that the index on whole seconds serves."""
    conditions: list[ColumnElement[bool]] = []
    seconds = _seconds(columns)
    if since is not None:
        conditions += [
            seconds >= since // _NS,
            columns.started_ns >= since,
        ]
    if until is not None:
        conditions += [
            seconds <= until // _NS,
            columns.started_ns < until,
        ]
    return conditions
