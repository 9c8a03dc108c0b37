"""One log line now and then, however often something goes wrong."""

from __future__ import annotations

__all__ = ["RateLimit"]


class RateLimit:
    """Allows once per ``interval_s`` seconds, and counts what it held back."""

    def __init__(self, interval_s: float = 60.0) -> None:
        self._interval_s = interval_s
        self._next = 0.0
        self.held_back = 0

    def allows(self, now_s: float) -> bool:
        """True if something may be said at ``now_s`` (any monotonic clock); else it is counted as held back."""
        if now_s < self._next:
            self.held_back += 1
            return False
        self._next = now_s + self._interval_s
        return True
