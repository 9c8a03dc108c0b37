"""OTLP in its three forms, held against protobuf's own reader and against what hostile senders
send.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.patience import patience

from crewmeter_cost.errors import BadRequest
from crewmeter_cost.intake.classify import read
from crewmeter_cost.intake.otlp_json import from_json
from crewmeter_cost.intake.otlp_protobuf import BATCH_LIMIT, from_protobuf, spans_of

NOW = 1_800_000_000 * 10**9


def one_span(**attributes: object) -> ExportTraceServiceRequest:
    """A request with one valid span."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    pair = group.resource.attributes.add()
    pair.key, pair.value.string_value = "service.name", "svc"
    scoped = group.scope_spans.add()
    scoped.scope.name = "crewmeter"
    span = scoped.spans.add(
        trace_id=b"\1" * 16, span_id=b"\2" * 8, parent_span_id=b"\3" * 8, name="chat m"
    )
    span.start_time_unix_nano, span.end_time_unix_nano = NOW, NOW + 5
    for key, value in attributes.items():
        pair = span.attributes.add()
        pair.key = key
        if isinstance(value, str):
            pair.value.string_value = value
        elif isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = value
        elif isinstance(value, float):
            pair.value.double_value = value
        else:
            for item in value:
                pair.value.array_value.values.add().string_value = item
    return request


def test_a_span_is_read_whole():
    """Ids in hex, times, status, scope, resource and every kind of attribute arrive."""
    request = one_span(text="x", flag=True, count=-7, share=0.5, listed=["a", "b"])
    request.resource_spans[0].scope_spans[0].spans[0].status.code = 2
    (span,) = from_protobuf(request.SerializeToString(), now_ns=NOW).spans
    assert (span.trace_id, span.span_id, span.parent_span_id) == ("01" * 16, "02" * 8, "03" * 8)
    assert (span.started_ns, span.ended_ns, span.error, span.name, span.scope) == (
        NOW,
        NOW + 5,
        True,
        "chat m",
        "crewmeter",
    )
    assert span.attributes == {
        "text": "x",
        "flag": True,
        "count": -7,
        "share": 0.5,
        "listed": ("a", "b"),
    }
    assert span.resource == {"service.name": "svc"}


def test_json_and_protobuf_say_the_same():
    """OTLP/JSON has hex ids and 64-bit numbers as strings.

    Read either way, the span is the same.
    """
    from google.protobuf.json_format import MessageToDict

    request = one_span(text="x", flag=True, count=7, share=0.5)
    document = MessageToDict(request, use_integers_for_enums=True)
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span |= {"traceId": "01" * 16, "spanId": "02" * 8, "parentSpanId": "03" * 8}
    assert isinstance(span["startTimeUnixNano"], str)
    by_json = from_json(json.dumps(document).encode(), now_ns=NOW).spans
    span["startTimeUnixNano"] = int(span["startTimeUnixNano"])  # numbers are allowed too
    assert from_json(json.dumps(document).encode(), now_ns=NOW).spans == by_json
    assert by_json == from_protobuf(request.SerializeToString(), now_ns=NOW).spans


@pytest.mark.parametrize("cut", [1, 2, 7, 20, 60])
def test_a_truncated_body_is_refused(cut):
    """A body cut off anywhere is no request: 400, not half a batch."""
    body = one_span(text="x" * 40).SerializeToString()
    with pytest.raises(BadRequest, match="not a protobuf"):
        from_protobuf(body[:-cut])


def test_spans_without_ids_are_refused_and_counted():
    """Ids are the ledger's key; a span without them is refused, its neighbours are not."""
    request = one_span()
    spans = request.resource_spans[0].scope_spans[0].spans
    for trace_id, span_id in (
        (b"", b""),
        (b"\0" * 16, b"\1" * 8),
        (b"\1" * 16, b"\0" * 8),
        (b"\1" * 15, b"\1" * 8),
    ):
        spans.add(trace_id=trace_id, span_id=span_id)
    batch = from_protobuf(request.SerializeToString())
    assert len(batch.spans) == 1
    assert batch.refused == {"no valid trace id and span id": 4}


def test_one_unreadable_attribute_costs_only_itself():
    """Invalid UTF-8 in one value must not lose a batch of billed calls."""
    body = (
        one_span(good="yes", bad="XXXX").SerializeToString().replace(b"XXXX", b"\xff\xfe\xfd\xfc")
    )
    with pytest.raises(DecodeError):
        ExportTraceServiceRequest.FromString(body)
    assert from_protobuf(body).spans[0].attributes == {"good": "yes"}


def test_an_unreadable_scope_costs_only_its_name():
    """A scope whose name is no UTF-8 is a nameless one: its spans may be billed."""
    body = one_span(tokens=5).SerializeToString().replace(b"crewmeter", b"\xff" * 9, 1)
    (span,) = from_protobuf(body).spans
    assert (span.scope, span.attributes) == ("", {"tokens": 5})


