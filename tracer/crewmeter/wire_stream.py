"""Bodies as they pass: a `Watch` sees the chunks an SDK reads and fills in the exchange, without holding anything up.

Only the lines of a stream that hold a fact (ids, usage, the reason it ended) are parsed; of all others the amount of text is
counted, which is what an estimate needs if the stream is cut.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from crewmeter import semconv
from crewmeter.estimate import TextTally, estimate_request
from crewmeter.usage import MISSING, TokenUsage
from crewmeter.wire_exchange import guarded
from crewmeter.wire_read import absorb, absorb_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crewmeter.wire_exchange import Exchange, Hub

__all__ = ["EVENT_STREAM", "Watch", "is_stream", "read_whole"]

EVENT_STREAM = "application/vnd.amazon.eventstream"
"""Content type of AWS event frames."""
_STREAMS = ("text/event-stream", "application/x-ndjson", "application/stream+json", EVENT_STREAM)

_FACT = re.compile(
    rb'"usage(?:Metadata)?"\s*:\s*\{|"(?:finish_reason|finishReason|stop_reason|done_reason)"\s*:\s*"|"message_start"'
    rb'|"type"\s*:\s*"(?:error|response\.(?:completed|incomplete|failed))"|"error"\s*:\s*[{"]|"billed_units"'
    rb'|"message_stop"|"message-end"|"(?:done|is_finished)"\s*:\s*true|"(?:prompt_)?eval_count"|invocationMetrics|"web_search_call"|webSearchQueries|"generated_token_count"'
)
"""What makes a line of a stream worth parsing."""
_TEXT = re.compile(
    rb'"(?:content|text|delta|arguments|partial_json|thinking|reasoning|reasoning_content|response|generated_text|input)"'
    rb'\s*:\s*"((?:[^"\\]|\\.)*)"'
)
"""The pieces of answer a line carries, in any protocol."""
_LARGEST = 32 * 2**20
"""Bytes of one line, frame or whole body kept in memory; beyond, its middle is dropped."""
_EDGE = 8192
_PRELUDE = 12
"""Bytes before the headers of an AWS event frame: total length, headers' length, checksum (all big-endian u32)."""


def read_whole(hub: Hub, exchange: Exchange, body: bytes, request: Callable[[], bytes]) -> None:
    """End an exchange whose answer the SDK has read already, as one document."""
    absorb_body(exchange, body)
    if exchange.usage == MISSING:
        exchange.usage = _without_usage(exchange, lambda: estimate_request(request()))
    hub.close(exchange)


def is_stream(content_type: str) -> bool:
    """True for answers that come as events."""
    return content_type.startswith(_STREAMS)


class Watch:
    """Follows one response from its first byte to its end."""

    __slots__ = ("_bytes", "_hub", "_inflate", "_kept", "_parts", "_reader", "_request", "_settled", "exchange", "pulling")

    def __init__(self, hub: Hub, exchange: Exchange, *, content_type: str, request: Callable[[], bytes], encoding: str = "") -> None:
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
        self._reader = _reader(content_type, exchange, self._kept)
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
            if self._reader.final:
                self.end()
            return
        self._bytes += len(chunk)
        self._parts.append(chunk)
        if self._bytes > _LARGEST:
            whole = b"".join(self._parts)
            self._parts = [whole[:_EDGE], whole[-_EDGE:]]
            self._bytes = 2 * _EDGE

    @guarded
    def see_frame(self, payload: bytes) -> None:
        """The payload of an event frame that the SDK has taken apart itself."""
        exchange = self.exchange
        if exchange.first_chunk_ns is None:
            exchange.first_chunk_ns = time.time_ns()
        if isinstance(self._reader, _Frames) and not exchange.done:
            self._reader.payload(payload)
            if self._reader.final:
                self.end()
            elif self._reader.asked:
                self._reader.asked = False
                self._estimate("stream_open")

    @guarded
    def end(self, error: BaseException | None = None, *, cut: bool = False, late: bool = False) -> None:
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
            if reader is not None and not reader.finished and usage.status == "reported" and exchange.api == "gemini":
                exchange.usage = replace(usage, status="estimated", flags=(*usage.flags, why))
            return
        written = reader.tally.tokens()
        if usage.input is not None:
            kept = tuple(flag for flag in usage.flags if flag not in _PROVISIONAL)
            flags = (*kept, why, "output_estimated")
            exchange.usage = replace(usage, output=max(written, usage.output or 0), status="estimated", flags=flags)
            return
        read = self._request_tokens()
        if read is None:
            exchange.usage = replace(MISSING, flags=(why,))
            return
        exchange.usage = TokenUsage(read, written, status="estimated", flags=(why, "output_estimated", "input_estimated"))


_PROVISIONAL = frozenset({"output_partial", "output_estimated", "stream_open"})
"""Flags that a later look replaces."""


def _without_usage(exchange: Exchange, request_tokens: Callable[[], int | None]) -> TokenUsage:
    """A whole answer that says nothing of usage. An embedding's is all input, so its request tells; a chat's is not known."""
    if exchange.operation == semconv.EMBEDDINGS:
        tokens = request_tokens()
        if tokens is not None:
            return TokenUsage(tokens, 0, status="estimated", flags=("usage_not_sent", "input_estimated"))
    return replace(MISSING, flags=("usage_not_sent",))


