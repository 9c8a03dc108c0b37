"""OTLP requests as an app under crewmeter sends them.

They are made by hand, so that every id and every secret is known.
"""

from __future__ import annotations

import itertools
import os
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from crewmeter import semconv

_ids = itertools.count(1)


def pair(key: str, value: object) -> KeyValue:
    """An OTLP attribute."""
    match value:
        case bool():
            return KeyValue(key=key, value=AnyValue(bool_value=value))
        case int():
            return KeyValue(key=key, value=AnyValue(int_value=value))
        case _:
            return KeyValue(key=key, value=AnyValue(string_value=str(value)))


def run(
    calls: int,
    *,
    error: bool = False,
    extra: dict[str, object] | None = None,
    others: int = 0,
    scope: str = semconv.SCOPE,
) -> tuple[bytes, set[str]]:
    """One run of a crew as one OTLP request.

    Its root, `calls` billed calls, `others` spans of a database. Also the ids of the calls.
    """
    trace = os.urandom(16)
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(pair(semconv.SERVICE_NAME, "shop"))
    spans = resource.scope_spans.add()
    spans.scope.name = scope
    now = time.time_ns()
    root = _span(
        trace,
        b"",
        "invoke_workflow crew",
        now,
        {semconv.KIND: semconv.KIND_CREW, semconv.CREW: "crew"},
    )
    if error:
        root.status.code = 2
    context = {
        semconv.RUN_ID: root.span_id.hex(),
        semconv.RUN_KIND: semconv.KIND_CREW,
        semconv.RUN_NAME: "crew",
        semconv.CREW: "crew",
    }
    root.attributes.extend(
        pair(key, value) for key, value in context.items() if key != semconv.CREW
    )
    billed = [
        _span(trace, root.span_id, "chat gpt-4o-mini", now, context | _CALL | (extra or {}))
        for _ in range(calls)
    ]
    foreign = [
        _span(trace, root.span_id, "SELECT", now, {"db.system": "postgresql"})
        for _ in range(others)
    ]
    spans.spans.extend([*billed, *foreign, root])
    return request.SerializeToString(), {span.span_id.hex() for span in billed}


_CALL = {
    semconv.OPERATION: semconv.CHAT,
    semconv.KIND: semconv.KIND_LLM,
    semconv.PROVIDER: "openai",
    semconv.REQUEST_MODEL: "gpt-4o-mini",
    semconv.RESPONSE_MODEL: "gpt-4o-mini",
    semconv.INPUT_TOKENS: 1000,
    semconv.OUTPUT_TOKENS: 500,
    semconv.USAGE_STATUS: "reported",
}


def _span(
    trace: bytes, parent: bytes, name: str, ended: int, attributes: dict[str, object]
) -> Span:
    span = Span(
        trace_id=trace,
        span_id=next(_ids).to_bytes(4, "big") + os.urandom(4),
        parent_span_id=parent,
        name=name,
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=ended - 250_000_000,
        end_time_unix_nano=ended,
    )
    span.attributes.extend(pair(key, value) for key, value in attributes.items())
    return span
