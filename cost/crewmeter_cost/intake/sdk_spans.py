"""OpenTelemetry SDK spans, read without a detour through OTLP bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.trace import StatusCode

from crewmeter_cost.records import Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["span_of"]


def span_of(readable: ReadableSpan) -> Span | None:
    """Return a finished SDK span as a `Span`.

    None for one without ids or without a start, which no ledger row could hold.

    A span that never ended counts as ended when it started.
    """
    context = readable.get_span_context()
    started = readable.start_time
    if context is None or started is None or not context.is_valid:
        return None
    parent = readable.parent
    parent_span_id = None if parent is None else format(parent.span_id, "016x")
    scope = readable.instrumentation_scope
    named = ("", "") if scope is None else (scope.name, scope.version or "")
    return Span(
        trace_id=format(context.trace_id, "032x"),
        span_id=format(context.span_id, "016x"),
        parent_span_id=parent_span_id,
        name=readable.name,
        started_ns=started,
        ended_ns=max(readable.end_time or started, started),
        error=readable.status.status_code is StatusCode.ERROR,
        # A plain dict: the SDK's mapping looks up many times slower.
        attributes=dict(readable.attributes or {}),
        resource=_resource(readable.resource),
        scope=named[0],
        status_message=readable.status.description or "",
        scope_version=named[1],
    )


_last: tuple[Resource | None, Mapping[str, object]] = (None, {})


def _resource(resource: Resource) -> Mapping[str, object]:
    """Return the resource's attributes as a plain dict.

    Nearly always that of the last span: a process has one resource.
    """
    global _last
    known, attributes = _last
    if known is not resource:
        attributes = dict(resource.attributes)
        _last = (resource, attributes)
    return attributes
