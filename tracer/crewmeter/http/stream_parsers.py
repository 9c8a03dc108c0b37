"""Streams taken apart: server-sent events, JSON lines and AWS event frames.

Only the events that hold a fact are parsed; `StreamFormat` says which. Of all others the amount of
text is counted, for the estimate that a cut stream needs. Searching a chunk costs less than
parsing it would.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from typing import TYPE_CHECKING, Protocol

from crewmeter.usage.estimate import TextTally

if TYPE_CHECKING:
    from crewmeter.http.http_call import HttpExchange

__all__ = ["EVENT_STREAM", "LARGEST_BODY", "StreamParser", "is_stream", "stream_parser"]

EVENT_STREAM = "application/vnd.amazon.eventstream"
"""Content type of AWS event frames."""
_STREAMS = ("text/event-stream", "application/x-ndjson", "application/stream+json", EVENT_STREAM)
LARGEST_BODY = 32 * 2**20
"""Bytes of one line, frame or whole body that are held in memory."""
_PRELUDE = 12
"""Bytes before the headers of an AWS event frame: total length, headers' length, checksum.

All are big-endian u32 (docs.aws.amazon.com, "Event stream encoding").
"""
_CHECKSUM = 4
_TALLY_FROM = 2048
"""Bytes of text that wait to be counted together."""
_BACKSLASH = 0x5C


def is_stream(content_type: str) -> bool:
    """Tell whether an answer of this content type comes as events."""
    return content_type.startswith(_STREAMS)


class StreamParser(Protocol):
    """Reads one stream, chunk by chunk, into the facts of an exchange."""

    requests_tool: bool
    """A request for a tool has just ended: CrewAI's Bedrock client may leave here, before usage."""
    is_final: bool
    """Nothing that follows can change what is billed."""
    is_finished: bool
    """The answer is whole: reading no further cuts nothing off."""

    def feed(self, chunk: bytes) -> None:
        """Take a chunk, which may hold many events or a piece of one."""

    def payload(self, payload: bytes) -> None:
        """Take the body of one event, already out of its frame."""

    def flush(self) -> None:
        """Read what is left at the end of the stream."""

    def text_tokens(self) -> int:
        """Return the tokens of the text that went by, estimated."""


def stream_parser(content_type: str, exchange: HttpExchange) -> StreamParser | None:
    """Return the parser for a stream of this content type.

    Returns None for a single document.
    """
    if not is_stream(content_type):
        return None
    if content_type.startswith(EVENT_STREAM):
        return _Frames(exchange)
    return _Lines(exchange)


class _TextCount:
    """Counts the pieces of an answer by their keys.

    At most 2 KB wait; nothing is stored.
    """

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys
        self._waiting = bytearray()
        self._tally = TextTally()

    def search(self, block: bytes) -> None:
        """Count the pieces in ``block``."""
        for key in self._keys:
            at = block.find(key)
            while at >= 0:
                at = self._take_piece(
                    block,
                    at + len(key),
                )
                at = block.find(key, at)
        if len(self._waiting) > _TALLY_FROM:
            self._count()

    def _take_piece(self, block: bytes, at: int) -> int:
        """Take the JSON string at ``at``, and return where it ends.

        It may begin one later, after a space.
        """
        if block[at : at + 1] == b" ":
            at += 1
        if block[at : at + 1] != b'"':
            return at
        end = block.find(b'"', at + 1)
        # An escaped quote. After an escaped backslash this reads a little too far.
        while end > 0 and block[end - 1] == _BACKSLASH:
            end = block.find(b'"', end + 1)
        if end < 0:
            end = len(block)
        self._waiting += block[at + 1 : end]
        return end

    def _count(self) -> None:
        piece = bytes(self._waiting)
        self._waiting.clear()
        text = piece.decode("utf-8", "replace")
        if b"\\" in piece:
            with contextlib.suppress(ValueError):  # else counted as it stands
                text = str(json.loads(f'"{text}"'))
        self._tally.add(text)

    def tokens(self) -> int:
        """Return the tokens of all that was searched, estimated."""
        self._count()
        return self._tally.tokens()


