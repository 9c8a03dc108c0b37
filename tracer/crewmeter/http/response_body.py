"""Response bodies, read into the exchange as they pass.

Nothing is held up by it.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from crewmeter import semconv
from crewmeter.http.fault_guard import guarded
from crewmeter.http.stream_parsers import LARGEST_BODY, stream_parser
from crewmeter.providers.answer_body import read_body, read_plain_body, read_request_body
from crewmeter.providers.answer_headers import are_plain_headers, read_answer_headers
from crewmeter.usage.estimate import estimate_request
from crewmeter.usage.token_usage import MISSING, TokenUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from crewmeter.http.http_call import HttpExchange, HttpObserver
    from crewmeter.http.stream_parsers import StreamParser
    from crewmeter.providers.provider_protocol import PlainAnswer

__all__ = ["BodyObserver", "afollow", "follow", "read_headers", "read_whole"]

_READ_LATER_UP_TO = 32 * 1024
"""Bytes of an answer that may wait for the export thread; a longer one holds too much memory."""
_EDGE = 8192
"""Bytes at either end of a body too large to hold that are held all the same."""
_PROVISIONAL = frozenset({"output_partial", "output_estimated", "stream_open"})
"""Flags that a later look replaces."""


def read_headers(exchange: HttpExchange, headers: Mapping[str, str]) -> None:
    """Take what the headers of an answer say of its price."""
    read_answer_headers(
        exchange.facts,
        headers,
        is_known_host=exchange.is_known_host,
    )


def read_whole(
    observer: HttpObserver,
    exchange: HttpExchange,
    body: bytes,
    headers: Mapping[str, str],
    request: Callable[[], bytes],
) -> None:
    """End an exchange whose answer the SDK has read already, as one document.

    A short answer is read when somebody wants to know what it says.
    """

    document = _UnreadDocument(body, headers, request)
    if len(body) <= _READ_LATER_UP_TO and not exchange.in_background:
        exchange.read_later(document.read, document.read_plain)
    else:
        document.read(exchange)
    observer.close(exchange)


class _UnreadDocument:
    """An answer as one document, with its headers and what gives the request's body."""

    __slots__ = ("_body", "_headers", "_request")

    def __init__(
        self, body: bytes, headers: Mapping[str, str], request: Callable[[], bytes]
    ) -> None:
        self._body = body
        self._headers = headers
        self._request = request

    def read(self, exchange: HttpExchange) -> None:
        """Read all of it."""
        read_headers(exchange, self._headers)
        _read_document(exchange, self._body, self._request)

    def read_plain(self, exchange: HttpExchange) -> PlainAnswer | None:
        """Read it the short way, if nothing in it or its headers needs more."""
        if exchange.operation != semconv.CHAT or not are_plain_headers(self._headers):
            return None
        protocol = exchange.protocol
        has_plain_headers = protocol.has_plain_headers
        if has_plain_headers is not None and not has_plain_headers(self._headers):
            return None
        return read_plain_body(
            protocol,
            self._body,
            exchange.request_model,
        )


def _read_document(exchange: HttpExchange, body: bytes, request: Callable[[], bytes]) -> None:
    facts = exchange.facts
    read_body(facts, body)
    if facts.protocol.read_request is not None:
        read_request_body(facts, request())
    if facts.usage is MISSING:
        facts.usage = _without_usage(
            exchange,
            lambda: estimate_request(request()),
        )
    facts.let_go()


