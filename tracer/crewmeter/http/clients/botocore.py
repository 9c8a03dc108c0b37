"""The seam in botocore and aiobotocore: Bedrock's Converse and InvokeModel, whole and streamed, sync and async."""

from __future__ import annotations

import asyncio
import contextlib
import json
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crewmeter import semconv
from crewmeter.http.http_call import HttpExchange, guarded
from crewmeter.http.patching import replace, watched, watched_async
from crewmeter.http.request import invoked_operation, nested, price_headers, refused
from crewmeter.http.response_body import Watch, followed
from crewmeter.http.stream_parsers import EVENT_STREAM
from crewmeter.providers.response_fields import absorb
from crewmeter.usage.token_usage import TokenUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import ModuleType

    from crewmeter.http.http_call import Hub

__all__ = ["patch", "patch_aio"]

_OPERATIONS = frozenset(
    {"Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream", "Rerank"}
)
_DOCUMENTS_A_QUERY = 100
"""Bedrock bills a rerank query for each hundred documents or part of it (aws.amazon.com/bedrock/pricing)."""


def patch(client: ModuleType, hub: Hub) -> Callable[[], None]:
    """Wrap ``botocore.client.BaseClient._make_api_call``; the answer puts the very same function back."""
    seam = _Seam(hub)
    return replace(client.BaseClient, "_make_api_call", lambda call: watched(call, seam, hub))


def patch_aio(client: ModuleType, hub: Hub) -> Callable[[], None]:
    """Wrap ``aiobotocore.client.AioBaseClient._make_api_call``; the answer puts the very same function back."""
    seam = _Seam(hub)
    return replace(
        client.AioBaseClient, "_make_api_call", lambda call: watched_async(call, seam, hub)
    )


class _Seam:
    """What happens round an API call, every step guarded."""

    __slots__ = ("_hub",)
    library = "botocore"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @guarded
    def begin(
        self, client: Any, operation_name: str, api_params: Mapping[str, Any]
    ) -> HttpExchange | None:
        """The exchange an API call opens. The SDK's own retries are inside it: AWS bills an attempt it throttles nothing."""
        if (
            operation_name not in _OPERATIONS
            or nested("botocore")
            or not client.meta.service_model.service_name.startswith("bedrock")
        ):
            return None
        address = urlsplit(client.meta.endpoint_url)
        model = api_params.get("modelId")
        model = model if isinstance(model, str) else None
        api, kind = "bedrock", semconv.CHAT
        if operation_name == "Rerank":
            kind, model = semconv.RERANK, _rerank_model(api_params)
        elif operation_name.startswith("Invoke"):
            api, kind = "bedrock.invoke", invoked_operation(model)
        exchange = HttpExchange(
            operation=kind,
            api=api,
            provider="aws.bedrock",
            host=address.hostname,
            port=address.port or 443,
            request_model=model,
        )
        self._hub.open(exchange)
        return exchange

    @guarded
    def failed(self, exchange: HttpExchange, error: BaseException) -> None:
        """The call raised: an HTTP error status is in the exception's response."""
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            exchange.status_code = status if isinstance(status, int) else None
            if exchange.status_code is not None and exchange.status_code >= 400:
                refused(self._hub, exchange, None)
                return
        refused(self._hub, exchange, error)

    @guarded
    def answered(
        self,
        exchange: HttpExchange,
        response: Mapping[str, Any],
        _client: Any,
        operation_name: str,
        api_params: Mapping[str, Any],
    ) -> None:
        """The call returned: a whole answer, or one whose body is still to be read by the caller."""
        metadata = response.get("ResponseMetadata", {})
        exchange.status_code = metadata.get("HTTPStatusCode")
        exchange.response_id = metadata.get("RequestId")
        price_headers(exchange, metadata.get("HTTPHeaders", {}))
        stream = response.get("stream") or response.get("body")
        if hasattr(stream, "_event_generator"):
            watch = Watch(
                self._hub,
                exchange,
                content_type=EVENT_STREAM,
                request=lambda: _request_body(api_params),
            )
            _observe_events(stream, watch)
        elif stream is not None:
            self._invoked(exchange, stream, api_params)
        else:
            absorb(exchange, response, {})
            if exchange.operation == semconv.RERANK:
                exchange.usage = _rerank_usage(api_params)
            self._hub.close(exchange)

    def _invoked(self, exchange: HttpExchange, body: Any, params: Mapping[str, Any]) -> None:
        """InvokeModel: the headers count the tokens, but only the body tells cached ones. It is looked at as the caller reads it."""
        cached = "anthropic" in (exchange.request_model or "")
        if (exchange.usage.status == "reported" and not cached) or not hasattr(body, "_raw_stream"):
            self._hub.close(exchange)
            return
        watch = Watch(
            self._hub,
            exchange,
            content_type="application/json",
            request=lambda: _request_body(params),
        )
        read = body.read

        def seen(*args: Any, **kwargs: Any) -> Any:
            chunk = read(*args, **kwargs)
            watch.see(chunk)
            if not chunk or not (args or kwargs):
                watch.end()
            return chunk

        body.read = seen


