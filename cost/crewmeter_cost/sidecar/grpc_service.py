"""OTLP over gRPC: the trace service into the ledger, the metrics and logs services thanked and let go."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # googleapis-common-protos has no stubs
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # as above
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.sidecar.http import NOT_KEPT
from crewmeter_cost.sidecar.receive import Refusal, refusal_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crewmeter_cost.sidecar.metrics import Metrics
    from crewmeter_cost.sidecar.receive import Receiver
    from crewmeter_cost.sidecar.settings import Settings

    Context = grpc.aio.ServicerContext[bytes, bytes]
    Handler = Callable[[bytes, Context], Awaitable[bytes]]

__all__ = ["start_grpc"]

_CODE = {
    "invalid": grpc.StatusCode.INVALID_ARGUMENT,
    "too_large": grpc.StatusCode.INVALID_ARGUMENT,
    "unsupported": grpc.StatusCode.INVALID_ARGUMENT,
    "busy": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
}
_SERVICE = "opentelemetry.proto.collector.{0}.v1.{1}Service"


async def start_grpc(settings: Settings, receiver: Receiver, metrics: Metrics) -> tuple[grpc.aio.Server, int]:
    """A running server and its port. Raises `CrewMeterError` where the port is taken."""
    limits = settings.limits
    server = grpc.aio.server(
        maximum_concurrent_rpcs=limits.requests,
        options=[
            ("grpc.max_receive_message_length", limits.body_bytes),
            ("grpc.max_metadata_size", 16_384),
            ("grpc.so_reuseport", 0),
        ],
    )
    server.add_generic_rpc_handlers((_service("trace", "Trace", _traces(settings, receiver, metrics)),))
    ignored = _ignored(settings, metrics)
    server.add_generic_rpc_handlers((_service("metrics", "Metrics", ignored), _service("logs", "Logs", ignored)))
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
    method = grpc.unary_unary_rpc_method_handler(handler)
    return grpc.method_handlers_generic_handler(_SERVICE.format(package, name), {"Export": method})


def _traces(settings: Settings, receiver: Receiver, metrics: Metrics) -> Handler:
    async def export(body: bytes, context: Context) -> bytes:
        await _authorised(settings, metrics, context)
        try:
            with receiver.place() as place:
                place.hold(len(body))
                refused = await receiver.take(body, as_json=False)
        except Refusal as refusal:
            metrics.requests.labels("grpc", refusal.outcome).inc()
            await _abort(context, refusal)
        metrics.requests.labels("grpc", "partial" if refused else "ok").inc()
        return _answer(refused.total(), refusal_text(refused))

    return export


def _ignored(settings: Settings, metrics: Metrics) -> Handler:
    async def export(_body: bytes, context: Context) -> bytes:
        await _authorised(settings, metrics, context)
        metrics.requests.labels("grpc", "ignored").inc()
        return _answer(0, NOT_KEPT)

    return export


def _answer(refused: int, message: str) -> bytes:
    answer = ExportTraceServiceResponse()
    if message:
        answer.partial_success.rejected_spans = refused
        answer.partial_success.error_message = message
    return answer.SerializeToString()


async def _authorised(settings: Settings, metrics: Metrics, context: Context) -> None:
    metadata = dict(context.invocation_metadata() or ())
    given = metadata.get("authorization")
    if not settings.keys.allow(given if isinstance(given, str) else None, "ingest"):
        metrics.requests.labels("grpc", "unauthorized").inc()
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a key with the role ingest is needed: authorization: Bearer KEY")


async def _abort(context: Context, refusal: Refusal) -> NoReturn:
    """End the call with the refusal; where it is worth trying again, with RetryInfo, as the OTLP specification has it."""
    code = _CODE[refusal.outcome]
    trailing: tuple[tuple[str, bytes], ...] = ()
    if refusal.retry_seconds is not None:
        status = Status(code=code.value[0], message=refusal.message)
        delay = Duration(seconds=int(refusal.retry_seconds), nanos=int(refusal.retry_seconds % 1 * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
        trailing = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, refusal.message, trailing)
    raise AssertionError  # abort raises
