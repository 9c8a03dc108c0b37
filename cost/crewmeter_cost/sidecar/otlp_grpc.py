"""OTLP over gRPC: the trace service into the ledger, the metrics and logs services thanked and let go.

On the wire a unary call is a stream of one message. The services here are declared as streams, so that a call is asked for
its key, and given a place, before its message is read: messages that nobody may send, that are too many or that never come
cost no memory and block nobody.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # googleapis-common-protos has no stubs
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # as above
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.sidecar.otlp_http import NOT_STORED
from crewmeter_cost.sidecar.receive import RefusedRequest, refused_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.receive import Receiver
    from crewmeter_cost.sidecar.settings import Limits, SidecarSettings

    Context = grpc.aio.ServicerContext[bytes, bytes]
    Handler = Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]

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
"""How long a message may take to arrive while another waits; less, the more wait."""
_LEAST_GRACE_SECONDS = 0.1
_STREAMS = 32
"""Calls at once on one connection; a client makes further ones wait."""


async def start_grpc(
    settings: SidecarSettings, receiver: Receiver, metrics: SidecarMetrics
) -> tuple[grpc.aio.Server, int]:
    """A running server and its port. Raises `CrewMeterError` where the port is taken."""
    limits = settings.limits
    server = grpc.aio.server(
        # A backstop: past it gRPC refuses without RetryInfo, and clients then drop what they sent. `receiver.request` refuses first.
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
    arrivals = _Arrivals(limits)
    server.add_generic_rpc_handlers(
        (_service("trace", "Trace", _traces(settings, receiver, metrics, arrivals)),)
    )
    ignored = _ignored(settings, receiver, metrics, arrivals)
    server.add_generic_rpc_handlers(
        (_service("metrics", "Metrics", ignored), _service("logs", "Logs", ignored))
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    try:
        if settings.certificate is not None and settings.private_key is not None:
            pair = (settings.private_key.read_bytes(), settings.certificate.read_bytes())
            port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        else:
            port = server.add_insecure_port(address)
    except RuntimeError as error:
        hint = "is another collector running? choose another --grpc-port, or --no-grpc"
        raise CrewMeterError(f"cannot listen on {address} for gRPC", hint=hint) from error
    await server.start()
    return server, port


def _service(package: str, name: str, handler: Handler) -> grpc.GenericRpcHandler[bytes, bytes]:
    """A service whose one method takes and gives bytes: spans are read off the wire by our own reader."""
    method = grpc.stream_unary_rpc_method_handler(handler)
    return grpc.method_handlers_generic_handler(_SERVICE.format(package, name), {"Export": method})


class _Arrivals:
    """Room for the messages that are arriving: gRPC puts each together in memory, and tells its size when it is there.

    As many arrive at once as could all be of the largest size within the limit on bytes, each held twice. Those that take their time while
    others wait are given up, so that calls whose message never comes do not keep out those that have one.
    """

    def __init__(self, limits: Limits) -> None:
        self._patience = limits.body_seconds
        self._size = max(1, limits.held_bytes // limits.body_bytes // 2)
        self._room = asyncio.Semaphore(self._size)
        self._waiting = 0
        self._arriving: dict[asyncio.Timeout, float] = {}
        """Each one's end of patience → when it began."""

    async def message(self, context: Context) -> bytes:
        """The one message of a call. Raises `RefusedRequest` where it does not come, or there is none."""
        try:
            async with self._context(), asyncio.timeout(self._patience) as limit:
                self._arriving[limit] = asyncio.get_running_loop().time()
                self._hurry()
                try:
                    message = (
                        await context.read()
                    )  # and not the iterator: that one keeps messages for long
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
    async def _context(self) -> AsyncIterator[None]:
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
        """Cut patience short with those arriving, if others wait for their room."""
        if not self._waiting or len(self._arriving) < self._size:
            return
        now = asyncio.get_running_loop().time()
        grace = max(
            _GRACE_SECONDS * self._size / (self._size + self._waiting), _LEAST_GRACE_SECONDS
        )
        for limit, began in self._arriving.items():
            if not limit.expired() and (at := limit.when()) is not None and at > began + grace:
                limit.reschedule(max(began + grace, now))


def _traces(
    settings: SidecarSettings, receiver: Receiver, metrics: SidecarMetrics, arrivals: _Arrivals
) -> Handler:
    async def stored(context: Context) -> tuple[str, bytes]:
        with receiver.request() as held:
            body = await arrivals.message(context)
            held.hold(len(body))
            refused = await receiver.take(body, as_json=False)
        return "partial" if refused else "ok", _answer(refused.total(), refused_text(refused))

    return _export(settings, metrics, stored)


def _ignored(
    settings: SidecarSettings, receiver: Receiver, metrics: SidecarMetrics, arrivals: _Arrivals
) -> Handler:
    async def dropped(context: Context) -> tuple[str, bytes]:
        with receiver.request():
            await arrivals.message(context)
        return "ignored", _answer(0, NOT_STORED)

    return _export(settings, metrics, dropped)


def _export(
    settings: SidecarSettings,
    metrics: SidecarMetrics,
    take: Callable[[Context], Awaitable[tuple[str, bytes]]],
) -> Handler:
    """The method that takes a message by `take`, which gives the outcome for the metrics and the answer, or raises `RefusedRequest`."""

    async def export(_messages: AsyncIterator[bytes], context: Context) -> bytes:
        await _authorised(settings, metrics, context)
        try:
            outcome, answer = await take(context)
        except RefusedRequest as refusal:
            # A new one: gRPC keeps what ends a call, and with it every frame of the traceback and the message in them.
            problem = RefusedRequest(
                refusal.outcome, refusal.message, retry_seconds=refusal.retry_seconds
            )
        else:
            metrics.requests.labels("grpc", outcome).inc()
            return answer
        metrics.requests.labels("grpc", problem.outcome).inc()
        await _abort(context, problem)

    return export


def _answer(refused: int, message: str) -> bytes:
    answer = ExportTraceServiceResponse()
    if message:
        answer.partial_success.rejected_spans = refused
        answer.partial_success.error_message = message
    return answer.SerializeToString()


async def _authorised(settings: SidecarSettings, metrics: SidecarMetrics, context: Context) -> None:
    metadata = dict(context.invocation_metadata() or ())
    given = metadata.get("authorization")
    if not settings.keys.allow(given if isinstance(given, str) else None, "ingest"):
        metrics.requests.labels("grpc", "unauthorized").inc()
        await context.abort(
            grpc.StatusCode.UNAUTHENTICATED,
            "a key with the role ingest is needed: authorization: Bearer KEY",
        )


async def _abort(context: Context, refusal: RefusedRequest) -> NoReturn:
    """End the call with the refusal; where it is worth trying again, with RetryInfo, as the OTLP specification has it."""
    code = _CODE[refusal.outcome]
    trailing: tuple[tuple[str, bytes], ...] = ()
    if refusal.retry_seconds is not None:
        status = Status(code=code.value[0], message=refusal.message)
        delay = Duration(
            seconds=int(refusal.retry_seconds), nanos=int(refusal.retry_seconds % 1 * 1e9)
        )
        status.details.add().Pack(RetryInfo(retry_delay=delay))
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, refusal.message, trailing)
    raise AssertionError  # abort raises
