"""OTLP trace requests in protobuf, as spans, and why some are refused.

The request is walked on the wire down to its spans instead of being parsed whole: a hostile body
of a few megabytes (millions of empty spans) never becomes gigabytes of objects, one bad attribute
costs only itself, and attributes that repeat on every span (most do) are read once: the C parser
cuts a span apart with messages of our own, whose attributes stay bytes. They are wire-compatible
with opentelemetry/proto/trace/v1/trace.proto and declare only what is read of it. The wire format:
protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from crewmeter_cost.errors import BadRequest
from crewmeter_cost.intake.captured_content import CONTENT_NAMES
from crewmeter_cost.intake.coerce import plausible
from crewmeter_cost.intake.instrumentors.stored_exchange import LONGEST_RESPONSE, RESPONSE_NAMES
from crewmeter_cost.records import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

__all__ = [
    "ATTRIBUTE_LIMIT",
    "BATCH_LIMIT",
    "DEPTH_LIMIT",
    "Batch",
    "from_protobuf",
    "spans_of",
]

BATCH_LIMIT = 50_000
"""Spans read of one request; further ones are refused. SDKs send 512, collectors 8,192."""
ATTRIBUTE_LIMIT = 1_024
"""Attributes read of one span or resource; further ones are passed over. SDKs stop at 128."""
DEPTH_LIMIT = 8
"""Levels of lists and maps read inside one attribute; deeper ones read as None."""
LONG_ATTRIBUTE = 65_536
"""Bytes from which an attribute is content, not a fact.

Of a longer text the beginning is read, of anything else nothing.
"""
_TRUNCATED_LENGTH = 1_024
_LARGE_SPAN = 1_048_576
"""Bytes from which a span is not parsed whole.

Millions of empty attributes would take sixteen bytes each.
"""
_REMEMBERED_BYTES = 160
_REMEMBERED = 16_384
_NO_TRACE = b"\0" * 16
_NO_SPAN = b"\0" * 8
_NO_SCOPE = ("", "")
_LENGTH_DELIMITED = 2
_remembered: dict[bytes, tuple[str, object]] = {}
"""Attributes seen before, by their bytes: (key, value).

Values are never changed, so spans may share them.
"""
_SPAN_ATTRIBUTES = 9
"""Field number of a Span's attributes."""
_SPAN_FIELDS = {
    "trace_id": (1, Field.TYPE_BYTES),
    "span_id": (2, Field.TYPE_BYTES),
    "parent_span_id": (4, Field.TYPE_BYTES),
    "name": (5, Field.TYPE_BYTES),
    "start_time_unix_nano": (7, Field.TYPE_FIXED64),
    "end_time_unix_nano": (8, Field.TYPE_FIXED64),
    "status": (15, Field.TYPE_BYTES),
}


def _span_messages() -> DescriptorPool:
    """Return `SpanHead` and `RawSpan` in a pool of their own."""
    file = FileDescriptorProto(name="crewmeter/span.proto", package="crewmeter", syntax="proto3")
    for name in ("SpanHead", "RawSpan"):
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in _SPAN_FIELDS.items():
            message.field.add(
                name=field_name,
                number=number,
                type=kind,
                label=Field.LABEL_OPTIONAL,
            )
    message.field.add(
        name="attributes",
        number=_SPAN_ATTRIBUTES,
        type=Field.TYPE_BYTES,
        label=Field.LABEL_REPEATED,
    )
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _span_messages()
_SpanHead: Any = GetMessageClass(_POOL.FindMessageTypeByName("crewmeter.SpanHead"))
"""Everything but the attributes, which are searched for in a message too large to parse whole."""
_RawSpan: Any = GetMessageClass(_POOL.FindMessageTypeByName("crewmeter.RawSpan"))
"""`_SpanHead` with ``attributes``: serialised KeyValues."""


@dataclass(slots=True)
class Batch:
    """The spans of one request, and those refused by reason (`reason → count`)."""

    spans: list[Span] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    """Return a decoded request's spans, without those that `from_protobuf` refuses."""
    return from_protobuf(request.SerializeToString()).spans


def from_protobuf(body: bytes, *, now_ns: int | None = None) -> Batch:
    """Read a serialised ``ExportTraceServiceRequest``.

    `now_ns` is our clock. Raises `BadRequest` where the bytes are something else.

    Refused are spans without valid ids, and those past `BATCH_LIMIT`.
    """
    batch = Batch()
    now = time.time_ns() if now_ns is None else now_ns
    try:
        for position, (number, group) in enumerate(_messages(body)):
            if position >= BATCH_LIMIT:
                raise BadRequest(
                    f"more than {BATCH_LIMIT} resources in one request: send smaller ones"
                )
            if number == 1:
                _read_group(batch, group, now)
    except (IndexError, DecodeError):
        raise BadRequest(
            "the body is not a protobuf ExportTraceServiceRequest (truncated, or of another type)"
        ) from None
    return batch


def _read_group(batch: Batch, group: bytes, now_ns: int) -> None:
    """Read one ResourceSpans.

    Its resource may stand behind its spans on the wire, so it is looked for first.
    """
    parts = list(_messages(group, limit=BATCH_LIMIT))
    resource: dict[str, object] = {}
    for number, part in parts:
        if number == 1:
            resource |= _attributes(
                islice(
                    (value for field_number, value in _messages(part) if field_number == 1),
                    ATTRIBUTE_LIMIT,
                )
            )
    for number, part in parts:
        if number == 2:
            scope = next(
                (_scope(value) for field_number, value in _messages(part) if field_number == 1),
                _NO_SCOPE,
            )
            for field_number, span in _messages(part):
                if field_number == 2:
                    _read_span(batch, span, resource, scope, now_ns)


