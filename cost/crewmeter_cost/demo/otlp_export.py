"""Sample data sent over OTLP, to whatever the standard ``OTEL_*`` variables name."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from crewmeter_cost.demo.history.runs_by_day import history
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter_cost.records import Span

__all__ = ["otlp_endpoint", "send_history"]

_BATCH = 512
"""Spans a request: what a batch processor sends by default."""


def otlp_endpoint(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return where traces go by the standard variables, None where they say nothing."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if endpoint := environ.get(name, "").strip():
            return endpoint
    return None


def send_history(
    *,
    days: int,
    seed: int,
    until: datetime,
    calls_per_day: int,
    progress: Callable[[float], None] = lambda done: None,
) -> int:
    """Send the sample data of the `days` days before `until`.

    Returns the number of spans.

    Raises `CrewMeterError` where the endpoint does not take them.
    """
    exporter = _exporter()
    resources: dict[tuple[tuple[str, str], ...], Resource] = {}
    end_ns = int(until.timestamp() * 1e9)
    length_ns = days * 86_400 * 10**9
    stream = history(days, seed, until, calls_per_day=calls_per_day)
    sent = 0
    try:
        while batch := list(islice(stream, _BATCH)):
            result = exporter.export([_readable(span, resources) for span in batch])
            if result.name != "SUCCESS":
                raise CrewMeterError(
                    f"{otlp_endpoint()} did not take the spans ({sent:,} were sent before)",
                    hint="check the endpoint with `crewmeter doctor`",
                    exit_code=1,
                )
            sent += len(batch)
            progress(1 - (end_ns - batch[-1].started_ns) / length_ns)
    finally:
        exporter.shutdown()
    progress(1.0)
    return sent


def _exporter() -> SpanExporter:
    """Return the exporter of the protocol that the variables name, by default HTTP."""
    variables = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next(
        (os.environ[name] for name in variables if os.environ.get(name)),
        "",
    )
    if protocol.strip() == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_exporter

        return grpc_exporter.OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_exporter

    return http_exporter.OTLPSpanExporter()


def _readable(span: Span, resources: dict[tuple[tuple[str, str], ...], Resource]) -> ReadableSpan:
    """Return a span as the SDK's exporters take it.

    Spans of one service share a resource.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    def context(span_id: str) -> SpanContext:
        sampled = TraceFlags(TraceFlags.SAMPLED)
        trace_id = int(span.trace_id, 16)
        return SpanContext(
            trace_id,
            int(span_id, 16),
            is_remote=False,
            trace_flags=sampled,
        )

    named = tuple(sorted((key, str(value)) for key, value in span.resource.items()))
    resource = resources.setdefault(
        named,
        Resource(dict(named)),
    )
    status = (
        Status(
            StatusCode.ERROR,
            span.status_message or None,
        )
        if span.error
        else Status()
    )
    return ReadableSpan(
        name=span.name,
        context=context(span.span_id),
        parent=None if span.parent_span_id is None else context(span.parent_span_id),
        resource=resource,
        attributes=span.attributes,  # type: ignore[arg-type]  # plain values, as the tracer's own
        start_time=span.started_ns,
        end_time=span.ended_ns,
        status=status,
        instrumentation_scope=InstrumentationScope(span.scope),
    )
