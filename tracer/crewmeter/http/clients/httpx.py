"""The patch of httpx and httpx2, by which most SDKs send.

OpenAI, Anthropic, Google's sync client, LiteLLM, Cohere, Ollama …
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter.http.fault_guard import guarded
from crewmeter.http.forms import httpx_fields
from crewmeter.http.patching import replace, wrap, wrap_async
from crewmeter.http.request import begin, begin_at, end_without_answer, is_nested
from crewmeter.http.response_body import BodyObserver, afollow, follow, read_headers, read_whole
from crewmeter.http.stream_parsers import is_stream
from crewmeter.providers.registry import find_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import ModuleType

    from crewmeter.http.http_call import HttpExchange, HttpObserver

__all__ = ["patch"]


def patch(httpx: ModuleType, observer: HttpObserver) -> Callable[[], None]:
    """Wrap ``Client.send`` and ``AsyncClient.send``.

    The returned function puts the very same functions back.
    """
    hooks = _HttpxHooks(observer)
    undo = (
        replace(httpx.Client, "send", lambda send: wrap(send, hooks, observer)),
        replace(httpx.AsyncClient, "send", lambda send: wrap_async(send, hooks, observer)),
    )

    def restore() -> None:
        for put_back in undo:
            put_back()

    return restore


class _HttpxHooks:
    """What happens around a send, every step guarded."""

    __slots__ = ("_observer",)
    library = "httpx"

    def __init__(self, observer: HttpObserver) -> None:
        self._observer = observer

    @guarded
    def begin(self, _client: Any, request: Any, *_: Any, **__: Any) -> HttpExchange | None:
        """Open the exchange of a request that calls a model."""
        if request.method != "POST":
            if request.method == "GET":
                return self._observer.continued(request.url.path)
            return None
        parts = getattr(request.url, "_uri_reference", None)
        host = getattr(parts, "host", None)
        if parts is None or type(host) is not str or host.startswith("xn--"):
            url = request.url
            path = url.raw_path.decode("ascii", "replace")
            return begin(
                self._observer,
                "httpx",
                path,
                lambda: _body(request),
                url.host,
                url.port,
            )
        # What the properties of `httpx.URL` make, and encode, for each request anew.
        found = find_endpoint(parts.path or "/", host, parts.port)
        if found is None or is_nested("httpx"):
            return None
        return begin_at(
            self._observer,
            found,
            lambda: _body(request),
        )

    @guarded
    def failed(self, exchange: HttpExchange, error: BaseException) -> None:
        """End an exchange that got no answer."""
        end_without_answer(self._observer, exchange, error)

    @guarded
    def answered(
        self, exchange: HttpExchange, response: Any, _client: Any, request: Any, *_: Any, **__: Any
    ) -> None:
        """Take the head of an answer, and its body too unless the SDK wants to stream it."""
        exchange.status_code = response.status_code
        if response.status_code >= 400:
            end_without_answer(self._observer, exchange, None)
            return
        headers = response.headers
        # What `Response.content` is, which raises where nothing is read.
        body: bytes | None = getattr(response, "_content", None)
        # Looking up a header is dear in httpx, and seldom needed.
        is_whole = body is not None and _is_document(body)
        content_type = "" if is_whole else headers.get("content-type", "")
        if body is not None and not is_stream(content_type):
            read_whole(
                self._observer,
                exchange,
                body,
                headers,
                lambda: _body(request),
            )
            return
        read_headers(exchange, headers)
        observer = BodyObserver(
            self._observer, exchange, content_type=content_type, request=lambda: _body(request)
        )
        if body is not None:
            observer.see(body)
            observer.end()
        else:
            _StreamedResponse(observer, response)


def _is_document(body: bytes) -> bool:
    """Tell whether a body is one JSON document, whatever the headers say."""
    return body.startswith(b"{") and b"}\n{" not in body


def _body(request: Any) -> bytes:
    """Return the request's body if it is in memory, or the plain fields of a form.

    A body that is a stream is left alone.
    """
    body = getattr(request, "_content", None)
    if isinstance(body, bytes):
        return body
    return httpx_fields(getattr(request, "stream", None))


class _StreamedResponse:
    """Replaces the readers of a response that the SDK streams, until its body ends."""

    def __init__(self, observer: BodyObserver, response: Any) -> None:
        self._observer = observer
        self._response = response
        kind = type(response)
        self._iter = kind.iter_bytes
        self._aiter = kind.aiter_bytes
        self._close = kind.close
        self._aclose = kind.aclose
        for name in _REPLACED:
            setattr(
                response,
                name,
                getattr(self, name),
            )

    def _put_back(self) -> None:
        for name in _REPLACED:
            self._response.__dict__.pop(name, None)

    def iter_bytes(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        """Do as ``Response.iter_bytes``."""
        chunks = self._iter(
            self._response,
            *args,
            **kwargs,
        )
        return follow(
            self._observer,
            chunks,
            self._observer.see,
            self._put_back,
        )

    def aiter_bytes(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        """Do as ``Response.aiter_bytes``."""
        chunks = self._aiter(
            self._response,
            *args,
            **kwargs,
        )
        return afollow(
            self._observer,
            chunks,
            self._observer.see,
            self._put_back,
        )

    def close(self) -> None:
        """Do as ``Response.close``."""
        try:
            self._close(self._response)
        finally:
            self._give_up()

    async def aclose(self) -> None:
        """Do as ``Response.aclose``."""
        try:
            await self._aclose(self._response)
        finally:
            self._give_up()

    def _give_up(self) -> None:
        if not self._observer.is_pulling:
            self._observer.end(cut=True)
            self._put_back()


_REPLACED = ("iter_bytes", "aiter_bytes", "close", "aclose")
