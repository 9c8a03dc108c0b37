"""A span of OTLP whose attributes stay bytes.

Protobuf's C parser cuts them apart, and what is known already is not parsed again.

The messages here are wire-compatible with opentelemetry/proto/trace/v1/trace.proto and declare
only what is read of it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["ATTRIBUTES", "RawSpan", "SpanHead"]

ATTRIBUTES = 9
"""Field number of a Span's attributes."""
_HEAD = {
    "trace_id": (1, Field.TYPE_BYTES),
    "span_id": (2, Field.TYPE_BYTES),
    "parent_span_id": (4, Field.TYPE_BYTES),
    "name": (5, Field.TYPE_BYTES),
    "start_time_unix_nano": (7, Field.TYPE_FIXED64),
    "end_time_unix_nano": (8, Field.TYPE_FIXED64),
    "status": (15, Field.TYPE_BYTES),
}


def _declared() -> DescriptorPool:
    """`SpanHead` and `RawSpan` in a pool of their own."""
    file = FileDescriptorProto(
        name="crewmeter/raw_span.proto", package="crewmeter", syntax="proto3"
    )
    for name in ("SpanHead", "RawSpan"):
        message = file.message_type.add(name=name)
        for field, (number, kind) in _HEAD.items():
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=Field.LABEL_OPTIONAL,
            )
    message.field.add(
        name="attributes", number=ATTRIBUTES, type=Field.TYPE_BYTES, label=Field.LABEL_REPEATED
    )
    pool = DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _declared()
SpanHead: Any = GetMessageClass(_POOL.FindMessageTypeByName("crewmeter.SpanHead"))
"""Everything but the attributes, which a message too large to be taken apart whole is searched
for.
"""
RawSpan: Any = GetMessageClass(_POOL.FindMessageTypeByName("crewmeter.RawSpan"))
"""`SpanHead` with ``attributes``: serialised KeyValues."""
