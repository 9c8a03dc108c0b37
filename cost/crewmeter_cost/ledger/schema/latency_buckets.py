"""The logarithmic buckets in which durations are counted.

Their bounds are stored: never change.
"""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["BOUNDS_NS", "LAST_BUCKET", "bucket_of"]

_SHORTEST_NS = 100_000
_LONGEST_NS = 86_400 * 10**9
_GROWTH = 1.05
"""Each bound over the one before, so that a percentile is at most 5 % off."""


def _bounds() -> tuple[int, ...]:
    bounds = []
    bound = float(_SHORTEST_NS)
    while bound < _LONGEST_NS:
        bounds.append(round(bound))
        bound *= _GROWTH
    return (*bounds, _LONGEST_NS)


BOUNDS_NS = _bounds()
"""Upper bounds in nanoseconds: 0.1 ms to a day."""
LAST_BUCKET = len(BOUNDS_NS) - 1
"""Takes everything longer as well."""


def bucket_of(duration_ns: int) -> int:
    """Return the first bucket whose bound is not below a duration."""
    return min(bisect_left(BOUNDS_NS, duration_ns), LAST_BUCKET)
