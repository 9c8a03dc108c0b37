"""The builder of span trees: what is opened and closed becomes finished spans.

It knows nothing of CrewAI. `crewmeter.crewai` turns events into calls of the `Recorder`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from uuid import uuid4

from crewmeter import semconv
from crewmeter.spans.active_spans import ActiveSpans
from crewmeter.spans.context_propagation import current_values, enter, leave, node_here, raw_node
from crewmeter.spans.correlation import Correlator
from crewmeter.spans.span import MOST_EVENTS, OpenSpan
from crewmeter.spans.span_ids import SpanIds
from crewmeter.spans.span_scope import assign_scope, task_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer
    from opentelemetry.util.types import AttributeValue

    from crewmeter.spans.model_call import ModelCall

__all__ = ["Recorder"]

HOLD_NS = 2_000_000_000
"""How long (ns) an exchange waits for its call's event where events come late."""
_LEAVES = frozenset({semconv.KIND_LLM, semconv.KIND_EMBEDDING})
_LATE_KINDS = frozenset(
    {
        semconv.KIND_LLM,
        semconv.KIND_MEMORY,
        semconv.KIND_KNOWLEDGE,
        semconv.KIND_EMBEDDING,
        semconv.KIND_TOOL,
    }
)
"""Kinds that may start after their parent has ended: background saves and the like."""


