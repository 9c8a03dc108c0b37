"""Reports: calls, tokens, cost and latency by whatever people ask, exact to the pico-dollar.

Whole hours are read from the roll-ups wherever one of them answers the question, the partial hours at the edges from the
calls themselves; questions no roll-up answers are read from the calls alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from crewmeter_cost.filters import parse_filter
from crewmeter_cost.ledger.metadata import pruned_before
from crewmeter_cost.ledger.read.aggregate import first_of
from crewmeter_cost.ledger.read.percentiles import Percentiles, in_buckets
from crewmeter_cost.ledger.read.query import TIMES, formatted_time, question
from crewmeter_cost.ledger.read.rollup_windows import Sources
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run, runs
from crewmeter_cost.ledger.write.rollups import HOUR, SUMS
from crewmeter_cost.money import exact_usd, nanoseconds, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from crewmeter_cost.filters import Filter
    from crewmeter_cost.ledger.read.aggregate import Key, Ranked
    from crewmeter_cost.ledger.read.query import Question
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["AMOUNTS", "Report", "ReportRow", "exact_usd", "find_run", "report", "run_tree", "runs"]

EXACT_CALLS = 5_000
"""Up to so many calls percentiles are computed from their durations; beyond, from bucket counts (at most 5 % off)."""
COUNTED_CALLS = 200_000
"""Where no bucket counts answer, percentiles of up to so many calls are counted one by one; beyond, they are left out (null)."""

AMOUNTS = (
    "calls",
    "failed_calls",
    "unpriced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "success_rate",
    "p50_seconds",
    "p95_seconds",
)
"""Columns of a row after its group keys, as in the contract."""

HELD_CALLS = 50_000
"""An hour's part at an edge with up to so many calls is read at once, sums and durations; of more, durations are read again later."""

_NS = 10**9
_HOUR_NS = HOUR * _NS


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One group's sums. `cost_pusd` is None where calls were made and none of them has a price."""

    keys: tuple[str | None, ...]
    sums: Mapping[str, int]
    p50_seconds: float | None = None
    p95_seconds: float | None = None

    @property
    def cost_pusd(self) -> int | None:
        """Pico-USD of the priced calls, None if there are only unpriced ones."""
        return (
            None
            if self.sums["unpriced_calls"] and not self.sums["priced_calls"]
            else self.sums["cost_pusd"]
        )

    @property
    def success_rate(self) -> float | None:
        """Share of calls that did not fail; None where there were none."""
        calls = self.sums["calls"]
        return None if calls <= 0 else round((calls - self.sums["failed_calls"]) / calls, 6)

    def document(self, group_by: Sequence[str]) -> dict[str, object]:
        """The row as the contract's JSON has it."""
        cost = self.cost_pusd
        shown: dict[str, object] = dict(zip(group_by, self.keys, strict=True)) if self.keys else {}
        for name in AMOUNTS[:8]:
            shown[name] = self.sums[name]
        shown["cost_usd"] = None if cost is None else exact_usd(cost)
        shown["success_rate"] = self.success_rate
        shown["p50_seconds"], shown["p95_seconds"] = (
            _rounded(self.p50_seconds),
            _rounded(self.p95_seconds),
        )
        return shown


