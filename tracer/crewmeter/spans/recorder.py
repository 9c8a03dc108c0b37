"""What started and what ended → a tree of spans. Knows nothing of CrewAI: events come in as neutral calls."""

from __future__ import annotations

import os
import random
import threading
from typing import TYPE_CHECKING
from uuid import uuid4

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState

from crewmeter import attribution, semconv
from crewmeter.spans.active_spans import ActiveSpans
from crewmeter.spans.context_propagation import enter, leave, node_here, raw_node
from crewmeter.spans.correlation import Correlator
from crewmeter.spans.span import ROOT_KINDS, OpenSpan, RunUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer
    from opentelemetry.util.types import AttributeValue

    from crewmeter.spans.model_call import ModelCall

__all__ = ["CLIENT_KINDS", "Recorder"]

HOLD_NS = 2_000_000_000
"""How long (ns) an exchange waits for its call's event where events come late."""
CLIENT_KINDS = frozenset({semconv.KIND_LLM, semconv.KIND_EMBEDDING, semconv.KIND_MCP})
_SAMPLED, _DROPPED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_NO_STATE = TraceState()
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
"""What may start after the span its event names as parent has ended: background saves and the like. A crew may not."""
_RESETS = {semconv.KIND_CREW: (semconv.TASK, semconv.AGENT_NAME)}
"""Inherited places that a kind of node begins anew: a nested crew's calls are not its caller's task."""


