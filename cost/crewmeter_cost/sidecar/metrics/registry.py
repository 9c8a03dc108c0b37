"""Every metric of the sidecar in one registry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from crewmeter import semconv
from crewmeter_cost.sidecar.metrics.call_metrics import CallMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SidecarMetrics"]

# `_created` series are half the lines of a page, and nobody reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]
_WRITE_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAG_BOUNDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
_SPAN_OUTCOMES = ("stored", "duplicate", "ignored", "refused")
_THREADS = ("crewmeter-writer", "crewmeter-reader", "crewmeter-budgets")


class SidecarMetrics:
    """The registry behind ``/metrics``. Labels are bounded, and none names a user.

    ``ingest_requests`` has `protocol` (``grpc``, ``http/protobuf``, ``http/json``) and `outcome`
    (``ok``, ``partial``, ``ignored``, ``invalid``, ``too_large``, ``unauthorized``, ``busy``,
    ``timeout``, ``unavailable``). ``ingest_spans`` has `outcome` (``stored``, ``duplicate``,
    ``ignored``, ``refused``).
    """

    def __init__(
        self,
        *,
        queue_capacity: int,
        queued: Callable[[], int],
        ledger_size: Callable[[], int | None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.meter = CallMetrics()
        self.registry.register(self.meter)
        self._ledger_size = ledger_size
        self._clock = clock
        self._book_time = 0.0
        self._add_intake(queue_capacity, queued)
        self._add_ledger()
        self._restarts = self._counter(
            semconv.PROM_THREAD_RESTARTS,
            "Threads that died and were started again.",
            ("thread",),
        )
        for name in _THREADS:
            self._restarts.labels(name)
        self._gauge(
            semconv.PROM_PRICE_BOOK_AGE,
            "Seconds since the prices in use were last seen to be current.",
        ).set_function(self._price_book_age)

    def price_book_dated(self, unix_seconds: float) -> None:
        """Set when the prices in use were last seen to be current."""
        self._book_time = unix_seconds

    def thread_died(self, name: str) -> None:
        """Count a thread that died and is started again."""
        self._restarts.labels(name).inc()

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition and its content type.

        It is in OpenMetrics (with exemplars) where the scraper asks for it.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _add_intake(self, queue_capacity: int, queued: Callable[[], int]) -> None:
        self.requests = self._counter(
            semconv.PROM_INGEST_REQUESTS, "Export requests by outcome.", ("protocol", "outcome")
        )
        self.spans = self._counter(
            semconv.PROM_INGEST_SPANS, "Spans taken in by outcome.", ("outcome",)
        )
        for outcome in _SPAN_OUTCOMES:
            self.spans.labels(outcome)
        self._gauge(semconv.PROM_INGEST_QUEUE, "Spans waiting for the writer.").set_function(queued)
        self._gauge(semconv.PROM_INGEST_QUEUE_CAPACITY, "Spans that may wait for the writer.").set(
            queue_capacity
        )
        self.last_span = self._gauge(
            semconv.PROM_INGEST_LAST_SPAN, "When the last span was committed, unix seconds."
        )

    def _add_ledger(self) -> None:
        self.write_seconds = self._histogram(
            semconv.PROM_LEDGER_WRITE, "Seconds per ledger transaction.", _WRITE_BOUNDS
        )
        self.lag_seconds = self._histogram(
            semconv.PROM_LEDGER_LAG,
            "Seconds from a request's latest span end to its commit.",
            _LAG_BOUNDS,
        )
        self.ledger_errors = self._counter(
            semconv.PROM_LEDGER_ERRORS, "Ledger transactions that failed."
        )
        self.quarantines = self._counter(
            semconv.PROM_LEDGER_QUARANTINES, "Corrupt ledger files set aside."
        )
        self.replacements = self._counter(
            semconv.PROM_LEDGER_REPLACEMENTS,
            "Ledgers that were deleted, moved or exchanged while they were written.",
        )
        self._gauge(
            semconv.PROM_LEDGER_SIZE, "Bytes of the ledger on disk; NaN where it is not a file."
        ).set_function(self._size)

    def _counter(self, name: str, help_text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(name, help_text, registry=self.registry)

    def _histogram(self, name: str, help_text: str, bounds: tuple[float, ...]) -> Histogram:
        return Histogram(name, help_text, buckets=bounds, registry=self.registry)

    def _size(self) -> float:
        size = self._ledger_size()
        if size is None:
            return float("nan")
        return size

    def _price_book_age(self) -> float:
        return max(
            self._clock() / 1e9 - self._book_time,
            0.0,
        )
