"""Bounds on time that hold on slow and on busy machines too."""

from __future__ import annotations

import time

__all__ = ["patience", "slowness"]

# What the loop below takes on the machine that the bounds were chosen on, when it is idle (s).
REFERENCE_SECONDS = 0.017


def slowness() -> float:
    """Return how many times longer computing takes now than on the idle reference machine."""
    began = time.perf_counter()
    sum(range(1_000_000))
    return max(1.0, (time.perf_counter() - began) / REFERENCE_SECONDS)


def patience(seconds: float) -> float:
    """Return a bound: `seconds` on an idle machine, more where computing is slow now.

    It grows twice as fast as the slowness, because what is measured here in a moment varies.
    """
    return seconds * (2 * slowness() - 1)
