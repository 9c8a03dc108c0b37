"""The patch of aiohttp.

Google's async client, Azure's async clients, and direct users of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crewmeter.http.fault_guard import guarded
from crewmeter.http.forms import fields_as_json
from crewmeter.http.patching import replace, wrap_async
from crewmeter.http.request import begin, end_without_answer
from crewmeter.http.response_body import BodyObserver, read_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from crewmeter.http.http_call import HttpExchange, HttpObserver

__all__ = ["patch"]


def patch(aiohttp: ModuleType, observer: HttpObserver) -> Callable[[], None]:
    """Wrap ``ClientSession._request``, which every verb goes through.

    The returned function puts the very same function back.
    """
    streams = aiohttp.streams
    iterators = (streams.AsyncStreamIterator, streams.ChunkTupleAsyncStreamIterator)
    hooks = _AiohttpHooks(observer, iterators)
    return replace(
        aiohttp.ClientSession, "_request", lambda request: wrap_async(request, hooks, observer)
    )


class _AiohttpHooks:
    """What happens around a request, every step guarded."""

    __slots__ = ("_iterators", "_observer")
    library = "aiohttp"

    def __init__(self, observer: HttpObserver, iterators: tuple[type, type]) -> None:
        self._observer = observer
        self._iterators = iterators

    @guarded
    def begin(
        self, /, session: Any, method: str, str_or_url: Any, **kwargs: Any
    ) -> HttpExchange | None:
        """Open the exchange of a request that calls a model."""
        if method in ("GET", "get"):
            return self._observer.continued(urlsplit(str(str_or_url)).path)
        if method not in ("POST", "post"):
            return None
        url = str(str_or_url)
        base = getattr(session, "_base_url", None)
        host = port = None
        if base is not None and "://" not in url:
            host = base.host
            port = base.port
        return begin(
            self._observer,
            "aiohttp",
            url,
            lambda: _body(kwargs),
            host,
            port,
        )

    @guarded
    def failed(self, exchange: HttpExchange, error: BaseException) -> None:
        """End an exchange that got no answer."""
        end_without_answer(self._observer, exchange, error)

    @guarded
    def answered(
        self,
        /,
        exchange: HttpExchange,
        response: Any,
        session: Any,
        method: str,
        str_or_url: Any,
        **kwargs: Any,
    ) -> None:
        """Take the head of an answer. Its body is read later, through `_ObservedContent`."""
        exchange.status_code = response.status
        if response.status >= 400:
            end_without_answer(self._observer, exchange, None)
            return
        headers = response.headers
        read_headers(exchange, headers)
        is_packed = not (kwargs.get("auto_decompress") or session.auto_decompress)
        observer = BodyObserver(
            self._observer,
            exchange,
            content_type=headers.get("content-type", ""),
            request=lambda: _body(kwargs),
            encoding=headers.get("content-encoding", "") if is_packed else "",
        )
        response.content = _ObservedContent(
            response.content,
            observer,
            self._iterators,
        )


def _body(kwargs: Mapping[str, Any]) -> bytes:
    data = kwargs.get("data")
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode("utf-8", "replace")
    fields = getattr(data, "_fields", None)  # aiohttp.FormData
    if isinstance(fields, list):
        return fields_as_json((dict(options).get("name"), value) for options, _, value in fields)
    payload = kwargs.get("json")
    if payload is not None:
        return json.dumps(payload, default=str).encode()
    return b""


class _ObservedContent:
    """A response's `StreamReader` that gives what is read to an observer first."""

    __slots__ = ("_inner", "_iterators", "_observer")

    def __init__(self, inner: Any, observer: BodyObserver, iterators: tuple[type, type]) -> None:
        self._inner = inner
        self._observer = observer
        self._iterators = iterators
        if inner.at_eof():  # an answer without a body
            observer.end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    if not TYPE_CHECKING:  # `isinstance` must see the reader; the type checker has no word for that

        @property
        def __class__(self):
            return type(self._inner)

    def __repr__(self) -> str:
        return repr(self._inner)

    def _see(self, chunk: bytes) -> None:
        self._observer.see(chunk)
        if self._inner.at_eof():
            self._observer.end()

    async def _pull(self, read: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            chunk = await read(*args, **kwargs)
        except BaseException as error:
            self._observer.end(error)
            raise
        self._see(chunk[0] if isinstance(chunk, tuple) else chunk)
        return chunk

    async def read(self, n: int = -1) -> bytes:
        """Do as `StreamReader.read`."""
        return await self._pull(  # type: ignore[no-any-return]
            self._inner.read,
            n,
        )

    async def readany(self) -> bytes:
        """Do as `StreamReader.readany`."""
        return await self._pull(self._inner.readany)  # type: ignore[no-any-return]

    async def readline(self, **kwargs: Any) -> bytes:
        """Do as `StreamReader.readline`."""
        return await self._pull(  # type: ignore[no-any-return]
            self._inner.readline,
            **kwargs,
        )

    async def readuntil(self, *args: Any, **kwargs: Any) -> bytes:
        """Do as `StreamReader.readuntil`."""
        return await self._pull(  # type: ignore[no-any-return]
            self._inner.readuntil,
            *args,
            **kwargs,
        )

    async def readexactly(self, n: int) -> bytes:
        """Do as `StreamReader.readexactly`."""
        return await self._pull(  # type: ignore[no-any-return]
            self._inner.readexactly,
            n,
        )

    async def readchunk(self) -> tuple[bytes, bool]:
        """Do as `StreamReader.readchunk`."""
        return await self._pull(self._inner.readchunk)  # type: ignore[no-any-return]

    def read_nowait(self, n: int = -1) -> bytes:
        """Do as `StreamReader.read_nowait`."""
        chunk: bytes = self._inner.read_nowait(n)
        self._see(chunk)
        return chunk

    def __aiter__(self) -> Any:
        return self._iterators[0](self.readline)

    def iter_chunked(self, n: int) -> Any:
        """Do as `StreamReader.iter_chunked`."""
        return self._iterators[0](lambda: self.read(n))

    def iter_any(self) -> Any:
        """Do as `StreamReader.iter_any`."""
        return self._iterators[0](self.readany)

    def iter_chunks(self) -> Any:
        """Do as `StreamReader.iter_chunks`."""
        return self._iterators[1](self)

    def set_exception(self, *args: Any, **kwargs: Any) -> None:
        """Do as `StreamReader.set_exception`.

        It is called when a response is closed before its end.
        """
        self._inner.set_exception(*args, **kwargs)
        self._observer.end(cut=True)
