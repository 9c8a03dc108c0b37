"""OTLP over gRPC: spans into the ledger, metrics and logs accepted and dropped.

On the wire a unary call is a stream of one message. The services here are declared as streams, so
that a call's key is checked, and the call counted, before its message is read: messages without a
key, too many, or that never come cost no memory and block nobody.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # no stubs
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # no stubs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from crewmeter_cost.errors import CrewMeterError, RefusedRequest
from crewmeter_cost.sidecar.otlp_http import NOT_STORED
from crewmeter_cost.sidecar.receive import refused_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.receive import Receiver
    from crewmeter_cost.sidecar.settings import Limits, SidecarSettings

    Context = grpc.aio.ServicerContext[bytes, bytes]
    Handler = Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]
    Take = Callable[[Context], Awaitable[tuple[str, bytes]]]

__all__ = ["start_grpc"]

_CODE = {
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "too_large": grpc.StatusCode.INVALID_ARGUMENT,
    "timeout": grpc.StatusCode.DEADLINE_EXCEEDED,
    "unsupported": grpc.StatusCode.INVALID_ARGUMENT,
    "busy": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
}
_SERVICE = "opentelemetry.proto.collector.{0}.v1.{1}Service"
_GRACE_SECONDS = 1.0
"""How long a message may take to arrive while another waits. The more wait, the less it is."""
_LEAST_GRACE_SECONDS = 0.1
_STREAMS = 32
"""Calls at once on one connection. A client makes further ones wait."""
_BROWSER_METADATA = ("origin", "sec-fetch-site", "referer")
"""What a browser sends with every request that a page makes, and no OTLP client does."""


async def start_grpc(
    settings: SidecarSettings, receiver: Receiver, metrics: SidecarMetrics
) -> tuple[grpc.aio.Server, int]:
    """Return a running server and its port.

    Raises `CrewMeterError` where the port is taken.
    """
    server = _server(settings.limits)
    arrivals = _Arrivals(settings.limits)
    traces = _export(
        settings,
        metrics,
        _stored(receiver, arrivals),
    )
    dropped = _export(
        settings,
        metrics,
        _dropped(receiver, arrivals),
    )
    server.add_generic_rpc_handlers(
        (
            _service("trace", "Trace", traces),
            _service("metrics", "Metrics", dropped),
            _service("logs", "Logs", dropped),
        )
    )
    port = _listen(server, settings)
    await server.start()
    return server, port


def _server(limits: Limits) -> grpc.aio.Server:
    return grpc.aio.server(
        # A last resort: past it gRPC refuses without RetryInfo, and clients then drop what they
        # sent. `Receiver.request` refuses before.
        maximum_concurrent_rpcs=limits.connections,
        options=[
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_metadata_size", 16_384),
            ("grpc.max_concurrent_streams", _STREAMS),
            ("grpc.server_handshake_timeout_ms", int(limits.header_seconds * 1000)),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 65_536),
            ("grpc.so_reuseport", 0),
        ],
    )


def _listen(server: grpc.aio.Server, settings: SidecarSettings) -> int:
    """Bind the port and return it. Raises `CrewMeterError` where it is taken."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    try:
        if settings.certificate is None or settings.private_key is None:
            return server.add_insecure_port(address)
        pair = (settings.private_key.read_bytes(), settings.certificate.read_bytes())
        return server.add_secure_port(
            address,
            grpc.ssl_server_credentials([pair]),
        )
    except RuntimeError as error:
        hint = "is another collector running? choose another --grpc-port, or --no-grpc"
        raise CrewMeterError(f"cannot listen on {address} for gRPC", hint=hint) from error


def _service(package: str, name: str, handler: Handler) -> grpc.GenericRpcHandler[bytes, bytes]:
    """Return a service whose one method takes and returns bytes."""
    method = grpc.stream_unary_rpc_method_handler(handler)
    return grpc.method_handlers_generic_handler(
        _SERVICE.format(package, name),
        {"Export": method},
    )


