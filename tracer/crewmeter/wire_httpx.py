"""The seam in httpx (and its successor httpx2): OpenAI, Anthropic, Google's sync client, LiteLLM, Cohere, Ollama, Mistral …"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from crewmeter.wire_events import is_stream
from crewmeter.wire_exchange import guarded, inside
from crewmeter.wire_request import begin, price_headers, refused
from crewmeter.wire_route import route
from crewmeter.wire_stream import Watch, read_whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import ModuleType

    from crewmeter.wire_exchange import Exchange, Hub

__all__ = ["patch"]


def patch(httpx: ModuleType, hub: Hub) -> Callable[[], None]:
    """Wrap ``Client.send`` and ``AsyncClient.send``; the answer puts the very same functions back."""
    undo = [_patch(httpx.Client, _sync(httpx.Client.send, hub)), _patch(httpx.AsyncClient, _async(httpx.AsyncClient.send, hub))]
    return lambda: [restore() for restore in undo].clear()


def _patch(client: type, wrapper: Any) -> Callable[[], None]:
    original = client.__dict__["send"]
    client.send = wrapper  # type: ignore[attr-defined]  # both client classes have it

    def restore() -> None:
        if client.__dict__.get("send") is wrapper:  # else somebody wrapped ours, which now passes through
            client.send = original  # type: ignore[attr-defined]  # as above

    return restore


def _sync(original: Any, hub: Hub) -> Any:
    seam = _Seam(hub)

    @functools.wraps(original)
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = seam.begin(request) if request.method == "POST" and hub.active else None
        if exchange is None:
            return original(self, request, *args, **kwargs)
        token = inside.set("httpx")
        try:
            response = original(self, request, *args, **kwargs)
        except BaseException as error:
            seam.failed(exchange, error)
            raise
        finally:
            inside.reset(token)
        seam.answered(exchange, request, response)
        return response

    return send


def _async(original: Any, hub: Hub) -> Any:
    seam = _Seam(hub)

    @functools.wraps(original)
    async def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = seam.begin(request) if request.method == "POST" and hub.active else None
        if exchange is None:
            return await original(self, request, *args, **kwargs)
        token = inside.set("httpx")
        try:
            response = await original(self, request, *args, **kwargs)
        except BaseException as error:
            seam.failed(exchange, error)
            raise
        finally:
            inside.reset(token)
        seam.answered(exchange, request, response)
        return response

    return send


class _Seam:
    """What happens round a send, every step guarded."""

    __slots__ = ("_hub",)

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @guarded
    def begin(self, request: Any) -> Exchange | None:
        """The exchange a request opens, if it is one to a model."""
        url = request.url
        path = url.raw_path.decode("ascii", "replace")
        found = route(path)
        return begin(self._hub, "httpx", found, path, (url.host, url.port), _body(request)) if found is not None else None

    @guarded
    def failed(self, exchange: Exchange, error: BaseException) -> None:
        """The request got no answer."""
        refused(self._hub, exchange, error)

    @guarded
    def answered(self, exchange: Exchange, request: Any, response: Any) -> None:
        """The head of an answer is here, and its body too unless the SDK wants to stream it."""
        exchange.status_code = response.status_code
        if response.status_code >= 400:
            refused(self._hub, exchange, None)
            return
        headers = response.headers
        price_headers(exchange, headers)
        content_type = headers.get("content-type", "")
        read = hasattr(response, "_content")  # what `Response.content` is, and raises without
        if read and not is_stream(content_type):
            read_whole(self._hub, exchange, response.content, lambda: _body(request))
            return
        watch = Watch(self._hub, exchange, content_type=content_type, request=lambda: _body(request))
        if read:
            watch.see(response.content)
            watch.end()
        else:
            _Observed(watch, response)


def _body(request: Any) -> bytes:
    """The request's body if it is in memory; a body that is a stream is left alone."""
    body = getattr(request, "_content", b"")
    return body if isinstance(body, bytes) else b""


class _Observed:
    """Follows a response that the SDK streams: shadows its readers with ones that let us look, until the body ends."""

    def __init__(self, watch: Watch, response: Any) -> None:
        self._watch = watch
        self._response = response
        kind = type(response)
        self._iter, self._aiter = kind.iter_bytes, kind.aiter_bytes
        self._close, self._aclose = kind.close, kind.aclose
        for name in _SHADOWED:
            setattr(response, name, getattr(self, name))

    def _unshadow(self) -> None:
        for name in _SHADOWED:
            self._response.__dict__.pop(name, None)

    def iter_bytes(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """As ``Response.iter_bytes``."""
        watch, chunks = self._watch, self._iter(self._response, *args, **kwargs)
        try:
            watch.pulling = True
            for chunk in chunks:
                watch.pulling = False
                watch.see(chunk)
                yield chunk
                watch.pulling = True
        except GeneratorExit:
            watch.end(cut=True, late=True)  # given up, perhaps by the garbage collector
            raise
        except BaseException as error:
            watch.end(error)
            self._unshadow()
            raise
        watch.end()
        self._unshadow()

    async def aiter_bytes(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        """As ``Response.aiter_bytes``."""
        watch, chunks = self._watch, self._aiter(self._response, *args, **kwargs)
        try:
            watch.pulling = True
            async for chunk in chunks:
                watch.pulling = False
                watch.see(chunk)
                yield chunk
                watch.pulling = True
        except GeneratorExit:
            watch.end(cut=True, late=True)
            raise
        except BaseException as error:
            watch.end(error)
            self._unshadow()
            raise
        watch.end()
        self._unshadow()

    def close(self) -> None:
        """As ``Response.close``."""
        try:
            self._close(self._response)
        finally:
            self._given_up()

    async def aclose(self) -> None:
        """As ``Response.aclose``."""
        try:
            await self._aclose(self._response)
        finally:
            self._given_up()

    def _given_up(self) -> None:
        if not self._watch.pulling:
            self._watch.end(cut=True)
            self._unshadow()


_SHADOWED = ("iter_bytes", "aiter_bytes", "close", "aclose")
