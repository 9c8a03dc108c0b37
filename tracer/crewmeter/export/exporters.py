"""Span exporters by name, through their entry points: made on a background thread, as importing one may take a second."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from crewmeter.settings import EMBEDDED, OTLP

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.settings import TracerSettings

__all__ = [
    "GROUP",
    "THREAD_PREFIX",
    "exports_otlp",
    "hush_exporters",
    "make_exporter",
    "signal_url",
]

THREAD_PREFIX = "crewmeter-"
"""How the names of our own threads begin."""
_CHATTY = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
)

GROUP = "opentelemetry_traces_exporter"
_OTLP_MODULE = "opentelemetry.exporter.otlp"


def hush_exporters() -> Callable[[], None]:
    """Keep the OTLP exporters from logging every attempt made on our threads: couriers say it once. Returns what undoes it."""

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return not (record.threadName or "").startswith(THREAD_PREFIX)

    loggers = [logging.getLogger(name) for name in _CHATTY]
    for chatty in loggers:
        chatty.addFilter(from_elsewhere)

    def undo() -> None:
        for chatty in loggers:
            chatty.removeFilter(from_elsewhere)

    return undo


def make_exporter(name: str, settings: TracerSettings) -> SpanExporter:
    """The exporter the entry point ``name`` stands for. Raises LookupError, naming what is installed, if there is none."""
    if name == OTLP:
        return _otlp(settings)
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise LookupError(
            f"no span exporter {name!r} is installed (OTEL_TRACES_EXPORTER); there are: {', '.join(sorted(found))}"
        )
    exporter = found[name].load()
    made: SpanExporter = (
        exporter(ledger=settings.ledger)
        if name == EMBEDDED and settings.ledger is not None
        else exporter()
    )
    return made


def _otlp(settings: TracerSettings) -> SpanExporter:
    """The OTLP exporter of the protocol asked for; without an ``endpoint=`` it reads the ``OTEL_EXPORTER_OTLP_*`` variables itself."""
    endpoint, headers = settings.endpoint, dict(settings.headers) or None
    if settings.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter(endpoint=endpoint, headers=headers)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
        OTLPSpanExporter as HttpExporter,
    )

    return HttpExporter(
        endpoint=None if endpoint is None else signal_url(endpoint, "traces"), headers=headers
    )


def signal_url(endpoint: str, signal: str) -> str:
    """The URL of one signal below an OTLP/HTTP base URL (or the URL itself, if it names the signal already)."""
    base = endpoint.rstrip("/")
    return base if base.endswith(f"/v1/{signal}") else f"{base}/v1/{signal}"


def exports_otlp(provider: TracerProvider) -> bool:
    """True where the user's provider has an OTLP exporter of its own, as far as one can see."""
    processors = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    for processor in processors:
        batch = getattr(processor, "_batch_processor", None)
        for exporter in (
            getattr(processor, "span_exporter", None),
            getattr(batch, "_exporter", None),
        ):
            if type(exporter).__module__.startswith(_OTLP_MODULE):
                return True
    return False