def _rerank_model(params: Mapping[str, Any]) -> str | None:
    configuration = params.get("rerankingConfiguration", {}).get(
        "bedrockRerankingConfiguration", {}
    )
    arn = configuration.get("modelConfiguration", {}).get("modelArn")
    return arn if isinstance(arn, str) else None


def _rerank_usage(params: Mapping[str, Any]) -> TokenUsage:
    queries, documents = len(params.get("queries", [])), len(params.get("sources", []))
    units = max(1, queries) * max(1, -(-documents // _DOCUMENTS_A_QUERY))
    return TokenUsage(0, 0, search_units=units, flags=("units_counted_in_request",))


def _request_body(params: Mapping[str, Any]) -> bytes:
    body = params.get("body")
    if body is None:
        return json.dumps(
            {key: params[key] for key in ("messages", "system", "toolConfig") if key in params},
            default=str,
        ).encode()
    return body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else b""


def _observe_events(stream: Any, watch: Watch) -> None:
    """Look at the raw frames of an event stream on their way to its parser, and at its close."""
    frames = stream._event_generator

    def see(frame: Any) -> None:
        watch.see_frame(frame.payload)

    stream._event_generator = (
        _aframes(frames, watch) if hasattr(frames, "__anext__") else followed(watch, frames, see)
    )
    alive = weakref.ref(
        stream
    )  # a plain reference would tie the stream to itself, and leave its end to the garbage collector

    def closed() -> None:
        try:
            stream = alive()
            if stream is not None:
                type(stream).close(stream)
        finally:
            watch.end(cut=True)

    stream.close = closed


async def _aframes(frames: AsyncIterator[Any], watch: Watch) -> AsyncIterator[Any]:
    pending: asyncio.Task[Any] | None = None
    try:
        while True:
            try:
                frame = await (pending or frames.__anext__())
            except StopAsyncIteration:
                break
            pending = None
            watch.see_frame(frame.payload)
            if getattr(frame, "headers", {}).get(":event-type") == "messageStop":
                pending = await _ahead(frames, watch)
            yield frame
    except GeneratorExit:
        watch.end(cut=True, late=True)
        if pending is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                pending.cancel()
        raise
    except BaseException as error:
        watch.end(error)
        raise
    watch.end()


_AHEAD_S = 0.5


async def _ahead(frames: AsyncIterator[Any], watch: Watch) -> asyncio.Task[Any] | None:
    """Wait up to half a second for the frame after ``messageStop``: it holds the usage, and CrewAI's async client leaves before it.

    The frame is only looked at here; whoever reads on gets it in its turn. See docs/decisions/0021.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    pending = asyncio.ensure_future(_next(frames))
    await asyncio.wait({pending}, timeout=_AHEAD_S)
    if pending.done() and not pending.cancelled() and pending.exception() is None:
        watch.see_frame(pending.result().payload)
    return pending


async def _next(frames: AsyncIterator[Any]) -> Any:
    return await frames.__anext__()
