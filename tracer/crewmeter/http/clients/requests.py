"""The seam in requests: Azure's sync clients, and embedders that use it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from crewmeter.http.http_call import guarded
from crewmeter.http.patching import replace, watched
from crewmeter.http.request import begin, price_headers, refused
from crewmeter.http.response_body import Watch, followed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from crewmeter.http.http_call import HttpExchange, Hub

__all__ = ["patch"]


def patch(requests: ModuleType, hub: Hub) -> Callable[[], None]:
    """Wrap ``Session.send``; the answer puts the very same function back."""
    seam = _Seam(hub)
    return replace(requests.Session, "send", lambda send: watched(send, seam, hub))


class _Seam:
    """What happens round a send, every step guarded."""

    __slots__ = ("_hub",)
    library = "requests"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @guarded
    def begin(self, /, _session: Any, request: Any, **_: Any) -> HttpExchange | None:
        """The exchange a request opens, if it is one to a model."""
        if request.method != "POST" or not isinstance(request.url, str):
            return None
        return begin(self._hub, "requests", request.url, lambda: _body(request))

    @guarded
    def failed(self, exchange: HttpExchange, error: BaseException) -> None:
        """The request got no answer."""
        refused(self._hub, exchange, error)

    @guarded
    def answered(
        self, /, exchange: HttpExchange, response: Any, _session: Any, request: Any, **_: Any
    ) -> None:
        """The head of an answer is here, and its body too unless it is to be streamed."""
        exchange.status_code = response.status_code
        if response.status_code >= 400:
            refused(self._hub, exchange, None)
            return
        price_headers(exchange, response.headers)
        content_type = response.headers.get("content-type", "")
        watch = Watch(
            self._hub, exchange, content_type=content_type, request=lambda: _body(request)
        )
        if getattr(response, "_content_consumed", False):
            watch.see(response.content)
            watch.end()
        else:
            _Observed(watch, response)


def _body(request: Any) -> bytes:
    body = request.body
    if isinstance(body, str):
        return body.encode("utf-8", "replace")
    return body if isinstance(body, bytes) else b""


class _Observed:
    """Follows a response that is streamed: ``iter_content``, on which all its other readers stand, and ``close``."""

    def __init__(self, watch: Watch, response: Any) -> None:
        self._watch = watch
        self._response = weakref.ref(response)  # a plain reference would tie the response to itself
        self._iter_content, self._close = type(response).iter_content, type(response).close
        response.iter_content = self.iter_content
        response.close = self.close

    def _unshadow(self) -> None:
        response = self._response()
        for name in ("iter_content", "close") if response is not None else ():
            response.__dict__.pop(name, None)

    def iter_content(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """As ``Response.iter_content``."""
        chunks = self._iter_content(self._response(), *args, **kwargs)
        return followed(self._watch, chunks, self._see, self._unshadow)

    def _see(self, chunk: Any) -> None:
        self._watch.see(chunk.encode("utf-8", "replace") if isinstance(chunk, str) else chunk)

    def close(self) -> None:
        """As ``Response.close``."""
        try:
            response = self._response()
            if response is not None:
                self._close(response)
        finally:
            if not self._watch.pulling:
                self._watch.end(cut=True)
                self._unshadow()
