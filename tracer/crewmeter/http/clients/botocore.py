"""The patch of botocore and aiobotocore: Bedrock's calls."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crewmeter import semconv
from crewmeter.http.fault_guard import guarded
from crewmeter.http.http_call import HttpExchange, sending_library
from crewmeter.http.patching import replace, wrap, wrap_async
from crewmeter.http.request import end_without_answer, is_nested
from crewmeter.http.response_body import BodyObserver, follow, read_headers
from crewmeter.http.stream_parsers import EVENT_STREAM
from crewmeter.providers.answer_body import read_body, read_request_body
from crewmeter.providers.aws_operations import BILLED_JOBS, FREE_OPERATIONS
from crewmeter.providers.hosts import provider_of_host
from crewmeter.providers.protocols.bedrock import (
    BEDROCK,
    BEDROCK_INVOKE,
    flag_guardrail,
    invoked_operation,
    rerank_usage,
)
from crewmeter.providers.protocols.generic import UNROUTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import ModuleType

    from crewmeter.http.http_call import HttpObserver

__all__ = ["patch", "patch_aio"]

_SERVICES = ("bedrock-runtime", "bedrock-agent-runtime")
"""The services that run models; the others administrate."""
_PROMPT_KEYS = ("messages", "system", "toolConfig")
_AHEAD_S = 0.5
_body: ContextVar[bytes | None] = ContextVar("crewmeter_bedrock_body", default=None)
"""Converse's answer as it came, from the request until the call returns."""


def patch(client: ModuleType, observer: HttpObserver) -> Callable[[], None]:
    """Wrap ``botocore.client.BaseClient._make_api_call``.

    The returned function puts the very same function back.
    """
    hooks = _BedrockHooks(observer)
    undo = replace(
        client.BaseClient,
        "_make_api_call",
        lambda call: wrap(call, hooks, observer),
    )
    if "_make_request" not in client.BaseClient.__dict__:
        return undo  # a version that has no such step: its answers are read as it parsed them
    undo_request = replace(client.BaseClient, "_make_request", _with_body)

    def restore() -> None:
        undo_request()
        undo()

    return restore


