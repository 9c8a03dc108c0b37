"""The seam in requests: Azure's sync clients, and embedders that use it."""

from __future__ import annotations

import functools
import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crewmeter.wire_exchange import guarded, inside
from crewmeter.wire_request import begin, price_headers, refused
from crewmeter.wire_route import route
from crewmeter.wire_stream import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from crewmeter.wire_exchange import Exchange, Hub

__all__ = ["patch"]


def patch(requests: ModuleType, hub: Hub) -> Callable[[], None]:
    """Wrap ``Session.send``; the answer puts the very same function back."""
    session = requests.Session
    original = session.__dict__["send"]
    seam = _Seam(hub)

    @functools.wraps(original)
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        exchange = seam.begin(request) if getattr(request, "method", None) == "POST" and hub.active else None
        if exchange is None:
            return original(self, request, **kwargs)
        token = inside.set("requests")
        try:
            response = original(self, request, **kwargs)
        except BaseException as error:
            seam.failed(exchange, error)
            raise
        finally:
            inside.reset(token)
        seam.answered(exchange, request, response)
        return response

    session.send = send

    def restore() -> None:
        if session.__dict__.get("send") is send:
            session.send = original

    return restore


class _Seam:
    """What happens round a send, every step guarded."""

    __slots__ = ("_hub",)

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @guarded
    def begin(self, request: Any) -> Exchange | None:
        """The exchange a request opens, if it is one to a model."""
        url = request.url
        found = route(url) if isinstance(url, str) else None
        return begin(self._hub, "requests", found, url, _address(url), _body(request)) if found is not None else None

    @guarded
    def failed(self, exchange: Exchange, error: BaseException) -> None:
        """The request got no answer."""
        refused(self._hub, exchange, error)

    @guarded
    def answered(self, exchange: Exchange, request: Any, response: Any) -> None:
        """The head of an answer is here, and its body too unless it is to be streamed."""
        exchange.status_code = response.status_code
        if response.status_code >= 400:
            refused(self._hub, exchange, None)
            return
        price_headers(exchange, response.headers)
        content_type = response.headers.get("content-type", "")
        watch = Watch(self._hub, exchange, content_type=content_type, request=lambda: _body(request))
        if getattr(response, "_content_consumed", False):
            watch.see(response.content)
            watch.end()
        else:
            _Observed(watch, response)


def _address(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


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
        return self._chunks(self._iter_content(self._response(), *args, **kwargs))

    def _chunks(self, chunks: Iterator[Any]) -> Iterator[Any]:
        watch = self._watch
        try:
            watch.pulling = True
            for chunk in chunks:
                watch.pulling = False
                watch.see(chunk.encode("utf-8", "replace") if isinstance(chunk, str) else chunk)
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
            response = self._response()
            if response is not None:
                self._close(response)
        finally:
            if not self._watch.pulling:
                self._watch.end(cut=True)
                self._unshadow()