def _messages(buffer: bytes, limit: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield the length-delimited fields of a message as (number, bytes).

    Other fields are passed over. IndexError where it is cut off.
    """
    at = 0
    end = len(buffer)
    while at < end:
        tag = buffer[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(buffer, at - 1)
        if tag & 7 != _LENGTH_DELIMITED:
            at = _passed(buffer, at, tag & 7)
            continue
        size = buffer[at]
        at += 1
        if size >= 0x80:
            size, at = _varint(buffer, at - 1)
        if at + size > end:
            raise IndexError
        yield tag >> 3, buffer[at : at + size]
        at += size
        if limit is not None:
            limit -= 1
            if limit <= 0:
                return


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length number of at most 64 bits, and where it ends."""
    value = shift = 0
    while shift < 70:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise IndexError


def _passed(buffer: bytes, at: int, wire_type: int) -> int:
    """Where the field ends whose value starts at `at`."""
    if wire_type == 0:
        return _varint(buffer, at)[1]
    if wire_type in (1, 5):
        at += 8 if wire_type == 1 else 4
        if at <= len(buffer):
            return at
    raise IndexError


def _read_span(
    batch: Batch, span: bytes, resource: Mapping[str, object], scope: tuple[str, str], now_ns: int
) -> None:
    """One Span, into the batch or among its refused."""
    if len(span) <= _LARGE_SPAN:
        raw = _RawSpan.FromString(span)
        pairs = raw.attributes[:ATTRIBUTE_LIMIT]
    else:
        raw = _SpanHead.FromString(span)
        pairs = islice(
            (value for number, value in _messages(span) if number == _SPAN_ATTRIBUTES),
            ATTRIBUTE_LIMIT,
        )
    trace_id = raw.trace_id
    span_id = raw.span_id
    parent = raw.parent_span_id
    if batch.refused and len(batch.spans) + batch.refused.total() >= 2 * BATCH_LIMIT:
        raise BadRequest(f"more than {2 * BATCH_LIMIT} spans in one request: send smaller ones")
    if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        batch.refused["no valid trace id and span id"] += 1
    elif len(batch.spans) >= BATCH_LIMIT:
        batch.refused[f"more than {BATCH_LIMIT} spans in one request"] += 1
    else:
        started, ended = plausible(
            raw.start_time_unix_nano,
            raw.end_time_unix_nano,
            now_ns,
        )
        parent_id = parent.hex() if len(parent) == 8 and parent != _NO_SPAN else None
        name = raw.name[:_TRUNCATED_LENGTH].decode("utf-8", "replace")
        error, message = _status(raw.status)
        batch.spans.append(
            Span(
                trace_id.hex(),
                span_id.hex(),
                parent_id,
                name,
                started,
                ended,
                error,
                _attributes(pairs),
                resource,
                scope[0],
                message,
                scope[1],
            )
        )


def _status(status: bytes) -> tuple[bool, str]:
    """Whether it says error, and its message."""
    if not status:
        return False, ""
    try:
        read = Status.FromString(status)
    except DecodeError:
        return False, ""
    return read.code == Status.STATUS_CODE_ERROR, read.message[:_TRUNCATED_LENGTH]


def _scope(scope: bytes) -> tuple[str, str]:
    """Return a scope's name and version, empty where it cannot be read."""
    try:
        if len(scope) < LONG_ATTRIBUTE:
            read = InstrumentationScope.FromString(scope)
            return read.name, read.version
        return _NO_SCOPE
    except DecodeError:
        return _NO_SCOPE


def _attributes(pairs: Iterable[bytes]) -> dict[str, object]:
    """Return serialised KeyValues as a dict.

    A key that stands twice has its last value. A pair that cannot be read is passed over.
    """
    recall = _remembered.get
    known = [recall(pair) or _read_pair(pair) for pair in pairs]
    try:
        # A None in it, which is rare, raises and is dealt with.
        return dict(known)  # type: ignore[arg-type]
    except TypeError:
        return dict([pair for pair in known if pair is not None])


def _read_pair(pair: bytes) -> tuple[str, object] | None:
    if len(pair) > LONG_ATTRIBUTE:
        return _read_long(pair)
    try:
        read = KeyValue.FromString(pair)
    except DecodeError:  # invalid UTF-8 among others
        return None
    known = read.key, _value(read.value, DEPTH_LIMIT)
    if len(pair) <= _REMEMBERED_BYTES:
        if len(_remembered) >= _REMEMBERED:
            _remembered.clear()
        _remembered[pair] = known
    return known


def _read_long(pair: bytes) -> tuple[str, object] | None:
    """Return the key and the beginning of a long text.

    None for a long list or map, or what cannot be read.
    """
    parts = dict(_messages(pair))
    texts = dict(_messages(parts.get(2, b"")))
    if 1 not in texts:
        return None
    key = parts.get(1, b"")[:_TRUNCATED_LENGTH].decode("utf-8", "replace")
    length = LONG_ATTRIBUTE if key in CONTENT_NAMES else _TRUNCATED_LENGTH
    if key in RESPONSE_NAMES:
        length = LONGEST_RESPONSE
    return key, texts[1][:length].decode("utf-8", "replace")


def _value(value: AnyValue, depth: int) -> object:
    """One value as plain Python: lists as tuples, bytes as hex text."""
    kind = value.WhichOneof("value")
    if kind is None or depth == 0:
        return None
    if kind == "array_value":
        return tuple(_value(item, depth - 1) for item in value.array_value.values)
    if kind == "kvlist_value":
        return {
            pair.key: _value(
                pair.value,
                depth - 1,
            )
            for pair in value.kvlist_value.values
        }
    plain = getattr(value, kind)
    if isinstance(plain, bytes):
        return plain.hex()
    return plain