class Recorder:
    """Builds the tree. Every method may be called from any thread; none blocks or calls user code while holding anything."""

    def __init__(
        self,
        deliver: Callable[[OpenSpan], None],
        *,
        sampler: Sampler,
        tracer: Callable[[], Tracer | None] = lambda: None,
        base_scope: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        self.deliver = deliver
        self._sampler = sampler
        self._tracer = tracer
        self._base_scope: Mapping[str, AttributeValue] = dict(base_scope or {})
        self._random = random.Random(
            os.urandom(16)
        )  # not the global one: a seeded app would repeat its ids in every process
        self.registry = ActiveSpans()
        self.correlator = Correlator(self)

    def started(
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
        """Open a span. ``scope`` is what descendants inherit besides; ``is_run`` False keeps a root from being a run.

        With ``current`` it becomes the caller's current OpenTelemetry span until it ends.
        """
        node = OpenSpan(event_id, kind, name, at_ns, threading.get_ident())
        node.key = key
        node.call = call
        if attributes:
            node.attributes = attributes
        node.parent = self._parent(parent_id, kind)
        if kind == semconv.KIND_TASK:
            scope = _label(node, scope)
        self._identify(node)
        self._place(node, scope, is_run)
        if node.parent is not None and node.parent.ended_ns is None:
            node.parent.children.add(node)
        self.registry.add(node)
        if current:
            enter(node, self.registry.lost.append)
        return node

    def ended(
        self,
        kind: str,
        started_id: str | None,
        *,
        at_ns: int,
        key: str | None = None,
        error_type: str | None = None,
        message: str | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> OpenSpan | None:
        """Close the open span of ``kind`` this end belongs to, and what was still open inside it. None where there is none."""
        node = self.match(kind, started_id, key)
        if node is None:
            return None
        if attributes:
            node.attributes.update(attributes)
        if error_type is not None:
            node.error_type, node.message = error_type, message
        self.close(node, at_ns)
        return node

    def point(
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
        message: str | None = None,
    ) -> OpenSpan:
        """A span that is over when it is reported; ``parent``, where given, wins over ``parent_id``."""
        node = OpenSpan(
            uuid4().hex,
            kind,
            name,
            at_ns if started_ns is None else started_ns,
            threading.get_ident(),
        )
        node.call = call
        if attributes:
            node.attributes = attributes
        node.parent = parent if parent is not None else self._parent(parent_id, kind)
        self._identify(node)
        self._place(node, scope, is_run=False)
        node.error_type, node.message = error_type, message
        node.ended_ns = at_ns
        self.deliver(node)
        return node

    def hide(self, event_id: str, parent_id: str | None) -> None:
        """Make what happens under an event belong to the event's parent instead."""
        parent = self.registry.find(parent_id) or node_here()
        if parent is not None:
            self.registry.remember(event_id, parent)

    def close(self, node: OpenSpan, at_ns: int, *, abandoned: bool = False) -> None:
        """End ``node`` and whatever is open inside it; the second time does nothing."""
        if not self.registry.take(node):
            return
        node.ended_ns = max(at_ns, node.started_ns)
        node.anchor = None
        for inner in leave(node):
            self._close_inner(inner, at_ns)
        here = threading.get_ident()
        for child in list(node.children):
            if child.thread == here or abandoned or _answered(child):
                self._close_inner(child, at_ns)
        if abandoned:
            node.attributes[semconv.ABANDONED] = True
        if node.parent is not None:
            node.parent.children.discard(node)
        if node.call is None or self.correlator.settle(node):
            self.deliver(node)

    def match(self, kind: str, started_id: str | None, key: str | None) -> OpenSpan | None:
        """The open node an end belongs to. CrewAI's own pairing slips when an end is missing or doubled, so kind and key decide.

        Looked for, in order: the node the event names; inside out from what is current here; up from the named node.
        """
        named = self.registry.find(started_id)
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

    def sweep(self, now_ns: int) -> None:
        """Abandon open spans nobody will end any more."""
        for node in self.registry.overdue(now_ns):
            self.close(node, now_ns, abandoned=True)
        self.correlator.bill_held(now_ns - HOLD_NS)

    def abandon_all(self, now_ns: int) -> None:
        """Close everything still open, innermost first, as the process is about to end."""
        for node in sorted(
            self.registry.open.values(), key=lambda open_node: -open_node.started_ns
        ):
            self.close(node, now_ns, abandoned=True)
        self.correlator.match_pending()
        self.correlator.bill_held(now_ns)

    def reset_after_fork(self) -> None:
        """In a forked child: new ids, and the parent's open spans are the parent's to close."""
        self._random.seed(os.urandom(16))
        self.registry.clear()

    def _close_inner(self, node: OpenSpan, at_ns: int) -> None:
        """Close a descendant whose own end did not come before its parent's."""
        if node.ended_ns is not None:
            return
        if node.call is not None:
            last = max((exchange.ended_ns or 0 for exchange in node.call.exchanges), default=0)
            self.close(node, min(last, at_ns) if last else at_ns)
        else:
            self.close(node, at_ns, abandoned=True)

    def _parent(self, parent_id: str | None, kind: str) -> OpenSpan | None:
        """The node a new one of ``kind`` belongs under: by event id, made more precise by what is current here."""
        here = raw_node()
        current = here
        while current is not None and current.ended_ns is not None:
            current = current.parent
        named = self.registry.find(parent_id)
        if named is None or (
            current is not None and current is not named and current.within(named)
        ):
            named = current
        elif named.ended_ns is not None and named is not current:
            late = kind in _LATE_KINDS and (
                named.run is None
                or named.run.ended_ns is None
                or (here is not None and here.run is named.run)
            )
            named = named if late else current
        while named is not None and named.kind in _LEAVES:
            if named.ended_ns is None:
                if named.call is not None and named.call.runs_tools and kind not in _LEAVES:
                    return named
                # A call whose end CrewAI forgot to report: what starts now shows that it is over.
                self._close_inner(named, named.started_ns if named.call is None else _now_of(named))
            named = named.parent
        return named

    def _identify(self, node: OpenSpan) -> None:
        """Give ``node`` its ids, from the user's provider where there is one."""
        parent = node.parent
        kind = SpanKind.CLIENT if node.kind in CLIENT_KINDS else SpanKind.INTERNAL
        node.tracer = parent.tracer if parent is not None else self._tracer()
        if node.tracer is not None:
            outer = (
                trace.set_span_in_context(parent.otel_span)
                if parent is not None
                else otel_context.get_current()
            )
            span = node.tracer.start_span(node.name, outer, kind, start_time=node.started_ns)
            context = span.get_span_context()
            if context.is_valid:
                node.otel_span, node.context = span, context
                above = (
                    parent.context
                    if parent is not None
                    else trace.get_current_span(outer).get_span_context()
                )
                node.parent_context = above if above.is_valid else None
                return
        if parent is not None:
            node.parent_context = parent.context
            flags, trace_id, state = (
                parent.context.trace_flags,
                parent.context.trace_id,
                parent.context.trace_state,
            )
        else:
            above = trace.get_current_span().get_span_context()
            node.parent_context = above if above.is_valid else None
            trace_id = above.trace_id if above.is_valid else self._random.getrandbits(128) or 1
            flags, state = self._sampled(trace_id, node.name, kind, above)
        node.context = SpanContext(trace_id, self._random.getrandbits(64) or 1, False, flags, state)
        node.otel_span = NonRecordingSpan(node.context)

    def _sampled(
        self, trace_id: int, name: str, kind: SpanKind, above: SpanContext
    ) -> tuple[TraceFlags, TraceState]:
        """The sampler's word on a new root. It only marks the spans: they are exported either way."""
        if self._sampler is DEFAULT_ON and not above.is_valid:
            return _SAMPLED, _NO_STATE
        result = self._sampler.should_sample(
            otel_context.get_current(), trace_id, name, kind, {}, ()
        )
        flags = _SAMPLED if result.decision is Decision.RECORD_AND_SAMPLE else _DROPPED
        return flags, result.trace_state or _NO_STATE

    def _place(self, node: OpenSpan, adds: Mapping[str, str] | None, is_run: bool) -> None:
        """Work out what ``node`` and its descendants carry: where in the crew, and on whose account."""
        parent = node.parent
        here = attribution.current()
        if parent is not None:
            node.run = parent.run
            base = parent.scope
        else:
            base = self._base_scope
        becomes_run = node.run is None and is_run and node.kind in ROOT_KINDS
        same_account = here is None or (parent is not None and here is parent.attribution)
        node.attribution = (
            here if here is not None else (parent.attribution if parent is not None else None)
        )
        if not adds and same_account and not becomes_run:
            node.scope = base
            return
        scope = dict(base)
        for name in _RESETS.get(node.kind, ()):
            scope.pop(name, None)
        if here is not None:
            scope.update(here)
        if adds:
            scope.update(adds)
        if becomes_run:
            node.run = node
            node.run_usage = RunUsage()
            scope[semconv.RUN_ID] = f"{node.context.span_id:016x}"
            scope[semconv.RUN_KIND] = node.kind
            scope[semconv.RUN_NAME] = (adds or {}).get(_RUN_NAME.get(node.kind, ""), node.name)
        node.scope = scope


_RUN_NAME = {
    semconv.KIND_CREW: semconv.CREW,
    semconv.KIND_FLOW: semconv.FLOW,
    semconv.KIND_AGENT: semconv.AGENT_NAME,
    semconv.KIND_TRAIN: semconv.CREW,
    semconv.KIND_TEST: semconv.CREW,
}


def _label(node: OpenSpan, scope: Mapping[str, str] | None) -> dict[str, str]:
    """A task's name: its own, else its number in the crew. Renames ``node`` accordingly."""
    label = (scope or {}).get(semconv.TASK)
    if not label:
        crew = node.parent.nearest(semconv.KIND_CREW) if node.parent is not None else None
        label = (crew.labels or {}).get(node.key or "", "task") if crew is not None else "task"
    node.name = label if label.startswith("task") else f"task {label}"
    return {semconv.TASK: label}


def _now_of(node: OpenSpan) -> int:
    """When a call without a reported end was last seen alive: its last exchange's end, else its start."""
    call = node.call
    ends = (
        [exchange.ended_ns for exchange in call.exchanges if exchange.ended_ns]
        if call is not None
        else []
    )
    return max(ends, default=node.started_ns)


def _fits(node: OpenSpan, kind: str, key: str | None) -> bool:
    return (
        node.kind == kind
        and node.ended_ns is None
        and (key is None or node.key is None or node.key == key)
    )


def _inside(node: OpenSpan, kind: str, key: str | None) -> OpenSpan | None:
    """The newest open descendant of ``node`` that fits."""
    best: OpenSpan | None = None
    for child in list(node.children):
        found = child if _fits(child, kind, key) else _inside(child, kind, key)
        if found is not None and (best is None or found.started_ns > best.started_ns):
            best = found
    return best


def _answered(node: OpenSpan) -> bool:
    """True for a model call whose exchanges are all over: CrewAI forgot to say that it ended (LiteLLM with tools), on any thread."""
    return node.call is not None and bool(node.call.exchanges) and not node.call.in_flight()
