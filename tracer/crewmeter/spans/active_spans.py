"""Which nodes are open, and which were lately: bounded, so that ends that never come cannot fill the memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter.spans.span import OpenSpan

__all__ = ["MAX_OPEN", "ActiveSpans"]

MAX_OPEN = 10_000
"""Open spans kept; past it the oldest without open children are abandoned."""
MAX_CLOSED = 2_048
"""Ended spans that late children may still find by their parent's event id."""
TTL_NS = 24 * 3600 * 1_000_000_000
"""An open span without open children is abandoned after a day."""
LOST_GRACE_NS = 10 * 1_000_000_000
"""A span whose every context is gone cannot be ended by CrewAI any more, give or take this."""


class ActiveSpans:
    """Open and recently closed nodes by event id. Takes no locks: every step is one atomic dict operation."""

    def __init__(self) -> None:
        self.open: dict[str, OpenSpan] = {}
        self._closed: OrderedDict[str, OpenSpan] = OrderedDict()
        self._by_call: dict[str, str] = {}
        self.lost: deque[str] = deque(maxlen=MAX_OPEN)
        """Event ids whose contexts were garbage collected; appended from weakref callbacks, so nothing else may happen there."""

    def add(self, node: OpenSpan) -> None:
        self.open[node.event_id] = node
        if node.call is not None and node.key is not None:
            self._by_call[node.key] = node.event_id

    def take(self, node: OpenSpan) -> bool:
        """ExchangeOwner the closing of ``node``: True for the first caller only."""
        if self.open.pop(node.event_id, None) is None:
            return False
        self.remember(node.event_id, node)
        return True

    def remember(self, event_id: str, node: OpenSpan) -> None:
        """Let ``event_id`` lead to ``node``, as for an ended span or one that is hidden behind its parent."""
        self._closed[event_id] = node
        while len(self._closed) > MAX_CLOSED:
            try:
                _, gone = self._closed.popitem(last=False)
            except KeyError:  # another thread emptied it meanwhile
                break
            if gone.key is not None and self._by_call.get(gone.key) == gone.event_id:
                self._by_call.pop(gone.key, None)

    def find(self, event_id: str | None) -> OpenSpan | None:
        """The node of an event id, open or recently closed."""
        if event_id is None:
            return None
        return self.open.get(event_id) or self._closed.get(event_id)

    def find_call(self, call_id: str | None) -> OpenSpan | None:
        """The newest node of a model call's id, open or recently closed."""
        return self.find(self._by_call.get(call_id)) if call_id is not None else None

    def overdue(self, now_ns: int) -> list[OpenSpan]:
        """Open nodes nobody will end any more: past their time, lost, or one too many."""
        found: list[OpenSpan] = []
        for _ in range(len(self.lost)):
            event_id = self.lost.popleft()
            node = self.open.get(event_id)
            if node is None:
                continue
            orphaned = node.parent is None or node.parent.ended_ns is not None
            if orphaned and not node.children and now_ns - node.started_ns > LOST_GRACE_NS:
                found.append(node)
            else:
                self.lost.append(event_id)
        excess = len(self.open) - MAX_OPEN
        for node in list(self.open.values()):
            if excess <= 0 and now_ns - node.started_ns <= TTL_NS:
                break
            if not node.children:
                found.append(node)
                excess -= 1
        return found

    def clear(self) -> None:
        """Forget that anything is open (in a forked child, whose parent will close it); late children still find it."""
        for event_id, node in list(self.open.items()):
            node.children = set()
            self.remember(event_id, node)
        self.open = {}
        self.lost.clear()
