"""Every metric the sidecar shows, in one registry: what it metered (`CallMetrics`), and how intake and ledger are doing."""

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

disable_created_metrics()  # type: ignore[no-untyped-call]  # half the lines of a page, and nobody reads them
_WRITE_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAG_BOUNDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)


class SidecarMetrics:
    """The registry behind ``/metrics``. Labels are bounded, and none names a user.

    ``ingest_requests`` has `protocol` (``grpc``, ``http/protobuf``, ``http/json``) and `outcome` (``ok``, ``partial``, ``ignored``,
    ``invalid``, ``too_large``, ``unauthorized``, ``busy``, ``timeout``, ``unavailable``); ``ingest_spans`` has `outcome`
    (``stored``, ``duplicate``, ``ignored``, ``refused``).
    """

    def __init__(
        self,
        *,
        queue_capacity: int,
        queued: Callable[[], int],
        ledger_size: Callable[[], int | None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        registry = self.registry = CollectorRegistry(auto_describe=False)
        self.meter = CallMetrics()
        registry.register(self.meter)
        self.requests = Counter(
            semconv.PROM_INGEST_REQUESTS,
            "Export requests by outcome.",
            ("protocol", "outcome"),
            registry=registry,
        )
        self.spans = Counter(
            semconv.PROM_INGEST_SPANS, "Spans taken in by outcome.", ("outcome",), registry=registry
        )
        for outcome in ("stored", "duplicate", "ignored", "refused"):
            self.spans.labels(outcome)
        Gauge(
            semconv.PROM_INGEST_QUEUE, "Spans waiting for the writer.", registry=registry
        ).set_function(queued)
        Gauge(
            semconv.PROM_INGEST_QUEUE_CAPACITY,
            "Spans that may wait for the writer.",
            registry=registry,
        ).set(queue_capacity)
        self.last_span = Gauge(
            semconv.PROM_INGEST_LAST_SPAN,
            "When the last span was committed, unix seconds.",
            registry=registry,
        )
        self.write_seconds = Histogram(
            semconv.PROM_LEDGER_WRITE,
            "Seconds per ledger transaction.",
            buckets=_WRITE_BOUNDS,
            registry=registry,
        )
        self.lag_seconds = Histogram(
            semconv.PROM_LEDGER_LAG,
            "Seconds from a request's latest span end to its commit.",
            buckets=_LAG_BOUNDS,
            registry=registry,
        )
        self.ledger_errors = Counter(
            semconv.PROM_LEDGER_ERRORS, "Ledger transactions that failed.", registry=registry
        )
        self.quarantines = Counter(
            semconv.PROM_LEDGER_QUARANTINES, "Corrupt ledger files set aside.", registry=registry
        )
        Gauge(
            semconv.PROM_LEDGER_SIZE,
            "Bytes of the ledger on disk; NaN where it is not a file.",
            registry=registry,
        ).set_function(lambda: float("nan") if (size := ledger_size()) is None else size)
        self._book_time = 0.0
        Gauge(
            semconv.PROM_PRICE_BOOK_AGE,
            "Seconds since the prices in use were last seen to be current.",
            registry=registry,
        ).set_function(lambda: max(clock() / 1e9 - self._book_time, 0.0))

    def price_book_dated(self, unix_seconds: float) -> None:
        """Say when the prices in use were last seen to be current."""
        self._book_time = unix_seconds

    def page(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in OpenMetrics (with exemplars) where the scraper asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
