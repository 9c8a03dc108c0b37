"""The spans that are open, and those that were lately.

Both are bounded, so that ends that never come cannot fill the memory.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter.spans.span import OpenSpan

__all__ = ["MAX_OPEN", "ActiveSpans"]

MAX_OPEN = 10_000
"""Open spans at most. Beyond, the oldest without open children are abandoned."""
MAX_CLOSED = 2_048
"""Ended spans that late children may still find by their parent's event id."""
MAX_CLOSED_CALLS = 256
"""The same of model calls, which hold most memory and whose late events come at once."""
TTL_NS = 24 * 3600 * 1_000_000_000
"""An open span without open children is abandoned after a day."""
LOST_GRACE_NS = 10 * 1_000_000_000
"""Age (ns) from which a span is abandoned whose every context is gone: nobody can end it."""


class ActiveSpans:
    """Open and recently closed nodes by event id.

    It takes no locks, because every step is one atomic operation of a dict.
    """

    def __init__(self) -> None:
        self.open: dict[str, OpenSpan] = {}
        self._closed: OrderedDict[str, OpenSpan] = OrderedDict()
        self._closed_calls: OrderedDict[str, OpenSpan] = OrderedDict()
        self._by_call: dict[str, str] = {}
        self.lost: deque[str] = deque(maxlen=MAX_OPEN)
        """Event ids whose contexts were garbage collected.

        Weakref callbacks append to it, so nothing else may happen there.
        """

    def add(self, node: OpenSpan) -> None:
        """Store an open node."""
        self.open[node.event_id] = node
        if node.call is not None and node.key is not None:
            self._by_call[node.key] = node.event_id

    def take(self, node: OpenSpan) -> bool:
        """Claim the closing of ``node``. Return True for the first caller only."""
        # `dict.pop` is atomic under the interpreter's lock, so one caller wins without a lock of
        # ours.
        if self.open.pop(node.event_id, None) is None:
            return False
        self.remember(node.event_id, node)
        return True

    def remember(self, event_id: str, node: OpenSpan) -> None:
        """Let ``event_id`` lead to an ended node, or to the parent of a hidden one."""
        if node.call is None:
            closed = self._closed
            most = MAX_CLOSED
        else:
            closed = self._closed_calls
            most = MAX_CLOSED_CALLS
        closed[event_id] = node
        while len(closed) > most:
            try:
                _, gone = closed.popitem(last=False)
            except KeyError:  # another thread emptied it meanwhile
                break
            self._forget_call(gone)

    def _forget_call(self, node: OpenSpan) -> None:
        key = node.key
        if key is not None and self._by_call.get(key) == node.event_id:
            self._by_call.pop(key, None)

    def find(self, event_id: str | None) -> OpenSpan | None:
        """Return the node of an event id, open or recently closed."""
        if event_id is None:
            return None
        return (
            self.open.get(event_id)
            or self._closed.get(event_id)
            or self._closed_calls.get(event_id)
        )

    def find_call(self, call_id: str | None) -> OpenSpan | None:
        """Return the newest node of a model call's id, open or recently closed."""
        if call_id is None:
            return None
        return self.find(self._by_call.get(call_id))

    def overdue(self, now_ns: int) -> list[OpenSpan]:
        """Return the open nodes that nobody will end: lost, too old, or one too many."""
        found = self._lost_nodes(now_ns)
        excess = len(self.open) - MAX_OPEN
        # Dictionaries keep the order of insertion: the oldest come first.
        for node in list(self.open.values()):
            if excess <= 0 and now_ns - node.started_ns <= TTL_NS:
                break
            if not node.children:
                found.append(node)
                excess -= 1
        return found

    def _lost_nodes(self, now_ns: int) -> list[OpenSpan]:
        """Return the nodes whose contexts are gone. The others of `lost` stay there."""
        found: list[OpenSpan] = []
        # As many as there are now: those put back are looked at next time.
        for _ in range(len(self.lost)):
            event_id = self.lost.popleft()
            node = self.open.get(event_id)
            if node is None:
                continue
            parent = node.parent
            orphaned = parent is None or parent.ended_ns is not None
            age_ns = now_ns - node.started_ns
            if orphaned and not node.children and age_ns > LOST_GRACE_NS:
                found.append(node)
            else:
                self.lost.append(event_id)
        return found

    def clear(self) -> None:
        """Forget what is open, in a forked child whose parent will close it.

        Late children still find it.
        """
        for event_id, node in list(self.open.items()):
            # The parent closes its spans itself; the child must not close them as children of its
            # own.
            node.children = set()
            self.remember(event_id, node)
        self.open = {}
        self.lost.clear()
