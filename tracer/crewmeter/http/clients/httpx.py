"""The seam in httpx (and its successor httpx2): OpenAI, Anthropic, Google's sync client, LiteLLM, Cohere, Ollama, Mistral …"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter.http.http_call import guarded
from crewmeter.http.patching import replace, watched, watched_async
from crewmeter.http.request import begin, price_headers, refused
from crewmeter.http.response_body import Watch, afollowed, followed, read_whole
from crewmeter.http.stream_parsers import is_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import ModuleType

    from crewmeter.http.http_call import HttpExchange, Hub

__all__ = ["patch"]


def patch(httpx: ModuleType, hub: Hub) -> Callable[[], None]:
    """Wrap ``Client.send`` and ``AsyncClient.send``; the answer puts the very same functions back."""
    seam = _Seam(hub)
    undo = (
        replace(httpx.Client, "send", lambda send: watched(send, seam, hub)),
        replace(httpx.AsyncClient, "send", lambda send: watched_async(send, seam, hub)),
    )
    return lambda: [restore() for restore in undo].clear()


class _Seam:
    """What happens round a send, every step guarded."""

    __slots__ = ("_hub",)
    library = "httpx"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @guarded
    def begin(self, _client: Any, request: Any, *_: Any, **__: Any) -> HttpExchange | None:
        """The exchange a request opens, if it is one to a model."""
        if request.method != "POST":
            return None
        url = request.url
        return begin(
            self._hub,
            "httpx",
            url.raw_path.decode("ascii", "replace"),
            lambda: _body(request),
            url.host,
            url.port,
        )

    @guarded
    def failed(self, exchange: HttpExchange, error: BaseException) -> None:
        """The request got no answer."""
        refused(self._hub, exchange, error)

    @guarded
    def answered(
        self, exchange: HttpExchange, response: Any, _client: Any, request: Any, *_: Any, **__: Any
    ) -> None:
        """The head of an answer is here, and its body too unless the SDK wants to stream it."""
        exchange.status_code = response.status_code
        if response.status_code >= 400:
            refused(self._hub, exchange, None)
            return
        body: bytes | None = getattr(
            response, "_content", None
        )  # what `Response.content` is, and raises without
        if (
            body is not None and body.startswith(b"{") and b"}\n{" not in body
        ):  # one document, whatever the headers say
            read_whole(self._hub, exchange, body, response.headers, lambda: _body(request))
            return
        headers = response.headers
        content_type = headers.get("content-type", "")
        if body is not None and not is_stream(content_type):
            read_whole(self._hub, exchange, body, headers, lambda: _body(request))
            return
        price_headers(exchange, headers)
        watch = Watch(
            self._hub, exchange, content_type=content_type, request=lambda: _body(request)
        )
        if body is not None:
            watch.see(body)
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
        return followed(
            self._watch,
            self._iter(self._response, *args, **kwargs),
            self._watch.see,
            self._unshadow,
        )

    def aiter_bytes(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        """As ``Response.aiter_bytes``."""
        return afollowed(
            self._watch,
            self._aiter(self._response, *args, **kwargs),
            self._watch.see,
            self._unshadow,
        )

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
