"""Percentiles of durations.

Exact for few calls, from counts per latency bucket for many.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.schema.latency_buckets import BOUNDS_NS, LAST_BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crewmeter_cost.ledger.read.aggregate import Key

__all__ = ["SHARES", "Percentiles", "exact_quantiles", "in_buckets", "quantiles"]

SHARES = (0.5, 0.95)
"""The percentiles of a report."""

Pair = tuple[float | None, float | None]
"""The percentiles in seconds, None where there were no calls."""


class Percentiles:
    """The percentiles of a key, or of everything (None)."""

    def __init__(self) -> None:
        self._exact: dict[Key, list[int]] = {}
        self._counts: dict[Key, Counter[int]] = {}
        self._total: Counter[int] | None = None

    def add_durations(self, key: Key, durations: list[int]) -> None:
        """Add durations (ns) of a key's calls. With any, nothing is read from counts."""
        self._exact.setdefault(key, []).extend(durations)

    def count(self, key: Key, counts: Mapping[int, int], sign: int = 1) -> None:
        """Add to (or, with -1, take from) a key's counts by bucket."""
        _add(
            self._counts.setdefault(key, Counter()),
            counts,
            sign,
        )

    def count_total(self, counts: Mapping[int, int], sign: int = 1) -> None:
        """Add to everything's own counts. Without any, everything is the sum of the keys."""
        if self._total is None:
            self._total = Counter()
        _add(self._total, counts, sign)

    def of(self, key: Key | None) -> Pair:
        """Return the percentiles of a key, or with None of everything."""
        if self._exact:
            return exact_quantiles(sorted(self._durations(key)))
        if key is not None:
            return quantiles(self._counts.get(key, {}))
        if self._total is None:
            self._total = Counter()
            for counts in self._counts.values():
                self._total.update(counts)
        return quantiles(self._total)

    def _durations(self, key: Key | None) -> Iterable[int]:
        if key is None:
            return chain.from_iterable(self._exact.values())
        return self._exact.get(key, ())


def _add(to: Counter[int], counts: Mapping[int, int], sign: int) -> None:
    if sign > 0:
        to.update(counts)
    else:
        to.subtract(counts)


def in_buckets(durations: Iterable[int]) -> Counter[int]:
    """Return how many durations (ns) fall in each bucket.

    Equals `bucket_of` of each, but takes one step per bucket of the sorted durations.
    """
    counts: Counter[int] = Counter()
    ordered = sorted(durations)
    start = 0
    while start < len(ordered):
        bucket = min(
            bisect_left(BOUNDS_NS, ordered[start]),
            LAST_BUCKET,
        )
        end = len(ordered)
        if bucket < LAST_BUCKET:
            end = bisect_right(ordered, BOUNDS_NS[bucket], start)
        counts[bucket] = end - start
        start = end
    return counts


def quantiles(counts: Mapping[int, int]) -> Pair:
    """Return the percentiles (s) from counts.

    They are linear inside a bucket, so at most 5 % off.
    """
    buckets = sorted(counts)
    seen = list(accumulate(counts[bucket] for bucket in buckets))
    if not seen or seen[-1] <= 0:
        return None, None
    first, second = (
        _within(
            buckets,
            seen,
            share * seen[-1],
        )
        for share in SHARES
    )
    return first, second


def _within(buckets: Sequence[int], seen: Sequence[int], wanted: float) -> float:
    index = bisect_left(seen, wanted)
    bucket = buckets[index]
    before = seen[index - 1] if index else 0
    low = BOUNDS_NS[bucket - 1] if bucket else 0
    width = BOUNDS_NS[bucket] - low
    share = (wanted - before) / (seen[index] - before)
    return (low + width * share) / 1e9


def exact_quantiles(durations: Sequence[int]) -> Pair:
    """Return the percentiles (s) of sorted durations (ns), linear as numpy's default."""
    if not durations:
        return None, None
    first, second = (
        _between(
            durations,
            share * (len(durations) - 1),
        )
        for share in SHARES
    )
    return first, second


def _between(durations: Sequence[int], position: float) -> float:
    low = int(position)
    high = min(
        low + 1,
        len(durations) - 1,
    )
    step = durations[high] - durations[low]
    return (durations[low] + step * (position - low)) / 1e9
