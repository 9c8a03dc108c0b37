"""OTLP over HTTP: ``POST /v1/traces`` into the ledger, ``/v1/metrics`` and ``/v1/logs`` thanked and let go."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # googleapis-common-protos has no stubs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from crewmeter_cost.sidecar.receive import RefusedRequest, refused_text

if TYPE_CHECKING:
    from starlette.requests import Request

    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.receive import Receiver

__all__ = ["NOT_STORED", "otlp_routes"]

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
NOT_STORED = "crewmeter keeps spans only; this signal was not stored"
"""Said to senders of metrics and logs: taken without an error, since SDKs export all signals to one place."""
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


def otlp_routes(receiver: Receiver, metrics: SidecarMetrics) -> list[Route]:
    """The three OTLP endpoints."""

    async def traces(request: Request) -> Response:
        return await _export(request, receiver, metrics, keep=True)

    async def ignored(request: Request) -> Response:
        return await _export(request, receiver, metrics, keep=False)

    return [
        Route("/v1/traces", traces, methods=["POST"]),
        Route("/v1/metrics", ignored, methods=["POST"]),
        Route("/v1/logs", ignored, methods=["POST"]),
    ]


async def _export(
    request: Request, receiver: Receiver, metrics: SidecarMetrics, *, keep: bool
) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    as_json = kind == JSON
    protocol = "http/json" if as_json else "http/protobuf"
    try:
        if kind not in (JSON, PROTOBUF):
            raise RefusedRequest("unsupported", f"Content-Type must be {PROTOBUF} or {JSON}")
        with receiver.request() as held:
            body = await _body(request, receiver, held.hold if keep else None)
            if keep:
                encoding = request.headers.get("content-encoding", "")
                refused = await receiver.take(body, as_json=as_json, encoding=encoding)
                outcome, count, message = (
                    "partial" if refused else "ok",
                    refused.total(),
                    refused_text(refused),
                )
            else:
                outcome, count, message = "ignored", 0, NOT_STORED
    except RefusedRequest as refusal:
        metrics.requests.labels(protocol, refusal.outcome).inc()
        return _refused(refusal, as_json=as_json)
    except ClientDisconnect:
        metrics.requests.labels(protocol, "disconnected").inc()
        return Response(status_code=400)
    metrics.requests.labels(protocol, outcome).inc()
    return _accepted(count, message, as_json=as_json)


async def _body(request: Request, receiver: Receiver, hold: object) -> bytes:
    """The request's body, within the limits on size and time. With `hold` None it is read and dropped."""
    limit = receiver.limits.body_bytes
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit:
        raise RefusedRequest("too_large", f"the body is larger than {limit} bytes")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(receiver.limits.body_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise RefusedRequest("too_large", f"the body is larger than {limit} bytes")
                if callable(hold):
                    hold(len(part))
                    parts.append(part)
    except TimeoutError:
        raise RefusedRequest(
            "timeout", f"the body did not arrive in {receiver.limits.body_seconds:g} s"
        ) from None
    return b"".join(parts)


def _accepted(refused: int, message: str, *, as_json: bool) -> Response:
    """The answer of all three services: their ``partial_success`` has the same two fields under the same numbers."""
    if as_json:
        partial = {"rejectedSpans": str(refused), "errorMessage": message} if message else None
        return Response(json.dumps({"partialSuccess": partial} if partial else {}), media_type=JSON)
    answer = ExportTraceServiceResponse()
    if message:
        answer.partial_success.rejected_spans = refused
        answer.partial_success.error_message = message
    return Response(answer.SerializeToString(), media_type=PROTOBUF)


def _refused(refusal: RefusedRequest, *, as_json: bool) -> Response:
    status = _STATUS[refusal.outcome]
    headers = {"connection": "close"} if status in (408, 413) else {}
    if refusal.retry_seconds is not None:
        headers["retry-after"] = str(max(1, round(refusal.retry_seconds)))
    code = _RPC_CODE[status]
    if as_json:
        return Response(
            json.dumps({"code": code, "message": refusal.message}),
            status_code=status,
            headers=headers,
            media_type=JSON,
        )
    body = Status(code=code, message=refusal.message).SerializeToString()
    return Response(body, status_code=status, headers=headers, media_type=PROTOBUF)
