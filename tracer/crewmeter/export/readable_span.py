"""A finished node → the span OpenTelemetry exporters take. Runs on the export thread, away from the app's."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode

from crewmeter import semconv
from crewmeter.spans.model_call import call_attributes
from crewmeter.version import version

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import AttributeValue

    from crewmeter.spans.span import OpenSpan

__all__ = ["attributes_of", "readable", "status_of"]

_CLIENT = frozenset({semconv.KIND_LLM, semconv.KIND_EMBEDDING, semconv.KIND_MCP})
_OK = Status(StatusCode.UNSET)
_scope = InstrumentationScope(semconv.SCOPE, version())
_lock = threading.Lock()


def attributes_of(node: OpenSpan) -> dict[str, AttributeValue]:
    """All attributes of a finished node: where it is, what it is, and for a call what it used."""
    attributes: dict[str, AttributeValue] = {
        semconv.KIND: node.kind,
        **node.scope,
        **node.attributes,
    }
    if node.call is not None:
        attributes.update(call_attributes(node.call, node))
    if node.error_type is not None:
        attributes[semconv.ERROR_TYPE] = node.error_type
    if not node.context.trace_flags.sampled:
        attributes[semconv.SAMPLED_OUT] = (
            True  # OTLP's flags don't tell; the collector keeps it from the trace back end
        )
    return attributes


def status_of(node: OpenSpan) -> Status:
    """Error where something failed, with the (scrubbed) message only if content is captured."""
    return _OK if node.error_type is None else Status(StatusCode.ERROR, node.message)


def readable(node: OpenSpan, resource: Resource) -> ReadableSpan:
    """``node`` as a span. Made once; afterwards the node keeps only what its children may still need."""
    with _lock:
        if node.readable is None:
            node.readable = ReadableSpan(
                name=node.name,
                context=node.context,
                parent=node.parent_context,
                resource=resource,
                attributes=attributes_of(node),
                kind=SpanKind.CLIENT if node.kind in _CLIENT else SpanKind.INTERNAL,
                status=status_of(node),
                start_time=node.started_ns,
                end_time=node.ended_ns,
                instrumentation_scope=_scope,
            )
        return node.readable
