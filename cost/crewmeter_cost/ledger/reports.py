"""Reports: calls, tokens, cost and latency by whatever people ask, exact to the pico-dollar.

Whole hours are read from the roll-ups wherever one of them answers the question, the partial hours at the edges from the
calls themselves; questions no roll-up answers are read from the calls alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import add
from typing import TYPE_CHECKING, Any

from crewmeter_cost.ledger.grouping import TIMES, question, shown_time
from crewmeter_cost.ledger.money import exact_usd, nanoseconds
from crewmeter_cost.ledger.rollups import HOUR, SUMS, bucket_of, quantile
from crewmeter_cost.ledger.run_tree import run_tree
from crewmeter_cost.ledger.runs import find_run, runs
from crewmeter_cost.ledger.sources import Sources
from crewmeter_cost.ledger.state import pruned_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.grouping import Question
    from crewmeter_cost.ledger.sources import Key
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["AMOUNTS", "Report", "ReportRow", "exact_usd", "find_run", "report", "run_tree", "runs"]

EXACT_CALLS = 5_000
"""Up to so many calls percentiles are computed from their durations; beyond, from bucket counts (at most 5 % off)."""
COUNTED_CALLS = 200_000
"""Where no bucket counts answer, percentiles of up to so many calls are counted one by one; beyond, they are left out (null)."""

AMOUNTS = ("calls", "failed_calls", "unpriced_calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
           "reasoning_tokens", "cost_usd", "success_rate", "p50_seconds", "p95_seconds")  # fmt: skip
"""Columns of a row after its group keys, as in the contract."""

_NS = 10**9


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
        return None if self.sums["unpriced_calls"] and not self.sums["priced_calls"] else self.sums["cost_pusd"]

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
        shown["p50_seconds"], shown["p95_seconds"] = _rounded(self.p50_seconds), _rounded(self.p95_seconds)
        return shown


@dataclass(frozen=True, slots=True)
class Report:
    """A report: rows (dearest first, or in order of time) and their total."""

    since: datetime | None
    until: datetime | None
    group_by: tuple[str, ...]
    rows: tuple[ReportRow, ...]
    total: ReportRow
    notes: tuple[str, ...] = field(default=())
    """What a reader must know about the figures, e.g. that part of the window's detail was pruned."""

    def document(self) -> dict[str, object]:
        """The contract's JSON document."""
        return {
            "since": None if self.since is None else self.since.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "currency": "USD",
            "group_by": list(self.group_by),
            "rows": [row.document(self.group_by) for row in self.rows],
            "total": self.total.document(()),
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def report(
    ledger: Ledger,
    *,
    by: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    where: Mapping[str, str] | None = None,
) -> Report:
    """What the calls in [since, until) came to, by the given groups. Raises `CrewMeterError` for a group or filter there is not."""
    asked = question(by, where or {})
    with ledger.reading() as connection:
        return _Reading(connection, asked, since, until).report()


@dataclass(slots=True)
class _Window:
    """Where to read: whole hours [first, last) in seconds out of roll-ups, and ranges (ns) out of detail."""

    first: int | None
    last: int | None
    edges: list[tuple[int | None, int | None]]
    whole: bool
    """Whether there are whole hours at all."""


class _Reading:
    """One report being read, in one read transaction."""

    def __init__(self, connection: Connection, asked: Question, since: datetime | None, until: datetime | None) -> None:
        self._asked, self._since, self._until = asked, since, until
        self._sources = Sources(connection, asked)
        self._pruned_ns = pruned_before(connection)
        self._notes: list[str] = []

    def report(self) -> Report:
        window = self._window()
        groups: dict[Key, list[int]] = {}
        for key, sums in self._sums(window):
            key = self._months(key)
            known = groups.get(key)
            groups[key] = sums if known is None else list(map(add, known, sums))
        total = [sum(column) for column in zip(*groups.values(), strict=True)] or [0] * len(SUMS)
        quantiles = self._quantiles(window, total[0])
        names = [self._shown(index, groups) for index in range(len(self._asked.by))]
        rows = [
            ReportRow(tuple(names[i][part] for i, part in enumerate(key)), dict(zip(SUMS, sums, strict=True)), *quantiles(key))
            for key, sums in groups.items()
        ]
        by = self._asked.by
        rows = _sorted(_merged(rows), chronological=bool(by) and by[0] in TIMES)
        return Report(
            since=self._since,
            until=self._until,
            group_by=by,
            rows=tuple(rows) if by else (),
            total=ReportRow((), dict(zip(SUMS, total, strict=True)), *quantiles(None)),
            notes=tuple(self._notes),
        )

    def _window(self) -> _Window:
        since, until = nanoseconds(self._since), nanoseconds(self._until)
        first = None if since is None else -(-since // (HOUR * _NS)) * HOUR
        last = None if until is None else until // (HOUR * _NS) * HOUR
        if first is not None and last is not None and first > last:
            return _Window(first, last, [(since, until)], whole=False)
        edges: list[tuple[int | None, int | None]] = []
        if since is not None and first is not None and since < first * _NS:
            edges.append((since, first * _NS))
        if until is not None and last is not None and last * _NS < until:
            edges.append((last * _NS, until))
        return _Window(first, last, edges, whole=first is None or last is None or first < last)

    def _sums(self, window: _Window) -> Iterator[tuple[Key, list[int]]]:
        dimension, tag = self._asked.dimension, self._asked.tag
        if dimension is None and tag is None:
            self._complete(nanoseconds(self._since))
            yield from self._sources.detail(nanoseconds(self._since), nanoseconds(self._until))
            return
        if window.whole and dimension is not None:
            yield from self._sources.rollups(dimension, window.first, window.last)
        elif window.whole and tag is not None:
            yield from self._sources.tagged(tag, window.first, window.last)
        for start, end in window.edges:
            self._complete(start)
            yield from self._sources.detail(start, end)

    def _complete(self, since_ns: int | None) -> None:
        """Note it where detail is read that was pruned."""
        if (since_ns or 0) < self._pruned_ns and not self._notes:
            day = datetime.fromtimestamp(self._pruned_ns / _NS, UTC)
            self._notes.append(f"calls before {day:%Y-%m-%d %H:%M} UTC were pruned; this grouping counts only what is left of them")

    def _months(self, key: Key) -> Key:
        if "month" not in self._asked.by:
            return key
        spot = self._asked.by.index("month")
        first = datetime.fromtimestamp(int(key[spot] or 0), UTC).replace(day=1)
        return (*key[:spot], int(first.timestamp()), *key[spot + 1 :])

    def _shown(self, index: int, groups: Iterable[Key]) -> Mapping[Any, str | None]:
        group = self._asked.by[index]
        keys = {key[index] for key in groups}
        if group in TIMES:
            return {key: shown_time(group, int(key or 0)) for key in keys}
        return self._sources.names(group, keys)

    # --- percentiles ---------------------------------------------------------------------------------------------

    def _quantiles(self, window: _Window, calls: int) -> _Quantiles:
        """p50 and p95 of each group: exact for few calls, from bucket counts for many."""
        since, until = nanoseconds(self._since), nanoseconds(self._until)
        complete = (since or 0) >= self._pruned_ns
        quantiles = _Quantiles()
        if calls <= EXACT_CALLS and complete:
            for key, duration in self._sources.durations(since, until):
                quantiles.exact[self._months(key)].append(duration)
            return quantiles
        latency = self._asked.latency
        if latency is not None:
            if window.whole:
                for key, bucket, count in self._sources.latencies(latency, window.first, window.last):
                    quantiles.count(self._months(key), bucket, count)
            ranges = window.edges
        elif complete and calls <= COUNTED_CALLS:
            ranges = [(since, until)]
        else:
            ranges = []
        for start, end in ranges:
            for key, duration in self._sources.durations(start, end):
                quantiles.count(self._months(key), bucket_of(duration), 1)
        return quantiles


class _Quantiles:
    """(p50, p95) in seconds of a key, or of everything (None)."""

    def __init__(self) -> None:
        self.exact: defaultdict[Key, list[int]] = defaultdict(list)
        self._counts: defaultdict[Key, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))

    def count(self, key: Key, bucket: int, count: int) -> None:
        """Add to a bucket of a key."""
        self._counts[key][bucket] += count

    def __call__(self, key: Key | None) -> tuple[float | None, float | None]:
        if self.exact:
            durations = sorted(chain_all(self.exact.values()) if key is None else self.exact.get(key, ()))
            return _of_sorted(durations, 0.5), _of_sorted(durations, 0.95)
        counts: Mapping[int, int] = self._counts.get(key, {}) if key is not None else _added(self._counts.values())
        return quantile(counts, 0.5), quantile(counts, 0.95)


def chain_all(lists: Iterable[list[int]]) -> list[int]:
    """One list of all."""
    return [value for values in lists for value in values]


def _added(counts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    total: defaultdict[int, int] = defaultdict(int)
    for each in counts:
        for bucket, count in each.items():
            total[bucket] += count
    return dict(total)


def _of_sorted(durations: Sequence[int], share: float) -> float | None:
    """Quantile of sorted durations (ns) in seconds, linear between neighbours (as numpy's default)."""
    if not durations:
        return None
    position = share * (len(durations) - 1)
    low = int(position)
    high = min(low + 1, len(durations) - 1)
    return (durations[low] + (durations[high] - durations[low]) * (position - low)) / 1e9


def _merged(rows: list[ReportRow]) -> list[ReportRow]:
    """Rows without those that count nothing (a group that was taken back)."""
    return [row for row in rows if any(row.sums.values())]


def _sorted(rows: list[ReportRow], *, chronological: bool) -> list[ReportRow]:
    def key(row: ReportRow) -> tuple[object, ...]:
        names = tuple(name or "" for name in row.keys)
        return (names[0] if chronological else "", -(row.cost_pusd or 0), -row.sums["calls"], names)

    return sorted(rows, key=key)
