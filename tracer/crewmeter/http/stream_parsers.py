"""Streams taken apart: server-sent events, JSON lines and AWS event frames. Only the events that hold a fact are parsed.

Of all others the amount of text is counted, for the estimate that a cut stream needs. A look at a chunk costs less than
parsing it would.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from typing import TYPE_CHECKING, Protocol

from crewmeter.providers.response_fields import absorb
from crewmeter.usage.estimate import TextTally

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.http.http_call import HttpExchange

__all__ = ["EVENT_STREAM", "LARGEST", "Reader", "is_stream", "reader"]

EVENT_STREAM = "application/vnd.amazon.eventstream"
"""Content type of AWS event frames."""
_STREAMS = ("text/event-stream", "application/x-ndjson", "application/stream+json", EVENT_STREAM)
LARGEST = 32 * 2**20
"""Bytes of one line, frame or whole body that are kept in memory."""
_PRELUDE = 12
"""Bytes before the headers of an AWS event frame: total length, headers' length, checksum (all big-endian u32)."""

_OPENAI = (
    b'"usage":{',
    b'"usage": {',
    b'_reason":"',
    b'_reason": "',
    b'"error"',
    b"[DONE]",
    b'"x_groq"',
    b"_token_count",
)
_ANTHROPIC = (b'"message_start"', b'"message_delta"', b'"message_stop"', b'"error"')
_MARKS = {
    "responses": (
        b'"response.completed"',
        b'"response.incomplete"',
        b'"response.failed"',
        b'"error":{',
        b'"error": {',
        b'"type":"error"',
        b'"type": "error"',
    ),
    "anthropic": _ANTHROPIC,
    "gemini": (b'"usageMetadata"', b'"finishReason"', b'"groundingMetadata"', b'"error"'),
    "cohere": (
        b'"message-end"',
        b'"stream-end"',
        b'"billed_units"',
        b'"is_finished":true',
        b'"is_finished": true',
    ),
    "ollama": (b'"done":true', b'"done": true', b'eval_count"', b'"error"'),
}
"""Protocol → what only the events of it have that hold a fact; the others speak OpenAI's."""
_FRAME_MARKS = (b'"usage"', b'"stopReason"', b'"bytes"', b"invocationMetrics")
_TEXT = {
    "responses": (b'"delta":',),
    "anthropic": (b'"text":', b'"partial_json":', b'"thinking":'),
    "gemini": (b'"text":',),
    "cohere": (b'"text":', b'"arguments":'),
    "ollama": (b'"content":', b'"response":', b'"thinking":'),
    "bedrock": (b'"text":', b'"input":'),
    "bedrock.invoke": (
        b'"text":',
        b'"partial_json":',
        b'"thinking":',
        b'"generation":',
        b'"outputText":',
    ),
}
_OPENAI_TEXT = (
    b'"content":',
    b'"arguments":',
    b'"reasoning_content":',
    b'"reasoning":',
    b'"text":',
    b'"generated_text":',
)
"""Where protocols put the pieces of the answer."""
_TALLY_FROM = 2048
_LAST = frozenset(
    {"message_stop", "message-end", "response.completed", "response.incomplete", "response.failed"}
)


def is_stream(content_type: str) -> bool:
    """True for answers that come as events."""
    return content_type.startswith(_STREAMS)


class Reader(Protocol):
    """Reads one stream, chunk by chunk, into an exchange."""

    asked: bool
    """The model has asked for a tool just now: CrewAI's Bedrock client may leave here and never come to the usage."""
    final: bool
    """Nothing that follows can change what is billed."""
    finished: bool
    """The answer is whole: reading no further cuts nothing off."""

    def feed(self, chunk: bytes) -> None:
        """Take a chunk, which may hold many events or a piece of one."""

    def payload(self, payload: bytes) -> None:
        """Take the body of one event, already out of its frame."""

    def flush(self) -> None:
        """The stream is over: read what is left."""

    def written(self) -> int:
        """Tokens of the text that went by, estimated."""


def reader(content_type: str, exchange: HttpExchange, kept: dict[str, object]) -> Reader | None:
    """The reader for a stream of this content type, None for a body that is one document."""
    if not is_stream(content_type):
        return None
    return (
        _Frames(exchange, kept) if content_type.startswith(EVENT_STREAM) else _Lines(exchange, kept)
    )


