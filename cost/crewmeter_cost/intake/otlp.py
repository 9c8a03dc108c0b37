"""OTLP trace requests → `Span`s: protobuf (as gRPC and HTTP carry it) and JSON, with what had to be refused and why."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from crewmeter_cost.intake.clock import plausible
from crewmeter_cost.records import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

__all__ = ["BATCH_LIMIT", "BadRequest", "Batch", "from_protobuf", "spans_of"]

BATCH_LIMIT = 50_000
"""Spans read of one request; further ones are refused. SDKs send 512, collectors 8,192."""
ATTRIBUTE_LIMIT = 1_024
"""Attributes read of one span or resource. SDKs stop at 128."""
DEPTH_LIMIT = 8
"""Levels of lists and maps read inside one attribute; deeper ones read as None."""
NO_TRACE = b"\0" * 16
NO_SPAN = b"\0" * 8


class BadRequest(ValueError):
    """The body is not an OTLP trace request; the message says what is wrong with it, for the sender."""


@dataclass(slots=True)
class Batch:
    """The spans of one request, and those refused by reason (`reason → count`)."""

    spans: list[Span] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def from_protobuf(body: bytes, *, now_ns: int | None = None) -> Batch:
    """Read a serialised ``ExportTraceServiceRequest``. Raises `BadRequest` where the bytes are something else."""
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise BadRequest("the body is not a protobuf ExportTraceServiceRequest (truncated, or of another type)") from None
    return read_request(request, now_ns=now_ns)


def spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    """The spans of a decoded request, leaving out what `read_request` refuses."""
    return read_request(request).spans


def read_request(request: ExportTraceServiceRequest, *, now_ns: int | None = None) -> Batch:
    """The spans of a decoded request. Refused: spans without valid ids, and those past `BATCH_LIMIT`."""
    now = time.time_ns() if now_ns is None else now_ns
    batch = Batch()
    for group in request.resource_spans:
        resource = attributes_of(group.resource.attributes)
        for scoped in group.scope_spans:
            scope = scoped.scope.name
            for span in scoped.spans:
                _take(batch, span, resource, scope, now)
    return batch


def _take(batch: Batch, span: OtlpSpan, resource: Mapping[str, object], scope: str, now_ns: int) -> None:
    trace_id, span_id, parent = span.trace_id, span.span_id, span.parent_span_id
    if len(trace_id) != 16 or len(span_id) != 8 or trace_id == NO_TRACE or span_id == NO_SPAN:
        batch.refused["no valid trace id and span id"] += 1
        return
    if len(batch.spans) >= BATCH_LIMIT:
        batch.refused[f"more than {BATCH_LIMIT} spans in one request"] += 1
        return
    started, ended = plausible(span.start_time_unix_nano, span.end_time_unix_nano, now_ns)
    batch.spans.append(
        Span(
            trace_id.hex(),
            span_id.hex(),
            parent.hex() if len(parent) == 8 and parent != NO_SPAN else None,
            span.name,
            started,
            ended,
            span.status.code == Status.STATUS_CODE_ERROR,
            attributes_of(span.attributes),
            resource,
            scope,
            span.status.message,
        )
    )


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, object]:
    """Protobuf attributes as a plain dict; a key that stands twice keeps its last value."""
    found: dict[str, object] = {}
    for pair in pairs:
        value = pair.value
        kind = value.WhichOneof("value")
        if kind == "string_value":
            found[pair.key] = value.string_value
        elif kind == "int_value":
            found[pair.key] = value.int_value
        elif kind is not None:
            found[pair.key] = _value(value, DEPTH_LIMIT)
        if len(found) >= ATTRIBUTE_LIMIT:
            break
    return found


def _value(value: AnyValue, depth: int) -> object:
    """One protobuf value as plain Python; bytes as hex text."""
    kind = value.WhichOneof("value")
    if kind is None or depth == 0:
        return None
    if kind == "array_value":
        return [_value(item, depth - 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value, depth - 1) for pair in value.kvlist_value.values}
    plain = getattr(value, kind)
    return plain.hex() if isinstance(plain, bytes) else plain
