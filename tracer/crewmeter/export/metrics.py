"""The client metrics of the GenAI conventions.

They are recorded where the app has a meter provider, or an OTLP endpoint is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import metrics as otel_metrics

from crewmeter import semconv
from crewmeter.export.exporters import signal_url
from crewmeter.version import version

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import Histogram
    from opentelemetry.sdk.resources import Resource

    from crewmeter.settings import TracerSettings
    from crewmeter.spans.span import OpenSpan

__all__ = ["DURATION_BUCKETS_S", "TOKEN_BUCKETS", "ClientMetrics"]

DURATION_BUCKETS_S = tuple(0.01 * 2**power for power in range(14))
"""0.01 s to 81.92 s, doubling, as the conventions advise."""
TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
"""1 to 67,108,864 tokens, times four, as the conventions advise."""
FIRST_CHUNK_BUCKETS_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)
_LABELS = (
    semconv.OPERATION,
    semconv.PROVIDER,
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.ERROR_TYPE,
)


class _Instruments:
    """The three histograms of one meter provider."""

    def __init__(self, provider: Any) -> None:
        meter = provider.get_meter(semconv.SCOPE, version())
        self.duration = _histogram(
            meter,
            semconv.METRIC_OPERATION_DURATION,
            "s",
            "Duration of a model operation",
            DURATION_BUCKETS_S,
        )
        self.tokens = _histogram(
            meter,
            semconv.METRIC_TOKEN_USAGE,
            "{token}",
            "Tokens used by a model operation",
            TOKEN_BUCKETS,
        )
        self.first_chunk = _histogram(
            meter,
            semconv.METRIC_TIME_TO_FIRST_CHUNK,
            "s",
            "Time to the first streamed chunk",
            FIRST_CHUNK_BUCKETS_S,
        )


class ClientMetrics:
    """The recorder of billed spans, idle without a provider and an endpoint."""

    def __init__(self, settings: TracerSettings, resource: Callable[[], Resource]) -> None:
        self._settings = settings
        self._resource = resource
        self._seen: object = None
        self._instruments: _Instruments | None = None
        self._own: Any = None

    def record(self, node: OpenSpan) -> None:
        """Count one finished span if it is a model operation."""
        if node.call is None or node.readable is None or node.ended_ns is None:
            return
        instruments = self._current()
        if instruments is None:
            return
        attributes = node.readable.attributes or {}
        labels = {name: attributes[name] for name in _LABELS if name in attributes}
        instruments.duration.record(
            (node.ended_ns - node.started_ns) / 1e9,
            labels,
        )
        for kind, name in (("input", semconv.INPUT_TOKENS), ("output", semconv.OUTPUT_TOKENS)):
            count = attributes.get(name)
            if isinstance(count, int):
                instruments.tokens.record(
                    count,
                    {**labels, semconv.TOKEN_TYPE: kind},
                )
        first = attributes.get(semconv.TIME_TO_FIRST_TOKEN)
        if isinstance(first, float):
            instruments.first_chunk.record(first, labels)

    def close(self) -> None:
        """Export what is collected and stop, if the provider is ours."""
        own = self._own
        self._own = None
        if own is not None:
            own.shutdown()

    def after_fork(self) -> None:
        """Let a forked child make a provider of its own.

        The SDK's reader of the parent's provider would have no thread here.
        """
        self._seen = self._instruments = self._own = None

    def _current(self) -> _Instruments | None:
        """Return instruments of the app's meter provider, else of our own, else None."""
        provider: Any = otel_metrics.get_meter_provider()
        if provider is self._seen:
            return self._instruments
        self._seen = provider
        if type(provider).__module__.startswith("opentelemetry.metrics"):
            # The API's proxy: the app has set none.
            provider = self._own_provider()
        self._instruments = _Instruments(provider) if provider is not None else None
        return self._instruments

    def _own_provider(self) -> Any:
        """Return a provider of our own where an endpoint is configured, else None."""
        if self._settings.metrics:
            self._own = _provider(
                self._settings,
                self._resource(),
            )
        return self._own


def _histogram(
    meter: Any, name: str, unit: str, description: str, buckets: tuple[float, ...]
) -> Histogram:
    made: Histogram = meter.create_histogram(
        name, unit=unit, description=description, explicit_bucket_boundaries_advisory=list(buckets)
    )
    return made


def _provider(settings: TracerSettings, resource: Resource) -> Any:
    """Return a private meter provider that exports by OTLP."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    reader = PeriodicExportingMetricReader(_exporter(settings))
    return MeterProvider([reader], resource=resource, shutdown_on_exit=False)


def _exporter(settings: TracerSettings) -> Any:
    headers = dict(settings.headers) or None
    endpoint = settings.endpoint
    if settings.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
            OTLPMetricExporter as GrpcExporter,
        )

        return GrpcExporter(endpoint=endpoint, headers=headers)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
        OTLPMetricExporter as HttpExporter,
    )

    if endpoint is not None:
        endpoint = signal_url(endpoint, "metrics")
    return HttpExporter(endpoint=endpoint, headers=headers)