def _with_body(original: Any) -> Any:
    """Return ``original``, a request's sending, with a look at Converse's body.

    botocore drops what its model of the service does not have, such as a new key of the usage.
    """

    @functools.wraps(original)
    def make_request(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        if sending_library.get() == _BedrockHooks.library:
            _note_body(made)
        return made

    return make_request


@guarded
def _note_body(made: tuple[Any, Mapping[str, Any]]) -> None:
    http, parsed = made
    # Only of an answer that was read whole. Reading a stream would take it from the app.
    if "usage" in parsed and "output" in parsed and isinstance(http.content, bytes):
        _body.set(http.content)


def patch_aio(client: ModuleType, observer: HttpObserver) -> Callable[[], None]:
    """Wrap ``aiobotocore.client.AioBaseClient._make_api_call``.

    The returned function puts the very same function back.
    """
    hooks = _BedrockHooks(observer)
    return replace(
        client.AioBaseClient, "_make_api_call", lambda call: wrap_async(call, hooks, observer)
    )


class _BedrockHooks:
    """What happens around an API call, every step guarded."""

    __slots__ = ("_observer",)
    library = "botocore"

    def __init__(self, observer: HttpObserver) -> None:
        self._observer = observer

    @guarded
    def begin(
        self, client: Any, operation_name: str, api_params: Mapping[str, Any]
    ) -> HttpExchange | None:
        """Open the exchange of a call that may be billed.

        The SDK's own retries are inside it: AWS does not bill an attempt that it throttles.
        """
        service = client.meta.service_model.service_name
        if not _is_billed(service, operation_name) or is_nested("botocore"):
            return None
        address = urlsplit(client.meta.endpoint_url)
        model = api_params.get("modelId")
        model = model if isinstance(model, str) else None
        protocol = BEDROCK
        operation = semconv.CHAT
        if operation_name == "Rerank":
            operation = semconv.RERANK
            model = _rerank_model(api_params)
        elif operation_name in ("InvokeModel", "InvokeModelWithResponseStream"):
            protocol = BEDROCK_INVOKE
            operation = invoked_operation(model)
        elif operation_name not in ("Converse", "ConverseStream"):
            protocol = UNROUTED
            operation = semconv.UNROUTED
        exchange = HttpExchange(
            operation=operation,
            protocol=protocol,
            provider="aws.bedrock",
            host=address.hostname,
            port=address.port or 443,
            request_model=model,
        )
        if protocol is UNROUTED:
            exchange.facts.flag("unrouted")
        elif "guardrailConfig" in api_params or "guardrailIdentifier" in api_params:
            flag_guardrail(exchange.facts)
        if provider_of_host(address.hostname) is None and not _is_listed(client.meta.region_name):
            exchange.facts.flag("region_assumed")
        self._observer.open(exchange)
        return exchange

    @guarded
    def failed(self, exchange: HttpExchange, error: BaseException) -> None:
        """End a call that raised: an HTTP error status is in the exception's response."""
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            exchange.status_code = status if isinstance(status, int) else None
            if exchange.status_code is not None and exchange.status_code >= 400:
                end_without_answer(self._observer, exchange, None)
                return
        end_without_answer(self._observer, exchange, error)

    @guarded
    def answered(
        self,
        exchange: HttpExchange,
        response: Mapping[str, Any],
        _client: Any,
        operation_name: str,
        api_params: Mapping[str, Any],
    ) -> None:
        """Take a whole answer, or one whose body is still to be read by the caller."""
        metadata = response.get("ResponseMetadata", {})
        exchange.status_code = metadata.get("HTTPStatusCode")
        exchange.response_id = metadata.get("RequestId")
        read_headers(exchange, metadata.get("HTTPHeaders", {}))
        stream = response.get("stream") or response.get("body")
        if exchange.protocol is UNROUTED:
            self._observer.close(exchange)
        elif hasattr(stream, "_event_generator"):
            observer = BodyObserver(
                self._observer,
                exchange,
                content_type=EVENT_STREAM,
                request=lambda: _request_body(api_params),
            )
            _observe_events(stream, observer)
        elif stream is not None:
            self._observe_body(exchange, stream, api_params)
        else:
            body = _body.get()
            if body is None:
                exchange.facts.read(response)
            else:
                _body.set(None)
                exchange.read_later(lambda late: read_body(late.facts, body))
            if exchange.operation == semconv.RERANK:
                exchange.usage = rerank_usage(api_params)
            self._observer.close(exchange)

    def _observe_body(self, exchange: HttpExchange, body: Any, params: Mapping[str, Any]) -> None:
        """Read InvokeModel's body as the caller reads it.

        The headers count the tokens, but only the body tells the cached ones. That of an
        embedding has nothing more to say.
        """
        is_embedding = exchange.operation == semconv.EMBEDDINGS
        is_known = is_embedding and exchange.usage.status == "reported"
        if is_known:
            read_request_body(exchange.facts, _request_body(params))
        if is_known or not hasattr(body, "_raw_stream"):
            self._observer.close(exchange)
            return
        observer = BodyObserver(
            self._observer,
            exchange,
            content_type="application/json",
            request=lambda: _request_body(params),
        )
        read = body.read

        def read_observed(*args: Any, **kwargs: Any) -> Any:
            chunk = read(*args, **kwargs)
            observer.see(chunk)
            if not chunk or not (args or kwargs):
                observer.end()
            return chunk

        body.read = read_observed


def _is_billed(service: str, operation_name: str) -> bool:
    if service in _SERVICES:
        return operation_name not in FREE_OPERATIONS
    return operation_name in BILLED_JOBS.get(service, ())


def _is_listed(region: object) -> bool:
    """Tell whether a region has the prices that are listed without one."""
    return not isinstance(region, str) or region.startswith("us-")


def _rerank_model(params: Mapping[str, Any]) -> str | None:
    configuration = params.get("rerankingConfiguration", {})
    inner = configuration.get("bedrockRerankingConfiguration", {})
    arn = inner.get("modelConfiguration", {}).get("modelArn")
    if isinstance(arn, str):
        return arn
    return None


def _request_body(params: Mapping[str, Any]) -> bytes:
    body = params.get("body")
    if body is None:
        prompt = {key: params[key] for key in _PROMPT_KEYS if key in params}
        return json.dumps(prompt, default=str).encode()
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes):
        return body
    return b""


def _observe_events(stream: Any, observer: BodyObserver) -> None:
    """Read the raw frames of an event stream on their way to its parser.

    Its close is observed as well.
    """
    frames = stream._event_generator

    def see(frame: Any) -> None:
        observer.see_frame(frame.payload)

    if hasattr(frames, "__anext__"):
        stream._event_generator = _afollow_frames(frames, observer)
    else:
        stream._event_generator = follow(observer, frames, see)
    # A plain reference would tie the stream to itself, and leave its end to the garbage collector.
    alive = weakref.ref(stream)

    def close() -> None:
        try:
            stream = alive()
            if stream is not None:
                type(stream).close(stream)
        finally:
            observer.end(cut=True)

    stream.close = close


async def _afollow_frames(frames: AsyncIterator[Any], observer: BodyObserver) -> AsyncIterator[Any]:
    pending: asyncio.Task[Any] | None = None
    try:
        while True:
            try:
                frame = await (pending or frames.__anext__())
            except StopAsyncIteration:
                break
            pending = None
            observer.see_frame(frame.payload)
            if getattr(frame, "headers", {}).get(":event-type") == "messageStop":
                pending = await _look_ahead(frames, observer)
            yield frame
    except GeneratorExit:
        observer.end(cut=True, late=True)
        if pending is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                pending.cancel()
        raise
    except BaseException as error:
        observer.end(error)
        raise
    observer.end()


async def _look_ahead(
    frames: AsyncIterator[Any], observer: BodyObserver
) -> asyncio.Task[Any] | None:
    """Wait up to half a second for the frame after ``messageStop``.

    It holds the usage, and CrewAI's async client leaves before it. The frame is only read here;
    whoever reads on gets it in its turn. See docs/decisions/0021.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    pending = asyncio.ensure_future(_next(frames))
    await asyncio.wait({pending}, timeout=_AHEAD_S)
    if pending.done() and not pending.cancelled() and pending.exception() is None:
        observer.see_frame(pending.result().payload)
    return pending


async def _next(frames: AsyncIterator[Any]) -> Any:
    return await frames.__anext__()
