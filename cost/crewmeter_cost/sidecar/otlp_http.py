"""OTLP over HTTP.

``POST /v1/traces`` goes into the ledger. ``/v1/metrics`` and ``/v1/logs`` are accepted and dropped,
since SDKs export all signals to one endpoint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # it has no stubs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from crewmeter_cost.errors import CrewMeterError, RefusedRequest
from crewmeter_cost.number_text import bounded_integer
from crewmeter_cost.sidecar.receive import refused_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.receive import BodyReservation, Receiver

__all__ = ["NOT_STORED", "otlp_routes"]

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
NOT_STORED = "crewmeter stores spans only; this signal was not stored"
"""Said to senders of metrics and logs, which are accepted without an error."""
_STATUS = {
    "invalid": 400,
    "timeout": 408,
    "too_large": 413,
    "unsupported": 415,
    "busy": 503,
    "unavailable": 503,
}
"""503 and not 429 for "later": OTLP clients retry both, but the Python SDK's only the 5xx."""
_RPC_CODE = {400: 3, 408: 4, 413: 3, 415: 3, 503: 14}
_REJECTED = {
    "traces": "rejectedSpans",
    "metrics": "rejectedDataPoints",
    "logs": "rejectedLogRecords",
}
"""Signal → the name of its count in a JSON ``partialSuccess``."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What became of an accepted request: its outcome, and what was refused."""

    outcome: str
    refused: int = 0
    message: str = ""


def otlp_routes(receiver: Receiver, metrics: SidecarMetrics) -> list[Route]:
    """Return the three OTLP endpoints."""

    def endpoint(signal: str) -> Callable[[Request], Awaitable[Response]]:
        async def export(request: Request) -> Response:
            return await _export(request, receiver, metrics, signal)

        return export

    return [
        Route(f"/v1/{signal}", endpoint(signal), methods=["POST"])
        for signal in ("traces", "metrics", "logs")
    ]


async def _export(
    request: Request, receiver: Receiver, metrics: SidecarMetrics, signal: str
) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    as_json = kind == JSON
    protocol = "http/json" if as_json else "http/protobuf"
    try:
        if kind not in (JSON, PROTOBUF):
            raise RefusedRequest("unsupported", f"Content-Type must be {PROTOBUF} or {JSON}")
        if signal == "traces":
            accepted = await _store(request, receiver, as_json=as_json)
        else:
            accepted = await _drop(request, receiver)
    except RefusedRequest as refusal:
        metrics.requests.labels(protocol, refusal.outcome).inc()
        return _refused(refusal, as_json=as_json)
    except ClientDisconnect:
        metrics.requests.labels(protocol, "disconnected").inc()
        return Response(status_code=400)
    metrics.requests.labels(protocol, accepted.outcome).inc()
    return _accepted(accepted, signal, as_json=as_json)


async def _store(request: Request, receiver: Receiver, *, as_json: bool) -> _Accepted:
    """Store the spans of a request.

    It counts among those under way only once its body is complete, so that clients whose bodies
    arrive slowly keep nobody out.
    """
    with receiver.body() as reserved:
        body = await _body(request, receiver, reserved)
        with receiver.request():
            encoding = request.headers.get("content-encoding", "")
            refused = await receiver.take(body, as_json=as_json, encoding=encoding)
    if not refused:
        return _Accepted("ok")
    return _Accepted("partial", refused.total(), refused_text(refused))


async def _drop(request: Request, receiver: Receiver) -> _Accepted:
    with receiver.body() as reserved:
        await _body(request, receiver, reserved, keep=False)
    return _Accepted("ignored", 0, NOT_STORED)


async def _body(
    request: Request, receiver: Receiver, reserved: BodyReservation, *, keep: bool = True
) -> bytes:
    """Return the request's body, within the limits on size and time.

    Without `keep` it is read and dropped.
    """
    limit = receiver.limits.body_bytes
    too_large = RefusedRequest("too_large", f"the body is larger than {limit} bytes")
    declared = request.headers.get("content-length", "0")
    try:
        bounded_integer(
            declared,
            name="content-length",
            lowest=0,
            highest=limit,
        )
    except CrewMeterError:
        raise too_large from None
    parts: list[bytes] = []
    size = 0
    try:
        async with reserved.arriving():
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise too_large
                if keep:
                    await reserved.hold(len(part))
                    parts.append(part)
    except TimeoutError:
        raise reserved.too_slow() from None
    finally:
        reserved.arrived()
    return b"".join(parts)


def _accepted(accepted: _Accepted, signal: str, *, as_json: bool) -> Response:
    """Return the response of a service.

    In protobuf the ``partial_success`` of all three has the same two fields under the same numbers.
    In JSON the count is named after the signal.
    """
    if as_json:
        document: dict[str, object] = {}
        if accepted.message:
            document["partialSuccess"] = {
                _REJECTED[signal]: str(accepted.refused),
                "errorMessage": accepted.message,
            }
        return Response(json.dumps(document), media_type=JSON)
    response = ExportTraceServiceResponse()
    if accepted.message:
        response.partial_success.rejected_spans = accepted.refused
        response.partial_success.error_message = accepted.message
    return Response(response.SerializeToString(), media_type=PROTOBUF)


def _refused(refusal: RefusedRequest, *, as_json: bool) -> Response:
    status = _STATUS[refusal.outcome]
    headers = {}
    if status in (408, 413):
        headers["connection"] = "close"  # the rest of the body would be read as the next request
    if refusal.retry_seconds is not None:
        headers["retry-after"] = str(
            max(
                1,
                round(refusal.retry_seconds),
            )
        )
    code = _RPC_CODE[status]
    if as_json:
        content = json.dumps({"code": code, "message": refusal.message})
        return Response(
            content,
            status_code=status,
            headers=headers,
            media_type=JSON,
        )
    body = Status(code=code, message=refusal.message).SerializeToString()
    return Response(
        body,
        status_code=status,
        headers=headers,
        media_type=PROTOBUF,
    )