class BodyObserver:
    """Follows one response from its first byte to its end."""

    __slots__ = (
        "_bytes",
        "_has_ended",
        "_inflate",
        "_observer",
        "_parser",
        "_parts",
        "_request",
        "exchange",
        "is_pulling",
    )

    def __init__(
        self,
        observer: HttpObserver,
        exchange: HttpExchange,
        *,
        content_type: str,
        request: Callable[[], bytes],
        encoding: str = "",
    ) -> None:
        """Begin to follow a body.

        Args:
            observer: Announces the end of the exchange.
            exchange: What the body is read into.
            content_type: The response's.
            request: Gives the request's body, read again only if the answer leaves something out.
            encoding: The content encoding, where chunks arrive compressed.
        """
        self._observer = observer
        self.exchange = exchange
        self._request: Callable[[], bytes] | None = request
        self._parts: list[bytes] = []
        self._bytes = 0
        self._inflate = _inflater(encoding)
        self._has_ended = False
        self.is_pulling = False
        """True while the SDK waits for a chunk. A close during it is the transport's own."""
        self._parser = stream_parser(content_type, exchange)
        exchange.streamed = self._parser is not None

    @guarded
    def see(self, chunk: bytes) -> None:
        """Take a chunk that the SDK has just read."""
        exchange = self.exchange
        if exchange.done or not chunk:
            return
        if exchange.first_chunk_ns is None and self._parser is not None:
            exchange.first_chunk_ns = time.time_ns()
        if self._inflate is not None:
            chunk = self._inflate.decompress(chunk)
        if self._parser is not None:
            exchange.chunks += 1
            self._parser.feed(chunk)
            self._check(self._parser)
            return
        self._bytes += len(chunk)
        self._parts.append(chunk)
        if self._bytes > LARGEST_BODY:
            whole = b"".join(self._parts)
            self._parts = [
                whole[:_EDGE],
                whole[-_EDGE:],
            ]
            self._bytes = 2 * _EDGE

    @guarded
    def see_frame(self, payload: bytes) -> None:
        """Take the payload of an event frame that the SDK has taken apart itself."""
        exchange = self.exchange
        if exchange.first_chunk_ns is None:
            exchange.first_chunk_ns = time.time_ns()
        exchange.chunks += 1
        if self._parser is not None and not exchange.done:
            self._parser.payload(payload)
            self._check(self._parser)

    def _check(self, parser: StreamParser) -> None:
        if parser.is_final:
            self.end()
        elif parser.requests_tool:
            parser.requests_tool = False
            self._estimate("stream_open")

    @guarded
    def end(
        self, error: BaseException | None = None, *, cut: bool = False, late: bool = False
    ) -> None:
        """End the exchange.

        Args:
            error: What the body failed with, if it did.
            cut: Whether its reader stopped before the end.
            late: Whether this may be the garbage collector's thread.
        """
        if self._has_ended:
            if not late:
                self._observer.announce_late()
            return
        self._has_ended = True
        exchange = self.exchange
        if error is not None:
            exchange.error_type = type(error).__name__
        if self._parser is None:
            self._end_document(cut=cut or error is not None)
        else:
            self._end_stream(
                self._parser,
                cut=cut,
                failed=error is not None,
            )
        exchange.facts.let_go()
        self._request = None
        self._parts = []
        if late:
            self._observer.close_late(exchange)
        else:
            self._observer.close(exchange)

    def _end_stream(self, parser: StreamParser, *, cut: bool, failed: bool) -> None:
        parser.flush()
        exchange = self.exchange
        if exchange.protocol.read_request is not None:
            read_request_body(exchange.facts, self._request_body())
        # A transport may swallow the break; an answer that came to its end has said why it ended.
        is_broken = not parser.is_finished and (cut or exchange.finish_reason is None)
        if failed or exchange.error_type or is_broken:
            self._estimate("stream_cut")
        elif exchange.usage.status == "missing" and not exchange.usage.flags:
            exchange.usage = replace(MISSING, flags=("usage_not_sent",))

    def _end_document(self, *, cut: bool) -> None:
        body = b"".join(self._parts)
        if not body and cut:
            self.exchange.usage = replace(MISSING, flags=("body_not_read",))
            return
        _read_document(self.exchange, body, self._request_body)

    def _request_body(self) -> bytes:
        if self._request is not None:
            return self._request()
        return b""

    def _estimate(self, why: str) -> None:
        """Estimate what an answer has used until now.

        Exact where the provider got to say it. ``why`` becomes a flag.
        """
        exchange = self.exchange
        parser = self._parser
        usage = exchange.usage
        if parser is None or usage.status == "invalid":
            return
        if usage.status == "reported":
            if exchange.protocol.stream.running_totals and not parser.is_finished:
                exchange.usage = replace(
                    usage,
                    status="estimated",
                    flags=(*usage.flags, why),
                )
            return
        tokens = parser.text_tokens()
        if usage.input is not None:
            lasting = tuple(flag for flag in usage.flags if flag not in _PROVISIONAL)
            exchange.usage = replace(
                usage,
                output=max(tokens, usage.output or 0),
                status="estimated",
                flags=(*lasting, why, "output_estimated"),
            )
            return
        prompt = estimate_request(self._request_body())
        if prompt is None:
            exchange.usage = replace(MISSING, flags=(why,))
            return
        flags = (why, "output_estimated", "input_estimated")
        exchange.usage = TokenUsage(prompt, tokens, status="estimated", flags=flags)


def _without_usage(exchange: HttpExchange, request_tokens: Callable[[], int | None]) -> TokenUsage:
    """Return the usage of a whole answer that says nothing of it.

    An embedding's is all input, so its request tells; a chat's is not known.
    """
    if exchange.operation == semconv.EMBEDDINGS:
        tokens = request_tokens()
        if tokens is not None:
            flags = ("usage_not_sent", "input_estimated")
            return TokenUsage(tokens, 0, status="estimated", flags=flags)
    return replace(MISSING, flags=("usage_not_sent",))


def follow(
    observer: BodyObserver,
    chunks: Iterator[Any],
    see: Callable[[Any], object],
    at_end: Callable[[], object] | None = None,
) -> Iterator[Any]:
    """Yield ``chunks`` as somebody reads them, each given to ``see`` first.

    Their end is the observer's end. Then ``at_end`` is called.
    """
    try:
        observer.is_pulling = True
        for chunk in chunks:
            observer.is_pulling = False
            see(chunk)
            yield chunk
            observer.is_pulling = True
    except GeneratorExit:
        observer.end(cut=True, late=True)  # given up, perhaps by the garbage collector
        raise
    except BaseException as error:
        observer.end(error)
        _call(at_end)
        raise
    observer.end()
    _call(at_end)


async def afollow(
    observer: BodyObserver,
    chunks: AsyncIterator[Any],
    see: Callable[[Any], object],
    at_end: Callable[[], object] | None = None,
) -> AsyncIterator[Any]:
    """Do as `follow` with chunks that are awaited."""
    try:
        observer.is_pulling = True
        async for chunk in chunks:
            observer.is_pulling = False
            see(chunk)
            yield chunk
            observer.is_pulling = True
    except GeneratorExit:
        observer.end(cut=True, late=True)
        raise
    except BaseException as error:
        observer.end(error)
        _call(at_end)
        raise
    observer.end()
    _call(at_end)


def _call(at_end: Callable[[], object] | None) -> None:
    if at_end is not None:
        at_end()


class _Inflater(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


def _inflater(encoding: str) -> _Inflater | None:
    """Return a decompressor for clients that hand out compressed chunks.

    zlib itself tells gzip and deflate apart.
    """
    if encoding.lower() in ("gzip", "deflate", "x-gzip"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    return None
