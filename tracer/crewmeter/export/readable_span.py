"""A finished node as the span that OpenTelemetry exporters take."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode

from crewmeter import semconv
from crewmeter.export.genai_names import named_attributes, span_name
from crewmeter.spans.call_attributes import call_attributes
from crewmeter.spans.span import CLIENT_KINDS
from crewmeter.version import version

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import AttributeValue

    from crewmeter.semconv.generations import Emitted
    from crewmeter.spans.span import OpenSpan

__all__ = ["attributes_of", "final_attributes", "readable", "status_of"]

_OK = Status(StatusCode.UNSET)
_scope = InstrumentationScope(semconv.SCOPE, version())
_lock = threading.Lock()


def attributes_of(node: OpenSpan) -> dict[str, AttributeValue]:
    """Return all attributes of a finished node: its context, kind, and a call's usage."""
    attributes: dict[str, AttributeValue] = {semconv.KIND: node.kind}
    attributes.update(node.scope)
    attributes.update(node.attributes)
    if node.call is not None:
        attributes.update(call_attributes(node.call, node))
    if node.error_type is not None:
        attributes[semconv.ERROR_TYPE] = node.error_type
    if not node.context.trace_flags.sampled:
        # OTLP's flags do not say it. The collector reads this to drop the span from traces.
        attributes[semconv.SAMPLED_OUT] = True
    return attributes


def final_attributes(node: OpenSpan) -> dict[str, AttributeValue]:
    """Return the attributes of a node that will not change any more, read once."""
    if node.final_attributes is None:
        node.final_attributes = attributes_of(node)
    return node.final_attributes


def status_of(node: OpenSpan) -> Status:
    """Return ERROR where something failed, with the message if content is captured."""
    if node.error_type is None:
        return _OK
    return Status(StatusCode.ERROR, node.message)


def readable(node: OpenSpan, resource: Resource, emitted: Emitted) -> ReadableSpan:
    """Return ``node`` as a span, made at the first call and the same afterwards.

    Its names are those of the conventions' generations in ``emitted``.
    """
    if node.readable is not None:
        return node.readable
    with _lock:
        if node.readable is None:
            kind = SpanKind.CLIENT if node.kind in CLIENT_KINDS else SpanKind.INTERNAL
            attributes = final_attributes(node)
            node.readable = ReadableSpan(
                name=span_name(node.name, attributes, emitted),
                context=node.context,
                parent=node.parent_context,
                resource=resource,
                attributes=named_attributes(node.name, attributes, emitted),
                events=[Event(name, given, at_ns) for name, given, at_ns in node.events],
                kind=kind,
                status=status_of(node),
                start_time=node.started_ns,
                end_time=node.ended_ns,
                instrumentation_scope=_scope,
            )
        return node.readable
