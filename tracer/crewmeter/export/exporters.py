"""Span exporters by name, through their entry points.

They are made on a background thread, because importing one may take a second.
"""

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
"""The beginning of the names of our threads."""
_CHATTY = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
)

GROUP = "opentelemetry_traces_exporter"
_OTLP_MODULE = "opentelemetry.exporter.otlp"


def hush_exporters() -> Callable[[], None]:
    """Keep the OTLP exporters from logging every attempt on our threads.

    The batch processor reports a dead endpoint once a minute. Returns the function that undoes it.
    """

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
    """Make the exporter of the entry point ``name``.

    Raises:
        LookupError: There is no such entry point. The message names those installed.
    """
    if name == OTLP:
        return _otlp(settings)
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        installed = ", ".join(sorted(found))
        raise LookupError(
            f"no span exporter {name!r} is installed (OTEL_TRACES_EXPORTER); there are: {installed}"
        )
    exporter_class = found[name].load()
    arguments = {}
    if name == EMBEDDED and settings.ledger is not None:
        arguments["ledger"] = settings.ledger
    exporter: SpanExporter = exporter_class(**arguments)
    return exporter


def _otlp(settings: TracerSettings) -> SpanExporter:
    """Make the OTLP exporter of the configured protocol.

    Without an ``endpoint=`` it reads the ``OTEL_EXPORTER_OTLP_*`` variables itself.
    """
    endpoint = settings.endpoint
    headers = dict(settings.headers) or None
    if settings.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter(endpoint=endpoint, headers=headers)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
        OTLPSpanExporter as HttpExporter,
    )

    if endpoint is not None:
        endpoint = signal_url(endpoint, "traces")
    return HttpExporter(endpoint=endpoint, headers=headers)


def signal_url(endpoint: str, signal: str) -> str:
    """Return the URL of one signal below an OTLP/HTTP base URL.

    It is the URL itself if that names the signal already.
    """
    base = endpoint.rstrip("/")
    path = f"/v1/{signal}"
    if base.endswith(path):
        return base
    return base + path


def exports_otlp(provider: TracerProvider) -> bool:
    """Return True where the user's provider seems to have an OTLP exporter of its own."""
    processors = getattr(
        getattr(provider, "_active_span_processor", None),
        "_span_processors",
        (),
    )
    for processor in processors:
        simple = getattr(processor, "span_exporter", None)
        batch = getattr(processor, "_batch_processor", None)
        batched = getattr(batch, "_exporter", None)
        for exporter in (simple, batched):
            if type(exporter).__module__.startswith(_OTLP_MODULE):
                return True
    return False
