"""Percentiles of durations: exact for few calls, out of counts per logarithmic bucket for many."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.write.rollups import BOUNDS_NS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crewmeter_cost.ledger.read.aggregate import Key

__all__ = ["SHARES", "Percentiles", "exact_quantiles", "in_buckets", "quantiles"]

SHARES = (0.5, 0.95)
"""The percentiles a report shows."""

Pair = tuple[float | None, float | None]


class Percentiles:
    """(p50, p95) in seconds of a key, or of everything (None)."""

    def __init__(self) -> None:
        self._exact: dict[Key, list[int]] = {}
        self._counts: dict[Key, Counter[int]] = {}
        self._total: Counter[int] | None = None

    def exactly(self, key: Key, durations: list[int]) -> None:
        """Durations (ns) of a key's calls; where any were given, nothing is read out of counts."""
        self._exact.setdefault(key, []).extend(durations)

    def count(self, key: Key, counts: Mapping[int, int], sign: int = 1) -> None:
        """Add to (or, with -1, take from) a key's counts by bucket."""
        _add(self._counts.setdefault(key, Counter()), counts, sign)

    def count_total(self, counts: Mapping[int, int], sign: int = 1) -> None:
        """The same for everything; without it, everything is the sum of the keys."""
        if self._total is None:
            self._total = Counter()
        _add(self._total, counts, sign)

    def __call__(self, key: Key | None) -> Pair:
        if self._exact:
            return exact_quantiles(
                sorted(
                    chain.from_iterable(self._exact.values())
                    if key is None
                    else self._exact.get(key, ())
                )
            )
        if key is not None:
            return quantiles(self._counts.get(key, {}))
        if self._total is None:
            self._total = Counter()
            for counts in self._counts.values():
                self._total.update(counts)
        return quantiles(self._total)


def _add(to: Counter[int], counts: Mapping[int, int], sign: int) -> None:
    if sign > 0:
        to.update(counts)
    else:
        to.subtract(counts)


def in_buckets(durations: Iterable[int]) -> Counter[int]:
    """How many durations (ns) fall in each bucket: `rollups.bucket_of` of each, found bucket by bucket in their order."""
    counts: Counter[int] = Counter()
    ordered, last = sorted(durations), len(BOUNDS_NS) - 1
    start = 0
    while start < len(ordered):
        bucket = min(bisect_left(BOUNDS_NS, ordered[start]), last)
        end = bisect_right(ordered, BOUNDS_NS[bucket], start) if bucket < last else len(ordered)
        counts[bucket], start = end - start, end
    return counts


def quantiles(counts: Mapping[int, int]) -> Pair:
    """Both percentiles in seconds out of counts, linear inside a bucket, so at most 5 % off: `rollups.quantile` in one pass."""
    buckets = sorted(counts)
    seen = list(accumulate(counts[bucket] for bucket in buckets))
    if not seen or seen[-1] <= 0:
        return None, None
    first, second = (_within(buckets, seen, share * seen[-1]) for share in SHARES)
    return first, second


def _within(buckets: Sequence[int], seen: Sequence[int], wanted: float) -> float:
    spot = bisect_left(seen, wanted)
    bucket, before = buckets[spot], seen[spot - 1] if spot else 0
    low = BOUNDS_NS[bucket - 1] if bucket else 0
    return (low + (BOUNDS_NS[bucket] - low) * (wanted - before) / (seen[spot] - before)) / 1e9


def exact_quantiles(durations: Sequence[int]) -> Pair:
    """Both percentiles of sorted durations (ns) in seconds, linear between neighbours (as numpy's default)."""
    if not durations:
        return None, None
    first, second = (_between(durations, share * (len(durations) - 1)) for share in SHARES)
    return first, second


def _between(durations: Sequence[int], position: float) -> float:
    low = int(position)
    high = min(low + 1, len(durations) - 1)
    return (durations[low] + (durations[high] - durations[low]) * (position - low)) / 1e9