class Recorder:
    """The tree of a process's open spans.

    Every method may be called from any thread. None blocks, and none calls user code while it holds
    a lock.
    """

    def __init__(
        self,
        deliver: Callable[[OpenSpan], None],
        *,
        sampler: Sampler,
        tracer: Callable[[], Tracer | None] = lambda: None,
        base_scope: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        self.deliver = deliver
        self._ids = SpanIds(sampler, tracer)
        self._base_scope: Mapping[str, AttributeValue] = dict(base_scope or {})
        self._active = ActiveSpans()
        self._correlator = Correlator(self, self._active)
        self.exchange_opened = self._correlator.exchange_opened
        self.exchange_closed = self._correlator.exchange_closed
        self.watch_counter = self._correlator.counters.started

    # --- spans --------------------------------------------------------------------------------

    def open(
        self,
        event_id: str,
        parent_id: str | None,
        kind: str,
        name: str,
        *,
        at_ns: int,
        key: str | None = None,
        scope: Mapping[str, str] | None = None,
        attributes: dict[str, AttributeValue] | None = None,
        call: ModelCall | None = None,
        is_run: bool = True,
        current: bool = True,
    ) -> OpenSpan:
        """Open a span.

        ``scope`` is what descendants inherit besides. ``is_run`` False keeps a root from being a
        run. With ``current`` it becomes the caller's current OpenTelemetry span until it ends.
        """
        context = current_values()
        node = OpenSpan(
            event_id,
            kind,
            name,
            at_ns,
            threading.get_ident(),
        )
        node.key = key
        node.call = call
        if attributes:
            node.attributes = attributes
        here = raw_node(context)
        if here is not None or parent_id is not None:
            node.parent = self._parent(parent_id, kind, here)
        if kind == semconv.KIND_TASK:
            scope = task_scope(node, scope)
        self._ids.assign(node, context)
        assign_scope(
            node,
            scope,
            self._base_scope,
            is_run=is_run,
        )
        if node.parent is not None and node.parent.ended_ns is None:
            node.parent.children.add(node)
        self._active.add(node)
        if current:
            enter(node, context, self._active.lost.append)
        return node

    def close(self, node: OpenSpan, at_ns: int, *, abandoned: bool = False) -> None:
        """End ``node`` and whatever is open inside it. A second time does nothing."""
        # Two threads may end one span: an event's end and the sweep.
        if not self._active.take(node):
            return
        # The wall clock may have been set back meanwhile.
        node.ended_ns = max(at_ns, node.started_ns)
        node.anchor = None
        for inner in leave(node):
            self._close_inner(inner, at_ns)
        if node.children:
            self._close_children(node, at_ns, abandoned=abandoned)
        if abandoned:
            node.attributes[semconv.ABANDONED] = True
        if node.parent is not None:
            node.parent.children.discard(node)
        # A model call waits for its HTTP exchange, which may close later than the event.
        if node.call is None or self._correlator.complete(node):
            self.deliver(node)

    def record(
        self,
        parent_id: str | None,
        kind: str,
        name: str,
        *,
        at_ns: int,
        started_ns: int | None = None,
        scope: Mapping[str, str] | None = None,
        attributes: dict[str, AttributeValue] | None = None,
        call: ModelCall | None = None,
        parent: OpenSpan | None = None,
        error_type: str | None = None,
    ) -> OpenSpan:
        """Add a span that is over already. ``parent`` wins over ``parent_id``."""
        if started_ns is None:
            started_ns = at_ns
        node = OpenSpan(
            uuid4().hex,
            kind,
            name,
            started_ns,
            threading.get_ident(),
        )
        node.call = call
        if attributes:
            node.attributes = attributes
        context = current_values()
        if parent is None:
            parent = self._parent(parent_id, kind, raw_node(context))
        node.parent = parent
        self._ids.assign(node, context)
        assign_scope(node, scope, self._base_scope, is_run=False)
        node.error_type = error_type
        node.ended_ns = at_ns
        self.deliver(node)
        return node

    def add_event(
        self,
        parent_id: str | None,
        name: str,
        attributes: Mapping[str, AttributeValue],
        at_ns: int,
    ) -> None:
        """Add a span event to the open node of ``parent_id``, else to the current one."""
        node = self._active.find(parent_id)
        if node is None or node.ended_ns is not None:
            node = node_here()
        if node is not None and len(node.events) < MOST_EVENTS:
            node.events.append((name, attributes, at_ns))

    def hide(self, event_id: str, parent_id: str | None) -> None:
        """Make what happens under an event belong to the event's parent."""
        parent = self._active.find(parent_id) or node_here()
        if parent is not None:
            self._active.remember(event_id, parent)

    # --- look-ups -----------------------------------------------------------------------------

    def match(self, kind: str, started_id: str | None, key: str | None) -> OpenSpan | None:
        """Return the open node that an end belongs to.

        CrewAI's own pairing slips when an end is missing or doubled, so kind and key decide. Looked
        for, in order: the node the event names, inside out from what is current here, up and then
        down from the named node.
        """
        named = self._active.find(started_id)
        if named is not None and _fits(named, kind, key):
            return named
        for start in (raw_node(), named):
            node = start
            while node is not None:
                if _fits(node, kind, key):
                    return node
                node = node.parent
        if named is not None:
            return _inside(named, kind, key)
        return None

    @property
    def open_count(self) -> int:
        """Number of spans that have begun and not ended."""
        return len(self._active.open)

    def find_open(self, event_id: str | None) -> OpenSpan | None:
        """Return the open node of an event id."""
        return self._active.open.get(event_id or "")

    def find_call(self, call_id: str | None) -> OpenSpan | None:
        """Return the newest node of a model call's id, open or recently closed."""
        return self._active.find_call(call_id)

    def find_ended_call(
        self, call_id: str | None, usage: Mapping[str, object] | None
    ) -> OpenSpan | None:
        """Return the ended call that an end event repeats, None for one of its own."""
        return self._correlator.find_ended(call_id, usage)

    # --- calls --------------------------------------------------------------------------------

    def hold_exchanges(self) -> None:
        """Let finished exchanges wait for their events, as these come late."""
        self._correlator.holds = True

    # --- housekeeping -------------------------------------------------------------------------

    def sweep(self, now_ns: int) -> None:
        """Abandon open spans that nobody will end any more."""
        for node in self._active.overdue(now_ns):
            self.close(node, now_ns, abandoned=True)
        self._correlator.bill_held(now_ns - HOLD_NS)

    def abandon_all(self, now_ns: int) -> None:
        """Close everything still open, innermost first, as the process is about to end."""
        # Children before parents, as a parent's end closes what is still open inside it.
        newest_first = sorted(
            self._active.open.values(),
            key=lambda node: -node.started_ns,
        )
        for node in newest_first:
            self.close(node, now_ns, abandoned=True)
        self._correlator.complete_pending()
        self._correlator.bill_held(now_ns)

    def reset_after_fork(self) -> None:
        """Draw new ids in a forked child, and leave the parent's open spans to the parent."""
        self._ids.reseed()
        self._active.clear()
        self._correlator.after_fork()

    def _close_children(self, node: OpenSpan, at_ns: int, *, abandoned: bool) -> None:
        """Close the children that end with ``node``: this thread's, and answered calls."""
        thread = threading.get_ident()
        # A copy: closing a child takes it out of the set.
        for child in list(node.children):
            if abandoned or child.thread == thread or _is_answered(child):
                self._close_inner(child, at_ns)

    def _close_inner(self, node: OpenSpan, at_ns: int) -> None:
        """Close a descendant whose own end did not come before its parent's."""
        if node.ended_ns is not None:
            return
        if node.call is None:
            self.close(node, at_ns, abandoned=True)
            return
        last_ns = _last_seen(node, default=at_ns)
        self.close(
            node,
            min(last_ns, at_ns),
        )

    def _parent(self, parent_id: str | None, kind: str, here: OpenSpan | None) -> OpenSpan | None:
        """Return the node that a new one of ``kind`` belongs under.

        It goes by event id, made more precise by ``here``, what is current.
        """
        current = here
        while current is not None and current.ended_ns is not None:
            current = current.parent
        named = self._active.find(parent_id)
        if named is None or (current is not None and current.within(named)):
            return self._above_leaves(current, kind)
        if named.ended_ns is not None and not _accepts_late(named, kind, here):
            return self._above_leaves(current, kind)
        return self._above_leaves(named, kind)

    def _above_leaves(self, node: OpenSpan | None, kind: str) -> OpenSpan | None:
        """Return the first node at or above ``node`` that may have children of ``kind``."""
        while node is not None and node.kind in _LEAVES:
            if node.ended_ns is None:
                runs_tools = node.call is not None and node.call.runs_tools
                if runs_tools and kind not in _LEAVES:
                    return node
                # CrewAI forgot to report the end of a call. What starts now proves that it is over.
                self._close_inner(
                    node,
                    _last_seen(node, default=node.started_ns),
                )
            node = node.parent
        return node


def _accepts_late(node: OpenSpan, kind: str, here: OpenSpan | None) -> bool:
    """Return True where an ended node may get a child of ``kind`` yet."""
    if kind not in _LATE_KINDS:
        return False
    run = node.run
    if run is None or run.ended_ns is None:
        return True
    return here is not None and here.run is run


def _last_seen(node: OpenSpan, default: int) -> int:
    """Return when the last exchange of a call ended (ns)."""
    if node.call is None:
        return default
    ends = [exchange.ended_ns for exchange in node.call.exchanges if exchange.ended_ns]
    return max(ends, default=default)


def _fits(node: OpenSpan, kind: str, key: str | None) -> bool:
    if node.kind != kind or node.ended_ns is not None:
        return False
    return key is None or node.key is None or node.key == key


def _inside(node: OpenSpan, kind: str, key: str | None) -> OpenSpan | None:
    """Return the newest open descendant of ``node`` that fits."""
    best: OpenSpan | None = None
    for child in list(node.children):
        found = child if _fits(child, kind, key) else _inside(child, kind, key)
        if found is not None and (best is None or found.started_ns > best.started_ns):
            best = found
    return best


def _is_answered(node: OpenSpan) -> bool:
    """Return True for a model call whose exchanges are all over, on any thread.

    CrewAI forgets to say that such a call has ended (LiteLLM with tools).
    """
    return node.call is not None and bool(node.call.exchanges) and not node.call.in_flight()
