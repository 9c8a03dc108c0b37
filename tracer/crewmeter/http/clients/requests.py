"""The patch of requests: Azure's sync clients, and embedders that use it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crewmeter.http.fault_guard import guarded
from crewmeter.http.patching import replace, wrap
from crewmeter.http.request import begin, end_without_answer
from crewmeter.http.response_body import BodyObserver, follow, read_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from crewmeter.http.http_call import HttpExchange, HttpObserver

__all__ = ["patch"]


def patch(requests: ModuleType, observer: HttpObserver) -> Callable[[], None]:
    """Wrap ``Session.send``. The returned function puts the very same function back."""
    hooks = _RequestsHooks(observer)
    return replace(
        requests.Session,
        "send",
        lambda send: wrap(send, hooks, observer),
    )


class _RequestsHooks:
    """What happens around a send, every step guarded."""

    __slots__ = ("_observer",)
    library = "requests"

    def __init__(self, observer: HttpObserver) -> None:
        self._observer = observer

    @guarded
    def begin(self, /, _session: Any, request: Any, **_: Any) -> HttpExchange | None:
        """Open the exchange of a request that calls a model."""
        if not isinstance(request.url, str):
            return None
        if request.method == "GET":
            return self._observer.continued(urlsplit(request.url).path)
        if request.method != "POST":
            return None
        return begin(
            self._observer,
            "requests",
            request.url,
            lambda: _body(request),
        )

    @guarded
    def failed(self, exchange: HttpExchange, error: BaseException) -> None:
        """End an exchange that got no answer."""
        end_without_answer(self._observer, exchange, error)

    @guarded
    def answered(
        self, /, exchange: HttpExchange, response: Any, _session: Any, request: Any, **_: Any
    ) -> None:
        """Take the head of an answer, and its body too unless it is to be streamed."""
        exchange.status_code = response.status_code
        if response.status_code >= 400:
            end_without_answer(self._observer, exchange, None)
            return
        read_headers(exchange, response.headers)
        content_type = response.headers.get("content-type", "")
        observer = BodyObserver(
            self._observer, exchange, content_type=content_type, request=lambda: _body(request)
        )
        if getattr(response, "_content_consumed", False):
            observer.see(response.content)
            observer.end()
        else:
            _StreamedResponse(observer, response)


def _body(request: Any) -> bytes:
    body = request.body
    if isinstance(body, str):
        return body.encode("utf-8", "replace")
    if isinstance(body, bytes):
        return body
    return b""


class _StreamedResponse:
    """Replaces the readers of a response that is streamed, until its body ends.

    All of them use ``iter_content``.
    """

    def __init__(self, observer: BodyObserver, response: Any) -> None:
        self._observer = observer
        self._response = weakref.ref(response)  # a plain reference would tie the response to itself
        self._iter_content = type(response).iter_content
        self._close = type(response).close
        response.iter_content = self.iter_content
        response.close = self.close

    def _put_back(self) -> None:
        response = self._response()
        if response is not None:
            response.__dict__.pop("iter_content", None)
            response.__dict__.pop("close", None)

    def iter_content(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Do as ``Response.iter_content``."""
        chunks = self._iter_content(
            self._response(),
            *args,
            **kwargs,
        )
        return follow(
            self._observer,
            chunks,
            self._see,
            self._put_back,
        )

    def _see(self, chunk: Any) -> None:
        self._observer.see(chunk.encode("utf-8", "replace") if isinstance(chunk, str) else chunk)

    def close(self) -> None:
        """Do as ``Response.close``."""
        try:
            response = self._response()
            if response is not None:
                self._close(response)
        finally:
            if not self._observer.is_pulling:
                self._observer.end(cut=True)
                self._put_back()
