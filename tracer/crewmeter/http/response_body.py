"""Bodies as they pass: a `Watch` sees the chunks an SDK reads and fills in the exchange, without holding anything up."""

from __future__ import annotations

import time
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from crewmeter import semconv
from crewmeter.http.http_call import guarded
from crewmeter.http.request import price_headers
from crewmeter.http.stream_parsers import LARGEST, reader
from crewmeter.providers.response_fields import absorb_body
from crewmeter.usage.estimate import estimate_request
from crewmeter.usage.token_usage import MISSING, TokenUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from crewmeter.http.http_call import HttpExchange, Hub
    from crewmeter.http.stream_parsers import Reader

__all__ = ["Watch", "afollowed", "followed", "read_whole"]

PUT_OFF_UP_TO = 32 * 1024
"""Bytes of an answer that may wait a moment for the export thread to read it; a longer one would hold too much memory."""
_EDGE = 8192
"""Bytes at either end of a body too large to keep that are kept all the same."""


def read_whole(
    hub: Hub,
    exchange: HttpExchange,
    body: bytes,
    headers: Mapping[str, str],
    request: Callable[[], bytes],
) -> None:
    """End an exchange whose answer the SDK has read already, as one document. A short one is read when somebody asks for it."""

    def read(exchange: HttpExchange) -> None:
        price_headers(exchange, headers)
        absorb_body(exchange, body)
        if exchange.usage == MISSING:
            exchange.usage = _without_usage(exchange, lambda: estimate_request(request()))

    if len(body) <= PUT_OFF_UP_TO:
        exchange.read_later(read)
    else:
        read(exchange)
    hub.close(exchange)


class Watch:
    """Follows one response from its first byte to its end."""

    __slots__ = (
        "_bytes",
        "_hub",
        "_inflate",
        "_kept",
        "_parts",
        "_reader",
        "_request",
        "_settled",
        "exchange",
        "pulling",
    )

    def __init__(
        self,
        hub: Hub,
        exchange: HttpExchange,
        *,
        content_type: str,
        request: Callable[[], bytes],
        encoding: str = "",
    ) -> None:
        """``request`` (its body) is looked at again only if the answer is cut; ``encoding`` is given where chunks arrive compressed."""
        self._hub = hub
        self.exchange = exchange
        self._request: Callable[[], bytes] | None = request
        self._kept: dict[str, object] = {}
        self._parts: list[bytes] = []
        self._bytes = 0
        self._inflate = _inflater(encoding)
        self._settled = False
        self.pulling = False
        """True while the SDK waits for a chunk; a close in the middle of that is the transport's own, at the end of the body."""
        self._reader = reader(content_type, exchange, self._kept)
        exchange.streamed = self._reader is not None

    @guarded
    def see(self, chunk: bytes) -> None:
        """A chunk the SDK has just read."""
        exchange = self.exchange
        if exchange.done or not chunk:
            return
        if exchange.first_chunk_ns is None and self._reader is not None:
            exchange.first_chunk_ns = time.time_ns()
        if self._inflate is not None:
            chunk = self._inflate.decompress(chunk)
        if self._reader is not None:
            self._reader.feed(chunk)
            self._seen(self._reader)
            return
        self._bytes += len(chunk)
        self._parts.append(chunk)
        if self._bytes > LARGEST:
            whole = b"".join(self._parts)
            self._parts = [whole[:_EDGE], whole[-_EDGE:]]
            self._bytes = 2 * _EDGE

    @guarded
    def see_frame(self, payload: bytes) -> None:
        """The payload of an event frame that the SDK has taken apart itself."""
        exchange = self.exchange
        if exchange.first_chunk_ns is None:
            exchange.first_chunk_ns = time.time_ns()
        if self._reader is not None and not exchange.done:
            self._reader.payload(payload)
            self._seen(self._reader)

    def _seen(self, reader: Reader) -> None:
        if reader.final:
            self.end()
        elif reader.asked:
            reader.asked = False
            self._estimate("stream_open")

    @guarded
    def end(
        self, error: BaseException | None = None, *, cut: bool = False, late: bool = False
    ) -> None:
        """The body is over: finished, failed with ``error``, or ``cut`` short by the one who read it."""
        if self._settled:
            if not late:
                self._hub.settle()
            return
        self._settled = True
        exchange = self.exchange
        if error is not None:
            exchange.error_type = type(error).__name__
        if self._reader is None:
            self._end_whole(cut=cut or error is not None)
        else:
            self._reader.flush()
            # A transport may swallow the break; an answer that came to its end has said why it ended.
            broken = not self._reader.finished and (cut or exchange.finish_reason is None)
            if error is not None or exchange.error_type or broken:
                self._estimate("stream_cut")
            elif exchange.usage.status == "missing" and not exchange.usage.flags:
                exchange.usage = replace(MISSING, flags=("usage_not_sent",))
        self._request = None
        self._parts = []
        (self._hub.close_late if late else self._hub.close)(exchange)

    def _end_whole(self, *, cut: bool) -> None:
        body = b"".join(self._parts)
        if not body and cut:
            self.exchange.usage = replace(MISSING, flags=("body_not_read",))
            return
        absorb_body(self.exchange, body)
        if self.exchange.usage == MISSING:
            self.exchange.usage = _without_usage(self.exchange, self._request_tokens)

    def _request_tokens(self) -> int | None:
        return estimate_request(self._request()) if self._request is not None else None

    def _estimate(self, why: str) -> None:
        """Say what an answer has used until now; exact where the provider got to say it. ``why`` is flagged."""
        exchange, reader = self.exchange, self._reader
        usage = exchange.usage
        if reader is None or usage.status in ("reported", "invalid"):
            if (
                reader is not None
                and not reader.finished
                and usage.status == "reported"
                and exchange.api == "gemini"
            ):
                exchange.usage = replace(usage, status="estimated", flags=(*usage.flags, why))
            return
        written = reader.written()
        if usage.input is not None:
            kept = tuple(flag for flag in usage.flags if flag not in _PROVISIONAL)
            flags = (*kept, why, "output_estimated")
            exchange.usage = replace(
                usage, output=max(written, usage.output or 0), status="estimated", flags=flags
            )
            return
        read = self._request_tokens()
        if read is None:
            exchange.usage = replace(MISSING, flags=(why,))
            return
        exchange.usage = TokenUsage(
            read, written, status="estimated", flags=(why, "output_estimated", "input_estimated")
        )


