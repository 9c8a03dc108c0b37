"""A request's bytes into spans in the ledger, for HTTP and gRPC alike."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from crewmeter_cost.errors import (
    BadRequest,
    CorruptBody,
    CrewMeterError,
    QueueFull,
    RefusedRequest,
    TooLarge,
    UnknownEncoding,
)
from crewmeter_cost.intake.compression import opened
from crewmeter_cost.intake.otlp_json import from_json
from crewmeter_cost.intake.otlp_protobuf import from_protobuf
from crewmeter_cost.sidecar.background import SerialExecutor

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from crewmeter_cost.pipeline import Pipeline, Priced
    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.settings import Limits
    from crewmeter_cost.sidecar.writer import Writer

__all__ = ["BodyReservation", "Receiver", "refused_text"]

_GRACE_SECONDS = 1.0
"""How long a body may take to arrive while another finds no room."""
_POLL_SECONDS = 0.05
_POLLS = 20


def refused_text(refused: Counter[str]) -> str:
    """Return why spans of a request were refused, for ``partial_success``."""
    return "; ".join(f"{count} spans refused: {reason}" for reason, count in refused.items())


class _AdmittedRequest:
    """One of the requests under way, counted until it ends."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def __enter__(self) -> None:
        receiver = self._receiver
        if receiver.under_way >= receiver.limits.requests:
            raise RefusedRequest("busy", "too many requests under way", retry_seconds=1.0)
        receiver.under_way += 1

    def __exit__(self, *_: object) -> None:
        self._receiver.under_way -= 1


class BodyReservation:
    """The bytes of one body, counted from when they arrive until the request ends.

    Bodies that arrive slowly hold bytes, but are not yet requests under way: clients that dawdle
    keep nobody out. Where there is no room for more bytes, the largest body that takes longer than
    `_GRACE_SECONDS` is given up.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._bytes = 0
        self._began = 0.0
        self._given_up = False
        self._timeout: asyncio.Timeout | None = None

    def __enter__(self) -> BodyReservation:
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.held -= self._bytes
        self._bytes = 0

    def arriving(self) -> asyncio.Timeout:
        """Return a time limit for the whole body."""
        self._began = asyncio.get_running_loop().time()
        self._timeout = asyncio.timeout(self._receiver.limits.body_seconds)
        self._receiver.arriving.add(self)
        return self._timeout

    def arrived(self) -> None:
        """Say that the body is complete, or will never be."""
        self._receiver.arriving.discard(self)

    def too_slow(self) -> RefusedRequest:
        """Return why the body was given up."""
        if self._given_up:
            return RefusedRequest(
                "busy", "the body arrived too slowly while others waited", retry_seconds=1.0
            )
        seconds = self._receiver.limits.body_seconds
        return RefusedRequest("timeout", f"the body did not arrive in {seconds:g} s")

    async def hold(self, size: int) -> None:
        """Count `size` more bytes.

        Raises `RefusedRequest` where there is no room for them.
        """
        receiver = self._receiver
        for _ in range(_POLLS):
            if not receiver.held or receiver.held + size <= receiver.limits.held_bytes:
                break
            if not self._give_up_another():
                raise RefusedRequest(
                    "busy", "too many bytes in requests under way", retry_seconds=1.0
                )
            await asyncio.sleep(_POLL_SECONDS)
        self._bytes += size
        receiver.held += size

    def _give_up_another(self) -> bool:
        """End the largest slow body, and return whether there is one."""
        now = asyncio.get_running_loop().time()
        slow = [
            body
            for body in self._receiver.arriving
            if body is not self and body._bytes and now - body._began > _GRACE_SECONDS
        ]
        if not slow:
            return False
        if not any(body._given_up for body in slow):
            largest = max(slow, key=lambda body: body._bytes)
            largest._given_up = True
            if largest._timeout is not None and not largest._timeout.expired():
                largest._timeout.reschedule(now)
        return True


class Receiver:
    """Takes export requests.

    It lives on the event loop. Reading and pricing happen in one thread of its own, in order.
    `clock` gives ns since 1970 and may jump. Durations go by the monotonic clock.
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
        """Bytes of all bodies."""
        self.arriving: set[BodyReservation] = set()
        self._pipeline = pipeline
        self._writer = writer
        self._metrics = metrics
        self._clock = clock
        self.reader = SerialExecutor("crewmeter-reader", died=metrics.thread_died)

    def body(self) -> BodyReservation:
        """Return a context manager that counts the bytes of one body."""
        return BodyReservation(self)

    def request(self) -> _AdmittedRequest:
        """Return a context manager for one request under way.

        Entering it raises `RefusedRequest` where there are too many.
        """
        return _AdmittedRequest(self)

    async def take(self, body: bytes, *, as_json: bool, encoding: str = "") -> Counter[str]:
        """Store the spans of one request, and return after the commit what was refused.

        Returns reason → number of spans. Raises `RefusedRequest`.
        """
        loop = asyncio.get_running_loop()
        priced, ended, refused = await loop.run_in_executor(
            self.reader, self._read, body, as_json, encoding
        )
        if refused:
            self._metrics.spans.labels("refused").inc(refused.total())
        if priced.spans:
            try:
                await asyncio.wrap_future(self._writer.submit(priced, ended))
            except QueueFull as full:
                raise RefusedRequest("busy", str(full), retry_seconds=full.retry_seconds) from None
            except CrewMeterError as error:
                raise RefusedRequest("unavailable", error.message, retry_seconds=5.0) from None
        return refused

    def close(self) -> None:
        """End the reading thread."""
        self.reader.shutdown()

    def _read(
        self, body: bytes, as_json: bool, encoding: str
    ) -> tuple[Priced, float, Counter[str]]:
        """Return the spans of a body, when the last of them ended, and what was refused.

        The moment is on the monotonic clock and never in the future.
        """
        now_ns = self._clock()
        arrived = time.monotonic()
        read = from_json if as_json else from_protobuf
        try:
            plain = opened(
                body,
                encoding,
                limit=self.limits.opened_bytes,
            )
            batch = read(plain, now_ns=now_ns)
        except TooLarge as error:
            raise RefusedRequest("too_large", str(error)) from None
        except UnknownEncoding as error:
            raise RefusedRequest("unsupported", str(error)) from None
        except (CorruptBody, BadRequest) as error:
            raise RefusedRequest("invalid", str(error)) from None
        latest_ns = max((span.ended_ns for span in batch.spans), default=now_ns)
        ended = arrived - max(now_ns - latest_ns, 0) / 1e9
        return self._pipeline.price(batch.spans), ended, batch.refused
