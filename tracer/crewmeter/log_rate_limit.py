"""A limit for log lines: one a minute, however often something goes wrong."""

from __future__ import annotations

__all__ = ["RateLimit"]


class RateLimit:
    """A gate that opens once per ``interval_s`` seconds and counts the refusals."""

    def __init__(self, interval_s: float = 60.0) -> None:
        self._interval_s = interval_s
        self._next = 0.0
        self.held_back = 0
        """How many lines were refused so far."""

    def allows(self, now_s: float) -> bool:
        """Return True if a line may be written at ``now_s`` (any monotonic clock)."""
        if now_s < self._next:
            self.held_back += 1
            return False
        self._next = now_s + self._interval_s
        return True
