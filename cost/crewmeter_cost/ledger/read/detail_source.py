"""A report's numbers from the calls and tool steps themselves.

What is read at a time is bounded: a GROUP BY keeps a copy of every row it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.semconv import KIND_TOOL
from crewmeter_cost.ledger.read.filter_sql import call_conditions, step_conditions
from crewmeter_cost.ledger.read.query import (
    call_column,
    rounded,
    started_within,
    tool_column,
    within,
)
from crewmeter_cost.ledger.read.rollup_source import collected, grouped, numbers
from crewmeter_cost.ledger.schema.report_columns import (
    SUMS,
    sums_of_calls,
    sums_of_models_in_tools,
    sums_of_tool_steps,
)
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS, HOUR
from crewmeter_cost.ledger.sql import Sql, listed, one_of, sql, where

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crewmeter_cost.ledger.read.aggregate import Key
    from crewmeter_cost.ledger.read.query import ReportQuery
    from crewmeter_cost.ledger.read.report_names import ReportNames
    from crewmeter_cost.ledger.read.rollup_windows import Span
    from crewmeter_cost.ledger.session import Row, Session

__all__ = ["DetailSource"]

ROWS = 50_000
"""Calls added up by one statement."""

_NS = 10**9
_HOUR_NS = HOUR * _NS
_WIDTH = len(SUMS)

Slice = tuple[int | None, int | None]


_SECONDS = rounded("call.started_ns", _NS)


class DetailSource:
    """One report's view of `call` and `step`. Times are unix nanoseconds, half-open."""

    def __init__(self, session: Session, query: ReportQuery, names: ReportNames) -> None:
        self._session = session
        self._query = query
        self._names = names

    def count(self, spans: list[Span]) -> list[int]:
        """Return how many calls started in the seconds of each span, both ends included.

        They are counted in the index on whole seconds, so there may be some too many at the ends.
        """
        counts = []
        for start, end in spans:
            begins = Sql(f"{_SECONDS} >= ?", (start // _NS,))
            ends = Sql(f"{_SECONDS} <= ?", (end // _NS,))
            query = sql("SELECT count(*) FROM call", where([begins, ends]))
            counts.append(int(self._session.value(query)))
        return counts

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
        # A GROUP BY holds its rows in memory, so a long window is read in parts.
        slices = [(since, until)] if few else self._slices(since, until)
        for start, end in slices:
            for query in self._summed(start, end, timed=timed):
                for row in self._session.stream(query):
                    key, sums, durations = self._parted(row, sign)
                    # Without keys there is a row also where nothing was read.
                    if key or any(sums):
                        yield key, sums, durations

    def _summed(self, start: int | None, end: int | None, *, timed: bool) -> list[Sql]:
        durations = [self._durations("call")] if timed else []
        if not self._query.of_tools:
            return [self._calls([*sums_of_calls(), *durations], start, end)]
        tool_durations = [self._durations("step")] if timed else []
        return [
            self._calls(sums_of_models_in_tools(), start, end),
            self._tool_calls([*sums_of_tool_steps(), *tool_durations], start, end),
        ]

    def _durations(self, table: str) -> str:
        return collected(f"{table}.duration_ns", self._session.backend)

    def _parted(self, row: Row, sign: int) -> tuple[Key, list[int], list[int]]:
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
                query = self._tool_calls([self._durations("step")], start, end)
            else:
                query = self._calls([self._durations("call")], start, end)
            for *values, found in self._session.stream(query):
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
        # The roll-ups know how many rows each hour has, without reading them.
        codes = [DIMENSIONS["total"].code, DIMENSIONS["tool"].code]
        first = None if since is None else since // _HOUR_NS * HOUR
        last = None if until is None else -(-until // _NS)
        conditions = [one_of("dimension", codes), *within("hour", first, last)]
        query = sql(
            "SELECT hour, sum(calls) FROM rollup_hour",
            where(conditions),
            "GROUP BY hour ORDER BY hour",
        )
        return [(int(hour), int(calls)) for hour, calls in self._session.rows(query)]

    def _calls(self, amounts: Sequence[str], since: int | None, until: int | None) -> Sql:
        keys = [call_column(name) for name in self._query.by]
        filters = {name: call_column(name) for name, _ in self._query.where}
        conditions = [
            *self._names.conditions(filters),
            *started_within("call", since, until),
            *call_conditions(self._session, self._query.beyond),
        ]
        if self._query.of_tools:
            conditions.append(Sql("call.tool IS NOT NULL"))
        columns = listed([*keys, *amounts])
        return sql("SELECT", columns, "FROM call", where(conditions), grouped(keys))

    def _tool_calls(self, amounts: Sequence[str], since: int | None, until: int | None) -> Sql:
        keys = [tool_column(name) for name in self._query.by]
        filters = {name: tool_column(name) for name, _ in self._query.where}
        is_tool = "step.kind = (SELECT id FROM label WHERE kind = 'kind' AND value = ?)"
        conditions = [
            Sql(is_tool, (KIND_TOOL,)),
            *self._names.conditions(filters),
            *started_within("step", since, until),
            *step_conditions(self._session, self._query.beyond),
        ]
        columns = listed([*keys, *amounts])
        joined = "FROM step LEFT JOIN run ON run.id = step.run"
        return sql("SELECT", columns, joined, where(conditions), grouped(keys))
