"""A finished node as the span that OpenTelemetry exporters take."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode

from crewmeter import semconv
from crewmeter.export.genai_names import named_attributes, span_name
from crewmeter.spans.call_attributes import call_values
from crewmeter.spans.span import CLIENT_KINDS
from crewmeter.spans.span_attributes import span_attributes
from crewmeter.version import version

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import AttributeValue

    from crewmeter.semconv.generations import Emitted
    from crewmeter.spans.span import OpenSpan

__all__ = [
    "attributes_of",
    "final_attributes",
    "final_values",
    "readable",
    "renew_lock",
    "status_of",
]

_OK = Status(StatusCode.UNSET)
_scope = InstrumentationScope(semconv.SCOPE, version())
_lock = threading.Lock()


def renew_lock() -> None:
    """Make a new lock in a forked child.

    Another thread may have held the old one at the fork, and would hold it for ever.
    """
    global _lock
    _lock = threading.Lock()


def final_values(node: OpenSpan) -> tuple[Any, ...] | None:
    """Return the values of a finished call, read once, None for any other node."""
    if node.call_values is None and node.call is not None:
        node.call_values = call_values(node.call, node)
    return node.call_values


def attributes_of(node: OpenSpan) -> dict[str, AttributeValue]:
    """Return all attributes of a finished node as they are now."""
    return _attributes(
        node,
        call_values(node.call, node) if node.call is not None else None,
    )


def final_attributes(node: OpenSpan) -> dict[str, AttributeValue]:
    """Return the attributes of a node that will not change any more, made once."""
    if node.final_attributes is None:
        node.final_attributes = _attributes(node, final_values(node))
    return node.final_attributes


def _attributes(node: OpenSpan, values: tuple[Any, ...] | None) -> dict[str, AttributeValue]:
    return span_attributes(
        node.kind,
        node.scope,
        node.attributes,
        values,
        error_type=node.error_type,
        sampled=node.context.trace_flags.sampled,
    )


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