class _Lines:
    """Server-sent events, and JSON lines as Ollama sends them."""

    def __init__(self, exchange: HttpExchange) -> None:
        stream = exchange.protocol.stream
        self._facts = exchange.facts
        self._format = stream
        self._marks = stream.marks + stream.marks_of.get(exchange.provider or "", ())
        self._text = _TextCount(stream.text_keys)
        self._carry: list[bytes] = []
        self._needs_first = True
        self.requests_tool = False
        self.is_final = False
        self.is_finished = False

    def feed(self, chunk: bytes) -> None:
        cut = chunk.rfind(b"\n")
        if cut < 0:
            self._carry.append(chunk)
            return
        block = chunk[:cut]
        if self._carry:
            block = b"".join(self._carry) + block
        self._carry = [chunk[cut + 1 :]] if cut + 1 < len(chunk) else []
        if self._needs_first or self._is_marked(block):
            for line in block.split(b"\n"):
                self._take_line(line)
        else:
            self._text.search(block)

    def payload(self, payload: bytes) -> None:
        self._take_line(payload)

    def flush(self) -> None:
        if self._carry:
            rest = b"".join(self._carry)
            self._carry = []
            self._take_line(rest)

    def text_tokens(self) -> int:
        return self._text.tokens()

    def _is_marked(self, block: bytes) -> bool:
        for mark in self._marks:  # noqa: SIM110 - a generator would double the cost of every chunk
            if mark in block:
                return True
        return False

    def _take_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            line = line[5:]
        elif not line.startswith(b"{"):
            return
        line = line.strip()
        if line == b"[DONE]":
            self.is_final = True
            self.is_finished = True
            return
        if self._needs_first or self._is_marked(line):
            self._read_event(line)
        self._text.search(line)

    def _read_event(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return  # a cut line, a comment, or nested beyond reason
        for item in event if isinstance(event, list) else (event,):
            if isinstance(item, dict):
                self._needs_first = False
                self._facts.read(item)
                self.is_final = self.is_final or self._format.is_last(item)
                whole = self.is_final or self._format.is_whole(item)
                self.is_finished = self.is_finished or whole


class _Frames:
    """AWS event stream frames, as Bedrock sends them."""

    def __init__(self, exchange: HttpExchange) -> None:
        stream = exchange.protocol.stream
        self._facts = exchange.facts
        self._format = stream
        self._text = _TextCount(stream.text_keys)
        self._buffer = bytearray()
        self._in_tool = False
        self.requests_tool = False
        self.is_final = False
        self.is_finished = False

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        while len(self._buffer) >= _PRELUDE:
            total = int.from_bytes(
                self._buffer[:4],
                "big",
            )
            headers = int.from_bytes(
                self._buffer[4:8],
                "big",
            )
            if not _PRELUDE + headers + _CHECKSUM <= total <= LARGEST_BODY:
                self._buffer.clear()  # not the framing it claims to be
                return
            if len(self._buffer) < total:
                return
            payload = bytes(self._buffer[_PRELUDE + headers : total - _CHECKSUM])
            del self._buffer[:total]
            self.payload(payload)

    def flush(self) -> None:
        self._buffer.clear()  # a frame that is not whole says nothing

    def text_tokens(self) -> int:
        return self._text.tokens()

    def payload(self, payload: bytes) -> None:
        self._text.search(payload)
        if not any(mark in payload for mark in self._format.marks):
            self._watch_tool(payload)
            return
        event = self._event(payload)
        if isinstance(event, dict):
            self._facts.read(event)
            self.is_final = self.is_final or self._format.is_last(event)
            self.is_finished = self.is_final

    def _watch_tool(self, payload: bytes) -> None:
        """Notice the end of a request for a tool: a frame after it that is no piece of it."""
        if self._format.tool_marks is None:
            return
        start, piece = self._format.tool_marks
        if start in payload:
            self._in_tool = True
        elif self._in_tool and piece not in payload:
            self.requests_tool = True
            self._in_tool = False

    def _event(self, payload: bytes) -> object:
        """Return one frame's JSON. InvokeModel wraps the model's own event in base64."""
        try:
            event = json.loads(payload)
            wrapped = event.get("bytes") if isinstance(event, dict) else None
            if isinstance(wrapped, str):
                inner = base64.b64decode(wrapped)
                self._text.search(inner)
                event = json.loads(inner)
        except (ValueError, RecursionError, binascii.Error):
            return None
        return event