class _Text:
    """Counts the pieces of an answer by their keys; at most 2 KB wait to be counted, nothing is kept."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys
        self._waiting = bytearray()
        self._tally = TextTally()

    def look(self, block: bytes) -> None:
        """Take the pieces out of ``block``."""
        for key in self._keys:
            at = block.find(key)
            while at >= 0:
                at = self._piece(block, at + len(key))
                at = block.find(key, at)
        if len(self._waiting) > _TALLY_FROM:
            self._count()

    def _piece(self, block: bytes, at: int) -> int:
        """Take the JSON string that starts at ``at``, or one later if a space stands before it; answers where it ended."""
        if block[at : at + 1] == b" ":
            at += 1
        if block[at : at + 1] != b'"':
            return at
        end = block.find(b'"', at + 1)
        while (
            end > 0 and block[end - 1] == 0x5C
        ):  # an escaped quote; after an escaped backslash this reads a little too far
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
        """Tokens of all that was looked at, estimated."""
        self._count()
        return self._tally.tokens()


class _Lines:
    """Server-sent events, and JSON lines as Ollama sends them."""

    def __init__(self, exchange: HttpExchange, kept: dict[str, object]) -> None:
        self._exchange = exchange
        self._kept = kept
        self._marks = _MARKS.get(exchange.api, _OPENAI)
        self._text = _Text(_TEXT.get(exchange.api, _OPENAI_TEXT))
        self._carry: list[bytes] = []
        self._needs_text = True
        self.asked = self.final = self.finished = False

    def feed(self, chunk: bytes) -> None:
        cut = chunk.rfind(b"\n")
        if cut < 0:
            self._carry.append(chunk)
            return
        block = chunk[:cut]
        if self._carry:
            block = b"".join(self._carry) + block
        self._carry = [chunk[cut + 1 :]] if cut + 1 < len(chunk) else []
        if self._needs_text or self._marked(block):
            for line in block.split(b"\n"):
                self._line(line)
        else:
            self._text.look(block)

    def payload(self, payload: bytes) -> None:
        self._line(payload)

    def flush(self) -> None:
        if self._carry:
            rest, self._carry = b"".join(self._carry), []
            self._line(rest)

    def written(self) -> int:
        return self._text.tokens()

    def _marked(self, block: bytes) -> bool:
        for mark in self._marks:  # noqa: SIM110 - a generator would double the cost of every chunk
            if mark in block:
                return True
        return False

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            line = line[5:]
        elif not line.startswith(b"{"):
            return
        line = line.strip()
        if line == b"[DONE]":
            self.final = self.finished = True
            return
        if self._needs_text or self._marked(line):
            self._fact(line)
        self._text.look(line)

    def _fact(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # a cut line, or a comment
        for item in event if isinstance(event, list) else (event,):
            if isinstance(item, dict):
                self._needs_text = False
                absorb(self._exchange, item, self._kept)
                self.final = self.final or _is_last(item)
                whole = item.get("type") == "message_delta" or (
                    self._exchange.api == "gemini" and self._exchange.finish_reason is not None
                )
                self.finished = self.finished or self.final or whole


def _is_last(event: Mapping[str, object]) -> bool:
    return (
        event.get("type") in _LAST or event.get("done") is True or event.get("is_finished") is True
    )


class _Frames:
    """AWS event stream frames, as Bedrock sends them."""

    def __init__(self, exchange: HttpExchange, kept: dict[str, object]) -> None:
        self._exchange = exchange
        self._kept = kept
        self._text = _Text(_TEXT.get(exchange.api, _OPENAI_TEXT))
        self._buffer = bytearray()
        self._tool = False
        self.asked = self.final = self.finished = False

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk
        while len(self._buffer) >= _PRELUDE:
            total = int.from_bytes(self._buffer[:4], "big")
            headers = int.from_bytes(self._buffer[4:8], "big")
            if not _PRELUDE + headers + 4 <= total <= LARGEST:
                self._buffer.clear()  # not the framing it claims to be
                return
            if len(self._buffer) < total:
                return
            payload = bytes(self._buffer[_PRELUDE + headers : total - 4])
            del self._buffer[:total]
            self.payload(payload)

    def flush(self) -> None:
        self._buffer.clear()  # a frame that is not whole says nothing

    def written(self) -> int:
        return self._text.tokens()

    def payload(self, payload: bytes) -> None:
        self._text.look(payload)
        if not any(mark in payload for mark in _FRAME_MARKS):
            if b'"toolUse"' in payload:
                self._tool = True
            elif self._tool and b'"delta"' not in payload:
                self.asked, self._tool = True, False
            return
        event = self._event(payload)
        if isinstance(event, dict):
            absorb(self._exchange, event, self._kept)
            self.final = self.finished = (
                self.final or "amazon-bedrock-invocationMetrics" in event or _is_metadata(event)
            )

    def _event(self, payload: bytes) -> object:
        """One frame's JSON; ``invoke`` wraps the model's own event in base64."""
        try:
            event = json.loads(payload)
            wrapped = event.get("bytes") if isinstance(event, dict) else None
            if isinstance(wrapped, str):
                inner = base64.b64decode(wrapped)
                self._text.look(inner)
                event = json.loads(inner)
        except (ValueError, binascii.Error):
            return None
        return event


def _is_metadata(event: Mapping[str, object]) -> bool:
    """True for the last event of a Converse stream."""
    return "usage" in event and "metrics" in event
