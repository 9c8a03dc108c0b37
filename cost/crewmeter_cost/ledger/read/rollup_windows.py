"""Which part of a time window roll-ups answer: whole hours.

The rest is read from the calls. Pure.

All of that arithmetic is here. Times are unix nanoseconds where a name says so, else
unix seconds. Ranges are half-open, and None is without end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.schema.rollup_dimensions import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Edge", "Range", "ReportWindow", "Span", "hour_parts", "report_window", "whole_days"]

_NS = 10**9
_HOUR_NS = HOUR * _NS

Range = tuple[int | None, int | None, int]
"""From, to, and 1 to add or -1 to take away."""
Span = tuple[int, int]
"""From, to."""
OpenSpan = tuple[int | None, int | None]
"""From, to, with None for no end."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Calls of a partial hour, added to (1) or taken from (-1) whole-hour sums."""

    start_ns: int
    end_ns: int
    sign: int
    calls: int
    """At least as many calls as started in it."""


@dataclass(frozen=True, slots=True)
class ReportWindow:
    """Whole hours [first, last) to read from roll-ups, and edges from the calls."""

    first: int | None
    last: int | None
    edges: tuple[Edge, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether there are whole hours at all."""
        return self.first is None or self.last is None or self.first < self.last


def report_window(
    since_ns: int | None,
    until_ns: int | None,
    *,
    count: Callable[[list[Span]], list[int]],
    pruned_ns: int,
    with_empty: bool = False,
) -> ReportWindow:
    """Return how to read [since, until).

    Of the hour that a window begins or ends in, the part with fewer calls is read: that inside, to
    be added, or that outside, to be taken from the hour. Detail before `pruned_ns` is gone, so
    nothing there is taken. `count` returns the number of calls in each span (nanoseconds).
    `with_empty` keeps edges without calls, for readers that count something else.
    """
    if since_ns is not None and until_ns is not None and _in_one_hour(since_ns, until_ns):
        (calls,) = count([(since_ns, until_ns)])
        return ReportWindow(
            0,
            0,
            (Edge(since_ns, until_ns, 1, calls),),
        )
    cuts = [cut for cut in (since_ns, until_ns) if cut is not None and cut % _HOUR_NS]
    parts = [part for cut in cuts for part in _parts_of_hour(cut)]
    counts = iter(count(parts) if parts else ())
    first = since_ns
    last = until_ns
    edges = []
    for cut in cuts:
        begins = cut == since_ns
        edge = _edge(
            cut,
            next(counts),
            next(counts),
            begins=begins,
            pruned_ns=pruned_ns,
        )
        edges.append(edge)
        if begins:
            first = edge.end_ns if edge.sign > 0 else edge.start_ns
        else:
            last = edge.start_ns if edge.sign > 0 else edge.end_ns
    read = tuple(edge for edge in edges if edge.calls or with_empty)
    return ReportWindow(_seconds(first), _seconds(last), read)


def _in_one_hour(since_ns: int, until_ns: int) -> bool:
    return since_ns // _HOUR_NS >= until_ns // _HOUR_NS


def _edge(
    cut_ns: int, calls_before: int, calls_after: int, *, begins: bool, pruned_ns: int
) -> Edge:
    before, after = _parts_of_hour(cut_ns)
    early = Edge(
        *before,
        -1 if begins else 1,
        calls_before,
    )
    late = Edge(
        *after,
        1 if begins else -1,
        calls_after,
    )
    inside, outside = (late, early) if begins else (early, late)
    if outside.calls < inside.calls and before[0] >= pruned_ns:
        return outside
    return inside


def _parts_of_hour(cut_ns: int) -> tuple[Span, Span]:
    """Return the hour round a moment, before it and from it on."""
    start = cut_ns - cut_ns % _HOUR_NS
    return (start, cut_ns), (cut_ns, start + _HOUR_NS)


def _seconds(nanoseconds: int | None) -> int | None:
    if nanoseconds is None:
        return None
    return nanoseconds // _NS


def hour_parts(start: int | None, end: int | None) -> tuple[OpenSpan, list[Span]]:
    """Return the whole hours of [start, end) in seconds, and what is left at its ends."""
    first = None if start is None else -(-start // HOUR) * HOUR
    last = None if end is None else end // HOUR * HOUR
    if start is not None and end is not None and -(-start // HOUR) >= end // HOUR:
        return (first, first), [(start, end)]
    edges = []
    if start is not None and first is not None and start < first:
        edges.append((start, first))
    if end is not None and last is not None and last < end:
        edges.append((last, end))
    return (first, last), edges


def whole_days(first: int | None, last: int | None) -> tuple[list[Range], list[Range]]:
    """Return the whole hours [first, last) as days and hours to read.

    At each end the hours of the part of the day that is nearer are added or taken away.
    """
    low = None if first is None else first // DAY * DAY
    high = None if last is None else -(-last // DAY) * DAY
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
    if low is None or high is None or low < high:
        return [(low, high, 1)], hours
    return [], hours
