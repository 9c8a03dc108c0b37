"""A request's bytes → spans in the ledger, for HTTP and gRPC alike: opened, read, priced, queued, and waited for."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.intake.compression import CorruptBody, TooLarge, UnknownEncoding, opened
from crewmeter_cost.intake.otlp_json import from_json
from crewmeter_cost.intake.otlp_protobuf import BadRequest, from_protobuf
from crewmeter_cost.sidecar.writer import QueueFull

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from crewmeter_cost.pipeline import Pipeline, Priced
    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.settings import Limits
    from crewmeter_cost.sidecar.writer import Writer

__all__ = ["Receiver", "RefusedRequest", "refused_text"]


class RefusedRequest(Exception):
    """A request that is not taken. `outcome` is its label in the metrics; with `retry_seconds` the sender should try again."""

    def __init__(self, outcome: str, message: str, *, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.retry_seconds = retry_seconds


def refused_text(refused: Counter[str]) -> str:
    """Why spans of a request were refused, for ``partial_success``."""
    return "; ".join(f"{count} spans refused: {reason}" for reason, count in refused.items())


class _AdmittedRequest:
    """One request's place among those under way, and the bytes it holds."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._bytes = 0

    def __enter__(self) -> _AdmittedRequest:
        receiver = self._receiver
        if receiver.under_way >= receiver.limits.requests:
            raise RefusedRequest("busy", "too many requests under way", retry_seconds=1.0)
        receiver.under_way += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.under_way -= 1
        self._receiver.held -= self._bytes

    def hold(self, size: int) -> None:
        """Count `size` more bytes of body. Raises `RefusedRequest` where all requests together hold too many."""
        receiver = self._receiver
        if receiver.held and receiver.held + size > receiver.limits.held_bytes:
            raise RefusedRequest("busy", "too many bytes in requests under way", retry_seconds=1.0)
        self._bytes += size
        receiver.held += size


class Receiver:
    """Takes export requests. Lives on the event loop; reading and pricing happen in one thread of its own, in order.

    `clock` gives ns since 1970 and may jump; what is measured while a request is under way goes by the monotonic clock.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        writer: Writer,
        metrics: SidecarMetrics,
        limits: Limits,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.limits = limits
        self.under_way = 0
        self.held = 0
        self._pipeline = pipeline
        self._writer = writer
        self._metrics = metrics
        self._clock = clock
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="crewmeter-reader")

    def request(self) -> _AdmittedRequest:
        """A place for one request, as a context manager. Raises `RefusedRequest` where all are taken."""
        return _AdmittedRequest(self)

    async def take(self, body: bytes, *, as_json: bool, encoding: str = "") -> Counter[str]:
        """SidecarLedgers the spans of one request; returns after the commit what was refused (reason → spans). Raises `RefusedRequest`."""
        loop = asyncio.get_running_loop()
        priced, ended, refused = await loop.run_in_executor(
            self._reader, self._read, body, as_json, encoding
        )
        if refused:
            self._metrics.spans.labels("refused").inc(refused.total())
        if priced.spans:
            try:
                await asyncio.wrap_future(self._writer.submit(priced, ended))
            except QueueFull as busy:
                raise RefusedRequest("busy", str(busy), retry_seconds=busy.retry_seconds) from None
            except CrewMeterError as error:
                raise RefusedRequest("unavailable", error.message, retry_seconds=5.0) from None
        return refused

    def close(self) -> None:
        """End the reading thread."""
        self._reader.shutdown()

    def _read(
        self, body: bytes, as_json: bool, encoding: str
    ) -> tuple[Priced, float, Counter[str]]:
        """The spans of a body, when the last of them ended (on the monotonic clock, never in the future), and what was refused."""
        now_ns, arrived = self._clock(), time.monotonic()
        try:
            plain = opened(body, encoding, limit=self.limits.opened_bytes)
            batch = (from_json if as_json else from_protobuf)(plain, now_ns=now_ns)
        except TooLarge as error:
            raise RefusedRequest("too_large", str(error)) from None
        except UnknownEncoding as error:
            raise RefusedRequest("unsupported", str(error)) from None
        except (CorruptBody, BadRequest) as error:
            raise RefusedRequest("invalid", str(error)) from None
        latest_ns = max((span.ended_ns for span in batch.spans), default=now_ns)
        ended = arrived - max(now_ns - latest_ns, 0) / 1e9
        return self._pipeline.price(batch.spans), ended, batch.refused