def test_a_ten_megabyte_attribute_is_cut():
    """Content travels on spans; only its beginning is stored, and the counts beside it are read."""
    (span,) = from_protobuf(one_span(content="x" * 10_000_000, tokens=5).SerializeToString()).spans
    assert len(span.attributes["content"]) == 1024
    assert span.attributes["tokens"] == 5


def test_times_that_cannot_be_are_mended():
    """A billed call is not refused for its sender's clock.

    No start, an end before the start and a far future are bounded.
    """

    def times(start: int, end: int) -> tuple[int, int]:
        request = one_span()
        span = request.resource_spans[0].scope_spans[0].spans[0]
        span.start_time_unix_nano, span.end_time_unix_nano = start, end
        read_back = from_protobuf(request.SerializeToString(), now_ns=NOW).spans[0]
        return read_back.started_ns, read_back.ended_ns

    year = 365 * 86_400 * 10**9
    assert times(0, NOW) == (NOW, NOW)
    assert times(0, 0) == (NOW, NOW)
    assert times(NOW, NOW - 5) == (NOW, NOW)
    assert times(NOW + year, NOW + year + 7) == (NOW - 7, NOW)
    assert times(NOW - 5, NOW + year) == (NOW - 5, NOW)
    assert times(2**63, 2**64 - 1)[1] == NOW


def field(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    size, encoded = len(body), bytearray([number << 3 | 2])
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(encoded) + bytes([size]) + body


def test_millions_of_empty_spans_stay_cheap():
    """Four megabytes of two-byte spans are refused after the limit, in bounded time and without
    building them.
    """
    body = field(1, field(2, b"\x12\x00" * 2_000_000))
    began = time.monotonic()
    with pytest.raises(BadRequest, match="send smaller"):
        from_protobuf(body)
    assert time.monotonic() - began < patience(
        30
    )  # seconds; a reader that looked at them twice would take minutes


def test_millions_of_empty_attributes_stay_cheap(tmp_path):
    """One span of sixteen megabytes of two-byte attributes is read with its ids and its first
    attributes, in little memory.
    """
    good = one_span(tokens=5).resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    (tmp_path / "body").write_bytes(field(1, field(2, field(2, good + b"\x4a\x00" * 7_900_000))))
    script = """
import resource, sys
from crewmeter_cost.intake.otlp_protobuf import from_protobuf
body = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(span,) = from_protobuf(body).spans
assert (span.span_id, span.attributes) == ("02" * 8, {"tokens": 5, "": None}), span
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "body")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout) < 100 * 1024, "kilobytes"


def test_spans_past_the_limit_are_counted_as_refused():
    """A request may hold as many spans as a collector would ever send.

    The rest is refused in numbers.
    """
    request = one_span()
    spans = request.resource_spans[0].scope_spans[0].spans
    for number in range(BATCH_LIMIT + 4):
        spans.add(trace_id=b"\1" * 16, span_id=(number + 10**6).to_bytes(8, "big"))
    batch = from_protobuf(request.SerializeToString())
    assert len(batch.spans) == BATCH_LIMIT
    assert batch.refused.total() == 5


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(body):
    """Whatever arrives is a batch or a `BadRequest`, in protobuf and in JSON."""
    for reader in (from_protobuf, from_json):
        try:
            batch = reader(body)
        except BadRequest:
            continue
        for span in batch.spans:
            read(span)


_keys = st.sampled_from(
    [
        "gen_ai.operation.name",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.response.finish_reasons",
        "gen_ai.usage.raw",
        "crewmeter.kind",
        "crewmeter.tag.x",
        "crewmeter.run.id",
        "openinference.span.kind",
        "llm.token_count.prompt",
        "server.address",
    ]
) | st.text(max_size=8)
_words = st.sampled_from(["chat", "LLM", "llm", "{", "//["])
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.sampled_from(["chat", "LLM", "llm", "{", "//["])
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def _fill(value, plain) -> None:
    if isinstance(plain, bool):
        value.bool_value = plain
    elif isinstance(plain, int):
        value.int_value = plain
    elif isinstance(plain, float):
        value.double_value = plain
    elif isinstance(plain, str):
        value.string_value = plain
    elif isinstance(plain, list):
        value.array_value.SetInParent()
        for item in plain:
            _fill(value.array_value.values.add(), item)
    elif isinstance(plain, dict):
        value.kvlist_value.SetInParent()
        for key, item in plain.items():
            pair = value.kvlist_value.values.add()
            pair.key = key
            _fill(pair.value, item)


@given(st.lists(st.tuples(_keys, _values), max_size=12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_attributes_are_read_without_an_error(pairs, ours):
    """No attribute value, of whatever type and under whatever name, makes a dialect raise.

    Ledger text is clean and bounded.
    """
    request = one_span()
    scoped = request.resource_spans[0].scope_spans[0]
    scoped.scope.name = "crewmeter" if ours else "somebody"
    for key, plain in pairs:
        pair = scoped.spans[0].attributes.add()
        pair.key = key
        _fill(pair.value, plain)
    (span,) = spans_of(request)
    record = read(span)
    if record is not None:
        for name in (record.context.crew, record.context.run_id, record.error_type):
            assert name is None or (len(name) <= 256 and "\0" not in name)
