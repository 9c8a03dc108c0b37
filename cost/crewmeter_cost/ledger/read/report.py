"""Reports of calls, tokens, cost and latency, exact to the pico-dollar.

Whole hours are read from the roll-ups wherever one of them answers, the partial hours at the edges
from the calls themselves. What no roll-up answers is read from the calls alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING

from crewmeter_cost.filters import parse_filter
from crewmeter_cost.ledger.metadata import pruned_before
from crewmeter_cost.ledger.read.aggregate import first_of
from crewmeter_cost.ledger.read.detail_source import DetailSource
from crewmeter_cost.ledger.read.percentiles import Percentiles, in_buckets
from crewmeter_cost.ledger.read.query import (
    TIMES,
    formatted_time,
    read_by,
    report_query,
    time_group_start,
)
from crewmeter_cost.ledger.read.report_names import ReportNames
from crewmeter_cost.ledger.read.rollup_source import RollupSource
from crewmeter_cost.ledger.read.rollup_windows import report_window
from crewmeter_cost.ledger.schema.report_columns import (
    AMOUNTS,
    COLUMN_NAMES,
    COLUMNS,
    named_sums,
)
from crewmeter_cost.money import exact_usd, nanoseconds, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from crewmeter_cost.filters import Filter
    from crewmeter_cost.ledger.read.aggregate import Key, Ranked
    from crewmeter_cost.ledger.read.query import ReportQuery
    from crewmeter_cost.ledger.read.rollup_windows import Edge, ReportWindow
    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["COLUMN_NAMES", "Report", "ReportRow", "report"]

EXACT_CALLS = 5_000
"""Percentiles of up to so many calls come from their durations, of more from bucket counts."""
COUNTED_CALLS = 200_000
"""Where no bucket counts answer, percentiles of more calls are left out (null)."""
HELD_CALLS = 50_000
"""At an edge, durations of up to so many calls are read with their sums, of more again later."""

_NS = 10**9


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One group's sums."""

    keys: tuple[str | None, ...]
    sums: Mapping[str, int]
    """Name of `report_columns.SUMS` → amount; `cost_pusd` is the whole cost."""
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    inexact_calls: int | None = None
    """Calls whose cost is a bound or an estimate. None where nobody has counted them."""

    @property
    def cost_pusd(self) -> int | None:
        """Pico-USD of the priced calls, None where calls were made and none has a price."""
        if self.sums["unpriced_calls"] and not self.sums["priced_calls"]:
            return None
        return self.sums["cost_pusd"]

    @property
    def cost_usd(self) -> str | None:
        """The cost as an exact decimal string."""
        return None if self.cost_pusd is None else exact_usd(self.cost_pusd)

    @property
    def success_rate(self) -> float | None:
        """Share of calls that did not fail, None where there were none."""
        calls = self.sums["calls"]
        if calls <= 0:
            return None
        return round((calls - self.sums["failed_calls"]) / calls, 6)

    def value(self, name: str) -> object:
        """Return the figure of one of `report_columns.COLUMNS`."""
        if name in self.sums:
            return self.sums[name]
        found = getattr(self, name)
        return round(found, 6) if isinstance(found, float) else found

    def document(self, group_by: Sequence[str]) -> dict[str, object]:
        """Return the row as the contract's JSON has it. The total has no keys.

        ``inexact_calls`` comes after the contract's figures, and only where there are some.
        """
        keys = zip(group_by, self.keys, strict=True) if self.keys else ()
        figures = {column.name: self.value(column.name) for column in COLUMNS}
        if self.inexact_calls:
            figures["inexact_calls"] = self.inexact_calls
        return dict(keys) | figures


@dataclass(frozen=True, slots=True)
class Report:
    """A report: its rows, and the total over all groups, reported or not.

    Rows come in order of time if that is the first group, else the most expensive first.
    """

    since: datetime | None
    until: datetime | None
    group_by: tuple[str, ...]
    rows: tuple[ReportRow, ...]
    total: ReportRow
    notes: tuple[str, ...] = field(default=())
    """What a reader must know about the figures, e.g. that part of the window was pruned."""
    limit: int | None = None
    """The most rows that were requested, None for all."""
    groups: int = 0
    """How many groups there are, with or without a row."""

    @property
    def truncated(self) -> bool:
        """Whether there are more groups than rows."""
        return self.groups > len(self.rows)

    def document(self) -> dict[str, object]:
        """Return the contract's JSON document.

        With a limit it also says how many groups there are and whether some were left out.
        """
        document: dict[str, object] = {
            "since": _time_text(self.since),
            "until": _time_text(self.until),
            "currency": "USD",
            "group_by": list(self.group_by),
            "rows": [row.document(self.group_by) for row in self.rows],
            "total": self.total.document(()),
        }
        if self.limit is not None:
            document |= {"groups": self.groups, "truncated": self.truncated}
        return document


