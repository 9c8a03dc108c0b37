"""CrewAI's public event listeners, for a CrewAI whose event bus we cannot wrap.

Events are put back in order. Books stay exact, and nesting is by event id.
"""

from __future__ import annotations

import threading
from heapq import heappop, heappush
from itertools import count
from time import time_ns
from typing import TYPE_CHECKING, Any

from crewmeter.crewai.event_to_span import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EventBusListener", "descendants"]

DELAY_NS = 150_000_000
"""How long (ns) an event waits for earlier ones.

CrewAI's handlers run in a pool, so ends overtake starts.
"""


class EventBusListener:
    """A thread that hands on events one by one, oldest first.

    ``handle`` receives the source, the event and its time (ns).
    """

    def __init__(self, bus: Any, handle: Callable[[Any, Any, int], None]) -> None:
        self._bus = bus
        self._handle = handle
        self._waiting: list[tuple[int, int, Any, Any]] = []
        self._lock = threading.Lock()
        self._handle_lock = threading.Lock()
        self._number = count()
        self._stop = threading.Event()
        self._classes: list[type] = []
        self._thread = threading.Thread(target=self._run, name="crewmeter-listener", daemon=True)

    def start(self, event_classes: list[type]) -> None:
        """Register with the bus for every class whose type is in the table."""
        for cls in event_classes:
            fields: dict[str, Any] = getattr(cls, "model_fields", {})
            event_type = getattr(fields.get("type"), "default", None)
            if event_type in TABLE:
                self._bus.register_handler(cls, self._receive)
                self._classes.append(cls)
        self._thread.start()

    def stop(self) -> None:
        """Leave the bus as it was, and handle what is still waiting."""
        for cls in self._classes:
            self._bus.off(cls, self._receive)
        self._stop.set()
        self.drain()

    def drain(self, before_ns: int | None = None) -> None:
        """Handle every event emitted before ``before_ns``, or all of them."""
        with self._handle_lock:
            while (waiting := self._next(before_ns)) is not None:
                at_ns, _, source, event = waiting
                self._handle(source, event, at_ns)

    def _next(self, before_ns: int | None) -> tuple[int, int, Any, Any] | None:
        """Take the oldest event emitted before ``before_ns``."""
        with self._lock:
            if not self._waiting:
                return None
            oldest_ns = self._waiting[0][0]
            if before_ns is not None and oldest_ns > before_ns:
                return None
            return heappop(self._waiting)

    def _receive(self, source: Any, event: Any) -> None:
        stamp = getattr(event, "timestamp", None)
        at_ns = time_ns() if stamp is None else int(stamp.timestamp() * 1e9)
        with self._lock:
            heappush(
                self._waiting,
                (at_ns, next(self._number), source, event),
            )

    def _run(self) -> None:
        while not self._stop.wait(DELAY_NS / 2e9):
            self.drain(time_ns() - DELAY_NS)


def descendants(cls: type[Any]) -> list[type]:
    """Return every loaded class derived from ``cls``."""
    found: list[type] = []
    subclasses: list[type] = cls.__subclasses__()
    for direct in subclasses:
        found += (direct, *descendants(direct))
    return list(dict.fromkeys(found))