class _Inflater(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


def _inflater(encoding: str) -> _Inflater | None:
    """For clients that hand out compressed chunks: gzip and zlib, told apart by zlib itself."""
    return zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding.lower() in ("gzip", "deflate", "x-gzip") else None


class _Reader(Protocol):
    final: bool
    """Nothing that follows can change what is billed."""
    finished: bool
    """The answer is whole: reading no further cuts nothing off."""
    tally: TextTally

    def feed(self, chunk: bytes) -> None: ...
    def flush(self) -> None: ...


def _reader(content_type: str, exchange: Exchange, kept: dict[str, object]) -> _Reader | None:
    """The reader for a stream of this content type, None for a body that is one document."""
    if not is_stream(content_type):
        return None
    return _Frames(exchange, kept) if content_type.startswith(EVENT_STREAM) else _Lines(exchange, kept)


class _Lines:
    """Server-sent events, and JSON lines as Ollama sends them."""

    def __init__(self, exchange: Exchange, kept: dict[str, object]) -> None:
        self._exchange = exchange
        self._kept = kept
        self._carry: list[bytes] = []
        self._hungry = True
        self.final = self.finished = False
        self.tally = TextTally()

    def feed(self, chunk: bytes) -> None:
        """Take a chunk, which may hold many lines or a piece of one."""
        cut = chunk.rfind(b"\n")
        if cut < 0:
            self._carry.append(chunk)
            return
        block = chunk[:cut]
        if self._carry:
            block = b"".join(self._carry) + block
        self._carry = [chunk[cut + 1 :]] if cut + 1 < len(chunk) else []
        if self._hungry or len(block) > _EDGE or _FACT.search(block) or b"[DONE]" in block:
            for line in block.split(b"\n"):
                self._line(line)
        else:
            self._count(block)

    def flush(self) -> None:
        """Read a last line that has no end of line."""
        if self._carry:
            rest, self._carry = b"".join(self._carry), []
            self._line(rest)

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            line = line[5:]
        elif not line.startswith(b"{"):
            return
        line = line.strip()
        if line == b"[DONE]":
            self.final = self.finished = True
        elif self._hungry or _FACT.search(line):
            self._fact(line)
            self._count(line)
        else:
            self._count(line)

    def _fact(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # a cut line, or a comment
        for item in event if isinstance(event, list) else (event,):
            if isinstance(item, dict):
                self._hungry = False
                absorb(self._exchange, item, self._kept)
                self.final = self.final or _is_last(item)
                self.finished = self.finished or self.final or item.get("type") == "message_delta" or self._gemini_finished()

    def _gemini_finished(self) -> bool:
        return self._exchange.api == "gemini" and self._exchange.finish_reason is not None

    def _count(self, line: bytes) -> None:
        for piece in _TEXT.findall(line):
            self.tally.add(piece.decode("utf-8", "replace") if b"\\" not in piece else _unescaped(piece))


def _unescaped(piece: bytes) -> str:
    try:
        text = json.loads(b'"' + piece + b'"')
    except ValueError:
        return piece.decode("utf-8", "replace")
    return text if isinstance(text, str) else ""


_LAST = frozenset({"message_stop", "message-end", "response.completed", "response.incomplete", "response.failed"})


def _is_last(event: Mapping[str, object]) -> bool:
    """True for the event after which nothing more is billed."""
    return event.get("type") in _LAST or event.get("done") is True or event.get("is_finished") is True


class _Frames:
    """AWS event stream frames, as Bedrock sends them to clients that speak plain HTTP."""

    def __init__(self, exchange: Exchange, kept: dict[str, object]) -> None:
        self._exchange = exchange
        self._kept = kept
        self._buffer = bytearray()
        self.final = self.finished = False
        self.asked = False
        """The model has asked for a tool: CrewAI may leave the stream here and never come to its usage."""
        self._tool = False
        self.tally = TextTally()

    def feed(self, chunk: bytes) -> None:
        """Take a chunk, which may hold many frames or a piece of one."""
        self._buffer += chunk
        while len(self._buffer) >= _PRELUDE:
            total = int.from_bytes(self._buffer[:4], "big")
            headers = int.from_bytes(self._buffer[4:8], "big")
            if not _PRELUDE + headers + 4 <= total <= _LARGEST:
                self._buffer.clear()  # not the framing it claims to be
                return
            if len(self._buffer) < total:
                return
            payload = bytes(self._buffer[_PRELUDE + headers : total - 4])
            del self._buffer[:total]
            self.payload(payload)

    def flush(self) -> None:
        """A frame that is not whole says nothing."""
        self._buffer.clear()

    def payload(self, payload: bytes) -> None:
        """Read one frame's JSON; ``invoke`` wraps the model's own event in base64."""
        for piece in _TEXT.findall(payload):
            self.tally.add(piece.decode("utf-8", "replace"))
        if not _FACT.search(payload) and b'"stopReason"' not in payload and b'"bytes"' not in payload:
            if b'"toolUse"' in payload:
                self._tool = True
            elif self._tool and b'"delta"' not in payload:
                self.asked, self._tool = True, False
            return
        try:
            event = json.loads(payload)
            wrapped = event.get("bytes") if isinstance(event, dict) else None
            if isinstance(wrapped, str):
                inner = base64.b64decode(wrapped)
                for piece in _TEXT.findall(inner):
                    self.tally.add(piece.decode("utf-8", "replace"))
                event = json.loads(inner)
        except (ValueError, binascii.Error):
            return
        if isinstance(event, dict):
            absorb(self._exchange, event, self._kept)
            self.final = self.finished = self.final or "amazon-bedrock-invocationMetrics" in event or _is_metadata(event)


def _is_metadata(event: Mapping[str, object]) -> bool:
    """True for the last event of a Converse stream."""
    return "usage" in event and "metrics" in event
