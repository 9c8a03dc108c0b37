"""The seam in aiohttp: Google's async client, Azure's async clients, and whoever speaks to a model through it directly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crewmeter.http.http_call import guarded
from crewmeter.http.patching import replace, watched_async
from crewmeter.http.request import begin, price_headers, refused
from crewmeter.http.response_body import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from crewmeter.http.http_call import HttpExchange, Hub

__all__ = ["patch"]


def patch(aiohttp: ModuleType, hub: Hub) -> Callable[[], None]:
    """Wrap ``ClientSession._request``, which every verb goes through; the answer puts the very same function back."""
    seam = _Seam(
        hub, aiohttp.streams.AsyncStreamIterator, aiohttp.streams.ChunkTupleAsyncStreamIterator
    )
    return replace(
        aiohttp.ClientSession, "_request", lambda request: watched_async(request, seam, hub)
    )


class _Seam:
    """What happens round a request, every step guarded."""

    __slots__ = ("_hub", "_iterators")
    library = "aiohttp"

    def __init__(self, hub: Hub, chunks: type, tuples: type) -> None:
        self._hub = hub
        self._iterators = (chunks, tuples)

    @guarded
    def begin(
        self, /, session: Any, method: str, str_or_url: Any, **kwargs: Any
    ) -> HttpExchange | None:
        """The exchange a request opens, if it is one to a model."""
        if method not in ("POST", "post"):
            return None
        url, base = str(str_or_url), getattr(session, "_base_url", None)
        host, port = (
            (base.host, base.port) if base is not None and "://" not in url else (None, None)
        )
        return begin(self._hub, "aiohttp", url, lambda: _body(kwargs), host, port)

    @guarded
    def failed(self, exchange: HttpExchange, error: BaseException) -> None:
        """The request got no answer."""
        refused(self._hub, exchange, error)

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
        """The head of an answer is here; its body is read later, through `_Content`."""
        exchange.status_code = response.status
        if response.status >= 400:
            refused(self._hub, exchange, None)
            return
        headers = response.headers
        price_headers(exchange, headers)
        packed = not (kwargs.get("auto_decompress") or session.auto_decompress)
        watch = Watch(
            self._hub,
            exchange,
            content_type=headers.get("content-type", ""),
            request=lambda: _body(kwargs),
            encoding=headers.get("content-encoding", "") if packed else "",
        )
        response.content = _Content(response.content, watch, self._iterators)


def _body(kwargs: Mapping[str, Any]) -> bytes:
    data = kwargs.get("data")
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode("utf-8", "replace")
    payload = kwargs.get("json")
    return json.dumps(payload, default=str).encode() if payload is not None else b""


class _Content:
    """Stands before a response's `StreamReader` and lets us look at what is read from it; all else is the reader's own."""

    __slots__ = ("_inner", "_iterators", "_watch")

    def __init__(self, inner: Any, watch: Watch, iterators: tuple[type, type]) -> None:
        self._inner = inner
        self._watch = watch
        self._iterators = iterators
        if inner.at_eof():  # an answer without a body
            watch.end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    if not TYPE_CHECKING:  # `isinstance` must see the reader; the type checker has no word for that

        @property
        def __class__(self):
            return type(self._inner)

    def __repr__(self) -> str:
        return repr(self._inner)

    def _seen(self, chunk: bytes) -> None:
        self._watch.see(chunk)
        if self._inner.at_eof():
            self._watch.end()

    async def _pull(self, read: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            chunk = await read(*args, **kwargs)
        except BaseException as error:
            self._watch.end(error)
            raise
        self._seen(chunk[0] if isinstance(chunk, tuple) else chunk)
        return chunk

    async def read(self, n: int = -1) -> bytes:
        """As `StreamReader.read`."""
        return await self._pull(self._inner.read, n)  # type: ignore[no-any-return]

    async def readany(self) -> bytes:
        """As `StreamReader.readany`."""
        return await self._pull(self._inner.readany)  # type: ignore[no-any-return]

    async def readline(self, **kwargs: Any) -> bytes:
        """As `StreamReader.readline`."""
        return await self._pull(self._inner.readline, **kwargs)  # type: ignore[no-any-return]

    async def readuntil(self, *args: Any, **kwargs: Any) -> bytes:
        """As `StreamReader.readuntil`."""
        return await self._pull(self._inner.readuntil, *args, **kwargs)  # type: ignore[no-any-return]

    async def readexactly(self, n: int) -> bytes:
        """As `StreamReader.readexactly`."""
        return await self._pull(self._inner.readexactly, n)  # type: ignore[no-any-return]

    async def readchunk(self) -> tuple[bytes, bool]:
        """As `StreamReader.readchunk`."""
        return await self._pull(self._inner.readchunk)  # type: ignore[no-any-return]

    def read_nowait(self, n: int = -1) -> bytes:
        """As `StreamReader.read_nowait`."""
        chunk: bytes = self._inner.read_nowait(n)
        self._seen(chunk)
        return chunk

    def __aiter__(self) -> Any:
        return self._iterators[0](self.readline)

    def iter_chunked(self, n: int) -> Any:
        """As `StreamReader.iter_chunked`."""
        return self._iterators[0](lambda: self.read(n))

    def iter_any(self) -> Any:
        """As `StreamReader.iter_any`."""
        return self._iterators[0](self.readany)

    def iter_chunks(self) -> Any:
        """As `StreamReader.iter_chunks`."""
        return self._iterators[1](self)

    def set_exception(self, *args: Any, **kwargs: Any) -> None:
        """As `StreamReader.set_exception`; called when the response is closed before its end."""
        self._inner.set_exception(*args, **kwargs)
        self._watch.end(cut=True)