_PROVISIONAL = frozenset({"output_partial", "output_estimated", "stream_open"})
"""Flags that a later look replaces."""


def _without_usage(exchange: HttpExchange, request_tokens: Callable[[], int | None]) -> TokenUsage:
    """A whole answer that says nothing of usage. An embedding's is all input, so its request tells; a chat's is not known."""
    if exchange.operation == semconv.EMBEDDINGS:
        tokens = request_tokens()
        if tokens is not None:
            return TokenUsage(
                tokens, 0, status="estimated", flags=("usage_not_sent", "input_estimated")
            )
    return replace(MISSING, flags=("usage_not_sent",))


def followed(
    watch: Watch,
    chunks: Iterator[Any],
    see: Callable[[Any], object],
    over: Callable[[], object] | None = None,
) -> Iterator[Any]:
    """``chunks`` as somebody reads them, each shown to ``see``; the end of them is ``watch``'s end, and then ``over`` is called."""
    try:
        watch.pulling = True
        for chunk in chunks:
            watch.pulling = False
            see(chunk)
            yield chunk
            watch.pulling = True
    except GeneratorExit:
        watch.end(cut=True, late=True)  # given up, perhaps by the garbage collector
        raise
    except BaseException as error:
        watch.end(error)
        _tell(over)
        raise
    watch.end()
    _tell(over)


async def afollowed(
    watch: Watch,
    chunks: AsyncIterator[Any],
    see: Callable[[Any], object],
    over: Callable[[], object] | None = None,
) -> AsyncIterator[Any]:
    """The same for chunks that are awaited."""
    try:
        watch.pulling = True
        async for chunk in chunks:
            watch.pulling = False
            see(chunk)
            yield chunk
            watch.pulling = True
    except GeneratorExit:
        watch.end(cut=True, late=True)
        raise
    except BaseException as error:
        watch.end(error)
        _tell(over)
        raise
    watch.end()
    _tell(over)


def _tell(over: Callable[[], object] | None) -> None:
    if over is not None:
        over()


class _Inflater(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


def _inflater(encoding: str) -> _Inflater | None:
    """For clients that hand out compressed chunks: gzip and zlib, told apart by zlib itself."""
    return (
        zlib.decompressobj(zlib.MAX_WBITS | 32)
        if encoding.lower() in ("gzip", "deflate", "x-gzip")
        else None
    )
