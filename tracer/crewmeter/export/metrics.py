"""The metrics of the GenAI conventions, in the generations that go out.

They are recorded where the app has a meter provider, or an OTLP endpoint is configured. Everything
here runs on the export thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import metrics as otel_metrics

from crewmeter import semconv
from crewmeter.export.exporters import signal_url
from crewmeter.export.metric_values import AgentCounts, span_values
from crewmeter.semconv import generations
from crewmeter.version import version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import AttributeValue

    from crewmeter.semconv.generations import Emitted, Metric
    from crewmeter.settings import TracerSettings
    from crewmeter.spans.span import OpenSpan

__all__ = ["ClientMetrics"]


class _Instruments:
    """The instruments of one meter provider, for the metrics that go out."""

    def __init__(self, provider: Any, emitted: Emitted) -> None:
        meter = provider.get_meter(semconv.SCOPE, version())
        self._histograms: dict[str, Histogram] = {}
        self._counters: dict[str, Counter] = {}
        for metric in generations.METRICS:
            if not generations.metric_is_emitted(metric, emitted):
                continue
            if metric.instrument == "counter":
                self._counters[metric.name] = _counter(meter, metric)
            else:
                self._histograms[metric.name] = _histogram(meter, metric)

    def record(
        self, metric: Metric, value: float, attributes: Mapping[str, AttributeValue]
    ) -> None:
        """Record a value, if the metric goes out."""
        histogram = self._histograms.get(metric.name)
        if histogram is not None:
            histogram.record(value, attributes)
            return
        counter = self._counters.get(metric.name)
        if counter is not None:
            counter.add(value, attributes)


class ClientMetrics:
    """The recorder of finished spans, idle without a provider and an endpoint."""

    def __init__(self, settings: TracerSettings, resource: Callable[[], Resource]) -> None:
        self._settings = settings
        self._resource = resource
        self._seen: object = None
        self._instruments: _Instruments | None = None
        self._own: Any = None
        self._agents = AgentCounts()

    def record(self, node: OpenSpan) -> None:
        """Record one finished span."""
        if node.readable is None or node.ended_ns is None:
            return
        instruments = self._current()
        if instruments is None:
            return
        self._agents.add(node)
        emitted = self._settings.emitted
        for metric, value, attributes in span_values(node, self._agents, emitted):
            instruments.record(metric, value, attributes)

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
        self._agents = AgentCounts()

    def _current(self) -> _Instruments | None:
        """Return instruments of the app's meter provider, else of our own, else None."""
        provider: Any = otel_metrics.get_meter_provider()
        if provider is self._seen:
            return self._instruments
        self._seen = provider
        if type(provider).__module__.startswith("opentelemetry.metrics"):
            # The API's proxy: the app has set none.
            provider = self._own_provider()
        self._instruments = None
        if provider is not None:
            self._instruments = _Instruments(provider, self._settings.emitted)
        return self._instruments

    def _own_provider(self) -> Any:
        """Return a provider of our own where an endpoint is configured, else None."""
        if self._settings.metrics:
            self._own = _provider(
                self._settings,
                self._resource(),
            )
        return self._own


def _counter(meter: Any, metric: Metric) -> Counter:
    made: Counter = meter.create_counter(
        metric.name, unit=metric.unit, description=metric.description
    )
    return made


def _histogram(meter: Any, metric: Metric) -> Histogram:
    made: Histogram = meter.create_histogram(
        metric.name,
        unit=metric.unit,
        description=metric.description,
        explicit_bucket_boundaries_advisory=list(metric.buckets),
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
