"""Finished spans for an exporter, as an app's SDK hands them over."""

from __future__ import annotations

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from crewmeter import semconv

RUN = "00000000000000ab"


def emit_calls(exporter: SpanExporter, count: int = 1, **extra: object) -> None:
    """Send `count` finished chat spans of run `RUN` through `exporter`."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer(semconv.SCOPE)
    for _ in range(count):
        with tracer.start_as_current_span("chat gpt-4o") as span:
            span.set_attributes(
                {
                    semconv.OPERATION: "chat",
                    semconv.PROVIDER: "openai",
                    semconv.SERVER_ADDRESS: "api.openai.com",
                    semconv.REQUEST_MODEL: "gpt-4o",
                    semconv.INPUT_TOKENS: 1000,
                    semconv.OUTPUT_TOKENS: 300,
                    semconv.RUN_ID: RUN,
                    semconv.RUN_KIND: "crew",
                    semconv.RUN_NAME: "research",
                    semconv.CREW: "research",
                    semconv.KIND: "llm",
                    **extra,
                }
            )