class _Arrivals:
    """Room for the messages that are arriving.

    gRPC puts each together in memory and says its size when it is there. As many arrive at once as
    could all be of the largest size within the limit on bytes, each held twice. Those that take
    their time while others wait are given up, so that calls whose message never comes do not keep
    out those that have one.
    """

    def __init__(self, limits: Limits) -> None:
        self._patience = limits.body_seconds
        self._size = max(
            1,
            limits.held_bytes // limits.body_bytes // 2,
        )
        self._room = asyncio.Semaphore(self._size)
        self._waiting = 0
        self._arriving: dict[asyncio.Timeout, float] = {}
        """Time limit of each → when it began."""

    async def message(self, context: Context) -> bytes:
        """Return the one message of a call.

        Raises `RefusedRequest` where it does not come, or there is none.
        """
        try:
            async with self._admitted(), asyncio.timeout(self._patience) as limit:
                self._arriving[limit] = asyncio.get_running_loop().time()
                self._hurry()
                try:
                    # Not the iterator, which holds on to messages for long.
                    message = await context.read()
                finally:
                    del self._arriving[limit]
        except TimeoutError:
            raise RefusedRequest(
                "timeout", "the message did not arrive in time", retry_seconds=1.0
            ) from None
        if isinstance(message, bytes):
            return message
        raise RefusedRequest("invalid", "the call has no message")

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        """Wait for room, and occupy it."""
        self._waiting += 1
        self._hurry()
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._room.release()

    def _hurry(self) -> None:
        """Shorten the time limits of those arriving, if others wait for their room."""
        if not self._waiting or len(self._arriving) < self._size:
            return
        now = asyncio.get_running_loop().time()
        share = self._size / (self._size + self._waiting)
        grace = max(_GRACE_SECONDS * share, _LEAST_GRACE_SECONDS)
        for limit, began in self._arriving.items():
            at = limit.when()
            if not limit.expired() and at is not None and at > began + grace:
                limit.reschedule(
                    max(
                        began + grace,
                        now,
                    )
                )


def _stored(receiver: Receiver, arrivals: _Arrivals) -> Take:
    """Return what stores the spans of a call."""

    async def stored(context: Context) -> tuple[str, bytes]:
        with receiver.request(), receiver.body() as reserved:
            body = await arrivals.message(context)
            await reserved.hold(len(body))
            refused = await receiver.take(body, as_json=False)
        outcome = "partial" if refused else "ok"
        return outcome, _response(
            refused.total(),
            refused_text(refused),
        )

    return stored


def _dropped(receiver: Receiver, arrivals: _Arrivals) -> Take:
    """Return what reads the message of a call and drops it."""

    async def dropped(context: Context) -> tuple[str, bytes]:
        with receiver.request():
            await arrivals.message(context)
        return "ignored", _response(0, NOT_STORED)

    return dropped


def _export(settings: SidecarSettings, metrics: SidecarMetrics, take: Take) -> Handler:
    """Return the method that takes a message by `take`.

    `take` returns the outcome for the metrics and the response, or raises `RefusedRequest`.
    """

    async def export(_messages: AsyncIterator[bytes], context: Context) -> bytes:
        await _authorize(settings, metrics, context)
        try:
            outcome, response = await take(context)
        except RefusedRequest as refusal:
            # A new one: gRPC holds on to what ends a call, and with it to every frame of the
            # traceback and the message in them.
            problem = RefusedRequest(
                refusal.outcome, refusal.message, retry_seconds=refusal.retry_seconds
            )
        else:
            metrics.requests.labels("grpc", outcome).inc()
            return response
        metrics.requests.labels("grpc", problem.outcome).inc()
        await _abort(context, problem)

    return export


def _response(refused: int, message: str) -> bytes:
    response = ExportTraceServiceResponse()
    if message:
        response.partial_success.rejected_spans = refused
        response.partial_success.error_message = message
    return response.SerializeToString()


async def _authorize(settings: SidecarSettings, metrics: SidecarMetrics, context: Context) -> None:
    """End a call of a web page, or without a valid key.

    gRPC for Python does not show a call's authority, so a Host can't be checked here. It is not
    needed: browsers speak HTTP/2 only over TLS, with a certificate for the page's own name, and
    send an Origin. See docs/decisions.
    """
    metadata = dict(context.invocation_metadata() or ())
    if any(name in metadata for name in _BROWSER_METADATA):
        metrics.requests.labels("grpc", "unauthorized").inc()
        await context.abort(
            grpc.StatusCode.PERMISSION_DENIED, "requests of web pages are not accepted"
        )
    given = metadata.get("authorization")
    if not settings.keys.allow(given if isinstance(given, str) else None, "ingest"):
        metrics.requests.labels("grpc", "unauthorized").inc()
        await context.abort(
            grpc.StatusCode.UNAUTHENTICATED,
            "a key with the role ingest is needed: authorization: Bearer KEY",
        )


async def _abort(context: Context, refusal: RefusedRequest) -> NoReturn:
    """End the call with the refusal.

    Where it is worth trying again, RetryInfo says so, as the OTLP specification has it.
    """
    code = _CODE[refusal.outcome]
    trailing: tuple[tuple[str, bytes], ...] = ()
    if refusal.retry_seconds is not None:
        status = Status(
            code=code.value[0],
            message=refusal.message,
        )
        seconds, rest = divmod(refusal.retry_seconds, 1)
        delay = Duration(
            seconds=int(seconds),
            nanos=int(rest * 1e9),
        )
        status.details.add().Pack(RetryInfo(retry_delay=delay))
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, refusal.message, trailing)
    raise AssertionError  # abort raises
