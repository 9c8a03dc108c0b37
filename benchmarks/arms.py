"""Ways to observe a CrewAI app: none, crewmeter, its peers, each started as its documentation says.

Runs in an environment that may have nothing but CrewAI and the one observer. Every observer exports
to `BENCH_SINK`, a server on loopback.
"""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["ARMS", "start"]

Flush = Callable[[], object]


def _sink() -> str:
    return os.environ["BENCH_SINK"]


def _exporting_provider():
    """Return a tracer provider that exports to the sink in batches."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"{_sink()}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _bare() -> Flush:
    return lambda: None


def _crewmeter() -> Flush:
    import crewmeter

    return crewmeter.instrument(summary=False).flush


def _crewmeter_otlp() -> Flush:
    import crewmeter

    os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    return crewmeter.instrument(summary=False, endpoint=_sink()).flush


def _openinference() -> Flush:
    from openinference.instrumentation.crewai import CrewAIInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider = _exporting_provider()
    CrewAIInstrumentor().instrument(tracer_provider=provider)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return provider.force_flush


def _openllmetry() -> Flush:
    from opentelemetry import trace
    from traceloop.sdk import Traceloop

    os.environ["TRACELOOP_TELEMETRY"] = "false"
    Traceloop.init(app_name="bench", api_endpoint=_sink(), api_key="none", disable_batch=False)
    return lambda: trace.get_tracer_provider().force_flush()


def _openlit() -> Flush:
    import openlit
    from opentelemetry import trace

    openlit.init(otlp_endpoint=_sink(), application_name="bench", disable_batch=False)
    return lambda: trace.get_tracer_provider().force_flush()


def _langfuse() -> Flush:
    from langfuse import Langfuse
    from openinference.instrumentation.crewai import CrewAIInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor

    client = Langfuse(public_key="pk-bench", secret_key="sk-bench", host=_sink())
    CrewAIInstrumentor().instrument(skip_dep_check=True)
    OpenAIInstrumentor().instrument(skip_dep_check=True)
    return client.flush


def _logfire() -> Flush:
    import logfire

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = _sink()
    logfire.configure(send_to_logfire=False, console=False, service_name="bench")
    logfire.instrument_openai()
    return logfire.force_flush


def _mlflow() -> Flush:
    import mlflow

    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{_sink()}/v1/traces"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    mlflow.openai.autolog()
    mlflow.crewai.autolog()
    return mlflow.flush_trace_async_logging


def _crewai_tracing() -> Flush:
    return lambda: None  # switched on by variables that CrewAI reads at its import


# Name on the command line: how to start it. Each returns what flushes it.
ARMS: dict[str, Callable[[], Flush]] = {
    "bare": _bare,
    "crewmeter": _crewmeter,
    "crewmeter-otlp": _crewmeter_otlp,
    "openinference": _openinference,
    "openllmetry": _openllmetry,
    "openlit": _openlit,
    "langfuse": _langfuse,
    "logfire": _logfire,
    "mlflow": _mlflow,
    "crewai-tracing": _crewai_tracing,
}


def start(name: str) -> Flush:
    """Start an observer, and return what sends all it has."""
    return ARMS[name]()