@dataclass(frozen=True, slots=True)
class Report:
    """A report: rows (dearest first, or in order of time) and the total over all of them, shown or not."""

    since: datetime | None
    until: datetime | None
    group_by: tuple[str, ...]
    rows: tuple[ReportRow, ...]
    total: ReportRow
    notes: tuple[str, ...] = field(default=())
    """What a reader must know about the figures, e.g. that part of the window's detail was pruned."""
    limit: int | None = None
    """The rows that were asked for, None for all."""
    groups: int = 0
    """How many rows there are, shown or not."""

    @property
    def truncated(self) -> bool:
        """Whether there are more rows than are shown."""
        return self.groups > len(self.rows)

    def document(self) -> dict[str, object]:
        """The contract's JSON document; where a limit was asked for, with how many groups there are and whether some were left out."""
        return {
            "since": None if self.since is None else utc_text(self.since),
            "until": None if self.until is None else utc_text(self.until),
            "currency": "USD",
            "group_by": list(self.group_by),
            "rows": [row.document(self.group_by) for row in self.rows],
            "total": self.total.document(()),
            **({} if self.limit is None else {"groups": self.groups, "truncated": self.truncated}),
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def report(
    ledger: Ledger,
    *,
    by: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    where: Filter | Mapping[str, str] | Iterable[str] | str | None = None,
    limit: int | None = None,
) -> Report:
    """What the calls in [since, until) came to, by the given groups. Raises `CrewMeterError` for a group or filter there is not.

    With a `limit` only the first so many rows are kept (among equals the names known longest), in bounded memory; the total is over all.
    """
    asked = question(by, parse_filter(where))
    with ledger.reading() as connection:
        return _Reading(connection, asked, since, until).report(limit)


class _Edge(NamedTuple):
    """Calls from a partial hour, to be added to (1) or taken from (-1) what the whole hours count: unix nanoseconds, half-open."""

    start: int
    end: int
    sign: int
    calls: int


class _Window(NamedTuple):
    """Where to read: whole hours [first, last) in unix seconds out of roll-ups, and edges out of detail."""

    first: int | None
    last: int | None
    edges: tuple[_Edge, ...]

    @property
    def whole(self) -> bool:
        """Whether there are whole hours at all."""
        return self.first is None or self.last is None or self.first < self.last


class _Reading:
    """One report being read, in one read transaction."""

    def __init__(
        self,
        connection: Connection,
        asked: Question,
        since: datetime | None,
        until: datetime | None,
    ) -> None:
        self._asked, self._since, self._until = asked, since, until
        self._since_ns, self._until_ns = nanoseconds(since), nanoseconds(until)
        self._sources = Sources(connection, asked)
        self._pruned_ns = pruned_before(connection)
        self._notes: list[str] = []
        self._at_edges: list[tuple[Key, list[int], int]] = []

    def report(self, limit: int | None) -> Report:
        by = self._asked.by
        chronological = bool(by) and by[0] in TIMES
        window = (
            self._window()
            if self._asked.dimension is not None or self._asked.tag is not None
            else None
        )
        found, total, groups = first_of(
            lambda: self._sums(window), limit, chronological=chronological
        )
        wanted = {key for _, key, _ in found} if len(found) < groups else None
        percentiles = self._percentiles(window, total[0], wanted)
        return Report(
            since=self._since,
            until=self._until,
            group_by=by,
            rows=tuple(self._rows(found, percentiles, chronological=chronological)) if by else (),
            total=ReportRow((), dict(zip(SUMS, total, strict=True)), *percentiles(None)),
            notes=tuple(self._notes),
            limit=limit,
            groups=groups if by else 0,
        )

    def _rows(
        self, found: Sequence[Ranked], percentiles: Percentiles, *, chronological: bool
    ) -> list[ReportRow]:
        names = [
            self._shown(index, {key[index] for _, key, _ in found})
            for index in range(len(self._asked.by))
        ]
        rows = [
            ReportRow(
                tuple(names[i][part] for i, part in enumerate(key)),
                dict(zip(SUMS, sums, strict=True)),
                *percentiles(key),
            )
            for _, key, sums in found
        ]
        return _sorted(rows, chronological=chronological)

    def _shown(self, index: int, keys: set[int | str]) -> Mapping[int | str, str | None]:
        group = self._asked.by[index]
        if group in TIMES:
            return {key: formatted_time(group, int(key)) for key in keys}
        return self._sources.names(group, keys)

    # --- sums ----------------------------------------------------------------------------------------------------

    def _window(self) -> _Window:
        """The whole hours to read out of roll-ups, and what at each end is to be added or taken."""
        since, until = self._since_ns, self._until_ns
        if since is not None and until is not None and since // _HOUR_NS >= until // _HOUR_NS:
            return _Window(0, 0, (_Edge(since, until, 1, *self._sources.calls((since, until))),))
        cuts = [None if cut is None or cut % _HOUR_NS == 0 else cut for cut in (since, until)]
        ranges = [part for cut in cuts if cut is not None for part in _parted(cut)]
        counts = iter(self._sources.calls(*ranges) if ranges else ())
        head, tail = (
            None
            if cut is None
            else self._edge(cut, next(counts), next(counts), begins=cut is cuts[0])
            for cut in cuts
        )
        first = since if head is None else head.end if head.sign > 0 else head.start
        last = until if tail is None else tail.start if tail.sign > 0 else tail.end
        edges = tuple(
            edge for edge in (head, tail) if edge and (edge.calls or self._asked.of_tools)
        )
        return _Window(
            None if first is None else first // _NS, None if last is None else last // _NS, edges
        )

    def _edge(self, cut: int, calls_before: int, calls_after: int, *, begins: bool) -> _Edge:
        """Of the hour the window begins or ends in, the part with fewer calls: that inside, or that outside, to be taken from the hour."""
        before, after = _parted(cut)
        early, late = (
            _Edge(*before, -1 if begins else 1, calls_before),
            _Edge(*after, 1 if begins else -1, calls_after),
        )
        inside, outside = (late, early) if begins else (early, late)
        return outside if outside.calls < inside.calls and before[0] >= self._pruned_ns else inside

    def _sums(self, window: _Window | None) -> Iterator[tuple[Key, list[int]]]:
        """Keys and sums to be added up; a key may come several times."""
        if window is None:
            self._complete(self._since_ns)
            for key, sums, _ in self._sources.detail(self._since_ns, self._until_ns):
                yield self._months(key), sums
            return
        dimension, tag = self._asked.dimension, self._asked.tag
        rolled: Iterable[tuple[Key, list[int]]] = ()
        if window.whole and dimension is not None:
            rolled = self._sources.rollups(dimension, window.first, window.last)
        elif window.whole and tag is not None:
            rolled = self._sources.tagged(tag, window.first, window.last)
        for key, sums in rolled:
            yield self._months(key), sums
        self._at_edges = []
        for edge in window.edges:
            self._complete(edge.start)
            few = edge.calls <= HELD_CALLS
            timed = few and self._asked.latency is not None
            for key, sums, durations in self._sources.detail(
                edge.start, edge.end, sign=edge.sign, timed=timed, few=few
            ):
                key = self._months(key)
                yield key, sums
                if durations:
                    self._at_edges.append((key, durations, edge.sign))

    def _complete(self, since_ns: int | None) -> None:
        """Note it where detail is read that was pruned."""
        if (since_ns or 0) < self._pruned_ns and not self._notes:
            day = datetime.fromtimestamp(self._pruned_ns / _NS, UTC)
            self._notes.append(
                f"calls before {day:%Y-%m-%d %H:%M} UTC were pruned; this grouping counts only what is left of them"
            )

    def _months(self, key: Key) -> Key:
        if "month" not in self._asked.by:
            return key
        spot = self._asked.by.index("month")
        first = datetime.fromtimestamp(int(key[spot]), UTC).replace(day=1)
        return (*key[:spot], int(first.timestamp()), *key[spot + 1 :])

    # --- percentiles ---------------------------------------------------------------------------------------------

    def _percentiles(
        self, window: _Window | None, calls: int, wanted: set[Key] | None
    ) -> Percentiles:
        """p50 and p95 of each (wanted) group: exact for few calls, from bucket counts for many."""
        complete = (self._since_ns or 0) >= self._pruned_ns
        percentiles = Percentiles()
        if calls <= EXACT_CALLS and complete:
            for key, durations in self._sources.durations(self._since_ns, self._until_ns):
                percentiles.exactly(self._months(key), durations)
        elif window is not None and self._asked.latency is not None:
            self._counted(percentiles, window, self._asked.latency, wanted)
        elif complete and calls <= COUNTED_CALLS:
            for key, durations in self._sources.durations(self._since_ns, self._until_ns):
                counts = in_buckets(durations)
                percentiles.count_total(counts)
                if wanted is None or (key := self._months(key)) in wanted:
                    percentiles.count(self._months(key), counts)
        return percentiles

    def _counted(
        self, percentiles: Percentiles, window: _Window, latency: str, wanted: set[Key] | None
    ) -> None:
        """Percentiles out of the roll-ups' counts, and the durations at the edges."""
        by, first, last = self._asked.by, window.first, window.last
        apart = (
            wanted is not None or "hour" in by
        )  # the total is a question of its own where the rows do not, or not cheaply, add up
        if window.whole:
            for key, counts in self._sources.counts(latency, first, last, by=by, only=wanted):
                percentiles.count(self._months(key), counts)
            if apart:
                everything = latency if self._asked.where or self._asked.of_tools else "total"
                for _, counts in self._sources.counts(everything, first, last, by=()):
                    percentiles.count_total(counts)
        for key, durations, sign in self._durations_at(window.edges):
            counts = in_buckets(durations)
            if wanted is None or key in wanted:
                percentiles.count(key, counts, sign)
            if apart:
                percentiles.count_total(counts, sign)

    def _durations_at(self, edges: Iterable[_Edge]) -> Iterator[tuple[Key, list[int], int]]:
        yield from self._at_edges
        for edge in edges:
            if edge.calls > HELD_CALLS:
                for key, durations in self._sources.durations(edge.start, edge.end):
                    yield self._months(key), durations, edge.sign


def _parted(cut: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The hour round a moment (unix nanoseconds), before it and from it on."""
    start = cut - cut % _HOUR_NS
    return (start, cut), (cut, start + _HOUR_NS)


def _sorted(rows: list[ReportRow], *, chronological: bool) -> list[ReportRow]:
    def key(row: ReportRow) -> tuple[object, ...]:
        names = tuple(name or "" for name in row.keys)
        return (names[0] if chronological else "", -(row.cost_pusd or 0), -row.sums["calls"], names)

    return sorted(rows, key=key)