def _time_text(when: datetime | None) -> str | None:
    return None if when is None else utc_text(when)


def report(
    ledger: Ledger,
    *,
    by: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    where: Filter | Mapping[str, str] | Iterable[str] | str | None = None,
    limit: int | None = None,
    zone: tzinfo = UTC,
) -> Report:
    """Return what the calls in [since, until) came to, by the given groups.

    Args:
        ledger: The ledger to read.
        by: Groups, of `query.GROUPS`.
        since: Begin of the window, None for the first call.
        until: End of the window, None for the last call.
        where: What to count, in the grammar of `filters`.
        limit: The most rows, in bounded memory (among equals the names known longest). The total
            is over all groups.
        zone: Where hours, days, weeks and months begin.

    Returns:
        The report.

    Raises:
        CrewMeterError: There is no such group or filter, or the ledger cannot be read.
    """
    query = report_query(by, parse_filter(where))
    with ledger.read_session() as session:
        return _Reading(session, query, since, until, zone).report(limit)


class _Reading:
    """One report being read, in one read transaction."""

    def __init__(
        self,
        session: Session,
        query: ReportQuery,
        since: datetime | None,
        until: datetime | None,
        zone: tzinfo,
    ) -> None:
        self._by = query.by
        self._zone = zone
        self._time_groups = [
            (at, group)
            for at, group in enumerate(query.by)
            if group in ("week", "month") or read_by(group, zone) != group
        ]
        query = replace(query, by=tuple(read_by(group, zone) for group in query.by))
        self._query = query
        self._since = since
        self._until = until
        self._since_ns = nanoseconds(since)
        self._until_ns = nanoseconds(until)
        self._names = ReportNames(session, query)
        self._rollups = RollupSource(session, query, self._names)
        self._detail = DetailSource(session, query, self._names)
        self._pruned_ns = pruned_before(session)
        self._notes: list[str] = []
        self._at_edges: list[tuple[Key, list[int], int]] = []

    def report(self, limit: int | None) -> Report:
        by = self._query.by
        chronological = bool(by) and by[0] in TIMES
        window = self._window()
        found, total, groups = first_of(
            lambda: self._sums(window), limit, chronological=chronological
        )
        wanted = {key for _, key, _ in found} if len(found) < groups else None
        percentiles = self._percentiles(window, total[AMOUNTS["calls"]], wanted)
        rows = self._rows(found, percentiles, chronological=chronological) if by else []
        return Report(
            since=self._since,
            until=self._until,
            group_by=self._by,
            rows=tuple(rows),
            total=ReportRow((), named_sums(total), *percentiles.of(None)),
            notes=tuple(self._notes),
            limit=limit,
            groups=groups if by else 0,
        )

    def _rows(
        self, found: Sequence[Ranked], percentiles: Percentiles, *, chronological: bool
    ) -> list[ReportRow]:
        names = [
            self._group_names(index, {key[index] for _, key, _ in found})
            for index in range(len(self._query.by))
        ]
        rows = []
        for _, key, sums in found:
            keys = tuple(names[index][part] for index, part in enumerate(key))
            rows.append(ReportRow(keys, named_sums(sums), *percentiles.of(key)))
        return sorted(rows, key=lambda row: _order(row, chronological=chronological))

    def _group_names(self, index: int, keys: set[int | str]) -> Mapping[int | str, str | None]:
        group = self._by[index]
        if group in TIMES:
            return {key: formatted_time(group, int(key), self._zone) for key in keys}
        return self._names.names(group, keys)

    # --- sums -----------------------------------------------------------------------------------

    def _window(self) -> ReportWindow | None:
        """Return where to read, None where no roll-up answers."""
        if self._query.dimension is None and self._query.tag is None:
            return None
        return report_window(
            self._since_ns,
            self._until_ns,
            count=self._detail.count,
            pruned_ns=self._pruned_ns,
            with_empty=self._query.of_tools,
        )

    def _sums(self, window: ReportWindow | None) -> Iterator[tuple[Key, list[int]]]:
        """Yield keys and sums to be added up. A key may come several times."""
        if window is None:
            self._note_pruned(self._since_ns)
            for key, sums, _ in self._detail.sums(self._since_ns, self._until_ns):
                yield self._grouped_time(key), sums
            return
        if window.whole:
            for key, sums in self._rolled_up(window):
                yield self._grouped_time(key), sums
        self._at_edges = []
        for edge in window.edges:
            yield from self._edge_sums(edge)

    def _rolled_up(self, window: ReportWindow) -> Iterable[tuple[Key, list[int]]]:
        if self._query.dimension is not None:
            return self._rollups.sums(self._query.dimension, window.first, window.last)
        return self._rollups.sums_by_tag(str(self._query.tag), window.first, window.last)

    def _edge_sums(self, edge: Edge) -> Iterator[tuple[Key, list[int]]]:
        """Yield the sums of an edge. Durations read with them are stored for later."""
        self._note_pruned(edge.start_ns)
        few = edge.calls <= HELD_CALLS
        timed = few and self._query.latency is not None
        found = self._detail.sums(
            edge.start_ns,
            edge.end_ns,
            sign=edge.sign,
            timed=timed,
            few=few,
        )
        for raw, sums, durations in found:
            key = self._grouped_time(raw)
            if durations:
                self._at_edges.append((key, durations, edge.sign))
            yield key, sums

    def _note_pruned(self, since_ns: int | None) -> None:
        """Say where detail is read that was pruned."""
        if (since_ns or 0) < self._pruned_ns and not self._notes:
            day = datetime.fromtimestamp(self._pruned_ns / _NS, UTC)
            self._notes.append(
                f"calls before {day:%Y-%m-%d %H:%M} UTC were pruned; "
                "this grouping counts only what is left of them"
            )

    def _grouped_time(self, key: Key) -> Key:
        """Return a key with its time replaced by the start of its time group."""
        if not self._time_groups:
            return key
        parts = list(key)
        for at, group in self._time_groups:
            parts[at] = time_group_start(group, int(parts[at]), self._zone)
        return tuple(parts)

    # --- percentiles ----------------------------------------------------------------------------

    def _percentiles(
        self, window: ReportWindow | None, calls: int, wanted: set[Key] | None
    ) -> Percentiles:
        """Return the percentiles of each (wanted) group."""
        complete = (self._since_ns or 0) >= self._pruned_ns
        percentiles = Percentiles()
        if calls <= EXACT_CALLS and complete:
            for key, durations in self._detail.durations(self._since_ns, self._until_ns):
                percentiles.add_durations(self._grouped_time(key), durations)
        elif window is not None and self._query.latency is not None:
            self._count_buckets(percentiles, window, self._query.latency, wanted)
        elif complete and calls <= COUNTED_CALLS:
            self._count_one_by_one(percentiles, wanted)
        return percentiles

    def _count_one_by_one(self, percentiles: Percentiles, wanted: set[Key] | None) -> None:
        for raw, durations in self._detail.durations(self._since_ns, self._until_ns):
            key = self._grouped_time(raw)
            counts = in_buckets(durations)
            percentiles.count_total(counts)
            if wanted is None or key in wanted:
                percentiles.count(key, counts)

    def _count_buckets(
        self, percentiles: Percentiles, window: ReportWindow, latency: str, wanted: set[Key] | None
    ) -> None:
        """Count from the roll-ups, and the durations at the edges."""
        by = self._query.by
        first, last = window.first, window.last
        # The total is a query of its own where the rows do not, or not cheaply, add up.
        apart = wanted is not None or "hour" in by
        if window.whole:
            for raw, counts in self._rollups.latencies(latency, first, last, by=by, only=wanted):
                percentiles.count(self._grouped_time(raw), counts)
        if window.whole and apart:
            narrowed = self._query.where or self._query.of_tools
            everything = latency if narrowed else "total"
            for _, counts in self._rollups.latencies(everything, first, last, by=()):
                percentiles.count_total(counts)
        for key, durations, sign in self._durations_at(window.edges):
            counts = in_buckets(durations)
            if wanted is None or key in wanted:
                percentiles.count(key, counts, sign)
            if apart:
                percentiles.count_total(counts, sign)

    def _durations_at(self, edges: Iterable[Edge]) -> Iterator[tuple[Key, list[int], int]]:
        yield from self._at_edges
        for edge in edges:
            if edge.calls > HELD_CALLS:
                for raw, durations in self._detail.durations(edge.start_ns, edge.end_ns):
                    yield self._grouped_time(raw), durations, edge.sign


def _order(row: ReportRow, *, chronological: bool) -> tuple[object, ...]:
    names = tuple(name or "" for name in row.keys)
    time = names[0] if chronological else ""
    return time, -(row.cost_pusd or 0), -row.sums["calls"], names
