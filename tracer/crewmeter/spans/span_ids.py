"""Trace and span ids of new nodes, and the sampler's decision on new roots."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState

from crewmeter.spans.context_propagation import outer_span
from crewmeter.spans.span import CLIENT_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer

    from crewmeter.spans.span import OpenSpan

__all__ = ["SpanIds"]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_DROPPED = TraceFlags(TraceFlags.DEFAULT)
_NO_STATE = TraceState()


class SpanIds:
    """The source of ids: the user's tracer, else our own random numbers."""

    def __init__(self, sampler: Sampler, tracer: Callable[[], Tracer | None]) -> None:
        self._sampler = sampler
        self._tracer = tracer
        # Not the global generator: a seeded app would repeat its ids in every process.
        self._random = random.Random(os.urandom(16))

    def assign(self, node: OpenSpan, context: Context) -> None:
        """Give ``node``, whose parent is set, its ids. ``context`` is the current one."""
        parent = node.parent
        tracer = parent.tracer if parent is not None else self._tracer()
        if tracer is not None:
            node.tracer = tracer
            if self._assign_from(tracer, node, context):
                return
        if parent is None:
            trace_id, flags, state = self._root(node, context)
        else:
            above = node.parent_context = parent.context
            if _HAS_SIX_FIELDS:
                trace_id, _, _, flags, state, _ = above
            else:
                trace_id, flags, state = _inherited(above)
        span_id = self._random.getrandbits(64) or 1
        node.context = _span_context(trace_id, span_id, flags, state)
        node.otel_span = NonRecordingSpan(node.context)

    def reseed(self) -> None:
        """Draw other ids in a forked child than its parent does."""
        self._random.seed(os.urandom(16))

    def _assign_from(self, tracer: Tracer, node: OpenSpan, here: Context) -> bool:
        """Start a span of the user's provider. Return False where it has no ids to give."""
        parent = node.parent
        outer = trace.set_span_in_context(parent.otel_span) if parent is not None else here
        span = tracer.start_span(
            node.name,
            outer,
            _kind(node),
            start_time=node.started_ns,
        )
        context = span.get_span_context()
        if not context.is_valid:
            return False
        node.otel_span = span
        node.context = context
        if parent is not None:
            above = parent.context
        else:
            above = trace.get_current_span(outer).get_span_context()
        node.parent_context = above if above.is_valid else None
        return True

    def _root(self, node: OpenSpan, here: Context) -> tuple[int, TraceFlags, TraceState]:
        """Return (trace id, flags, state) of a root, below the app's current span, if any."""
        outer = outer_span(here)
        if outer is None and self._sampler is DEFAULT_ON:
            return self._random.getrandbits(128) or 1, _SAMPLED, _NO_STATE
        above = outer.get_span_context() if outer is not None else None
        if above is not None and above.is_valid:
            node.parent_context = above
            trace_id = above.trace_id
        else:
            node.parent_context = None
            trace_id = self._random.getrandbits(128) or 1
            if self._sampler is DEFAULT_ON:
                return trace_id, _SAMPLED, _NO_STATE
        # The sampler only marks spans. They are exported either way.
        result = self._sampler.should_sample(here, trace_id, node.name, _kind(node), {}, ())
        flags = _SAMPLED if result.decision is Decision.RECORD_AND_SAMPLE else _DROPPED
        return trace_id, flags, result.trace_state or _NO_STATE


def _inherited(above: SpanContext) -> tuple[int, TraceFlags, TraceState]:
    return above.trace_id, above.trace_flags, above.trace_state


def _span_context(trace_id: int, span_id: int, flags: TraceFlags, state: TraceState) -> SpanContext:
    """Return a valid context.

    Its own constructor checks the ids first, which takes as long.
    """
    if not _HAS_SIX_FIELDS:
        return SpanContext(trace_id, span_id, False, flags, state)
    return tuple.__new__(SpanContext, (trace_id, span_id, False, flags, state, True))


_HAS_SIX_FIELDS = tuple(SpanContext(1, 2, False, _SAMPLED, _NO_STATE)) == (
    1,
    2,
    False,
    _SAMPLED,
    _NO_STATE,
    True,
)
"""Whether this OpenTelemetry's contexts are the tuples that are made and read here."""


def _kind(node: OpenSpan) -> SpanKind:
    if node.kind in CLIENT_KINDS:
        return SpanKind.CLIENT
    return SpanKind.INTERNAL
