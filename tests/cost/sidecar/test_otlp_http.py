"""OTLP over HTTP, as clients of every kind send it."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
import zlib

import pytest
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from support.paths import SPAN_FIXTURES
from support.sidecars import request


def answer(body: bytes) -> ExportTraceServiceResponse:
    return ExportTraceServiceResponse.FromString(body)


def test_acknowledged_spans_are_in_the_ledger(fresh):
    """When the answer is there, so are the rows."""
    assert fresh.post(request(40)).status == 200
    assert len(fresh.stored()) == 40


def test_a_replayed_batch_is_charged_once(fresh):
    """OTLP delivery is at-least-once.

    The same bytes twice leave one row a call, in the ledger and in the metrics.
    """
    body = request(7)
    assert [fresh.post(body).status, fresh.post(body).status] == [200, 200]
    assert len(fresh.stored()) == 7
    assert fresh.get("/api/report").json()["total"]["calls"] == 7
    assert fresh.metric('crewmeter_ingest_spans_total{outcome="stored"}') == 7
    assert fresh.metric('crewmeter_ingest_spans_total{outcome="duplicate"}') == 7
    labels = 'crew="none",model="gpt-4o-mini",operation="llm",provider="openai",status="ok"'
    assert fresh.metric(f"crewmeter_llm_calls_total{{{labels}}}") == 7


def test_every_encoding_is_opened(fresh):
    """gzip, deflate (with and without its header), zstd, and none."""
    raw_deflate = zlib.compressobj(wbits=-15)
    bodies = {
        "gzip": gzip.compress(request(1)),
        "deflate": zlib.compress(request(1)),
        "zstd": zstandard.compress(request(1)),
        "identity": request(1),
    }
    for encoding, body in bodies.items():
        assert fresh.post(body, content_encoding=encoding).status == 200, encoding
    assert (
        fresh.post(
            raw_deflate.compress(request(1)) + raw_deflate.flush(), content_encoding="deflate"
        ).status
        == 200
    )
    assert len(fresh.stored()) == 5


def test_json_is_read_and_answered_in_json(fresh):
    """OTLP/JSON with hex ids, and a partial success for the span without one."""
    spans = [
        {
            "traceId": "ab" * 16,
            "spanId": "cd" * 8,
            "name": "chat",
            "startTimeUnixNano": "1800000000000000000",
            "attributes": [
                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}},
                {"key": "gen_ai.usage.output_tokens", "value": {"intValue": 3}},
            ],
        },
        {"name": "no ids"},
    ]
    body = json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "crewmeter"}, "spans": spans}]}]}
    ).encode()
    reply = fresh.post(body, content_type="application/json")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {
        "partialSuccess": {
            "rejectedSpans": "1",
            "errorMessage": "1 spans refused: no valid trace id and span id",
        }
    }
    assert fresh.stored() == [(b"\xab" * 16, b"\xcd" * 8)]


def test_refused_spans_are_counted_in_the_answer(sidecar):
    """`partial_success` says how many spans were refused and why; the rest is stored."""
    before = len(sidecar.stored())
    reply = answer(
        sidecar.post(
            request(spans=[(b"\1" * 16, b"\2" * 8), (b"", b""), (b"\0" * 16, b"\1" * 8)])
        ).body
    )
    assert reply.partial_success.rejected_spans == 2
    assert "no valid trace id" in reply.partial_success.error_message
    assert len(sidecar.stored()) == before + 1


def test_metrics_and_logs_are_thanked_and_let_go(sidecar):
    """A stock SDK sends all signals to one endpoint.

    The others must not make it log errors for ever.
    """
    for path in ("/v1/metrics", "/v1/logs"):
        reply = sidecar.ask("POST", path, b"whatever", {"content-type": "application/x-protobuf"})
        assert reply.status == 200
        assert answer(reply.body).partial_success.rejected_spans == 0
        assert "spans only" in answer(reply.body).partial_success.error_message


def test_what_is_no_request_is_refused_with_a_reason(sidecar):
    """Wrong types, unknown encodings, truncated and corrupt bodies.

    4xx and a sentence, no retry.
    """
    cases = {
        "text/plain": (b"hello", {"content_type": "text/plain"}, 415),
        "no type": (b"hello", {"content_type": ""}, 415),
        "truncated": (request(3)[:-9], {}, 400),
        "html": (b"<html>", {}, 400),
        "not json": (b"{", {"content_type": "application/json"}, 400),
        "brotli": (request(1), {"content_encoding": "br"}, 415),
        "not gzip": (request(1), {"content_encoding": "gzip"}, 400),
        "cut gzip": (gzip.compress(request(9))[:-30], {"content_encoding": "gzip"}, 400),
    }
    for name, (body, headers, status) in cases.items():
        reply = sidecar.post(body, **headers)
        assert reply.status == status, name
        assert len(reply.body) > 10, name
        assert "retry-after" not in reply.headers, name
    assert sidecar.ask("GET", "/v1/traces").status == 405


def test_the_stock_exporter_delivers(fresh):
    """The OpenTelemetry SDK's own OTLP/HTTP exporter, with gzip, is a client like any other."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    exporter = OTLPSpanExporter(
        endpoint=f"http://127.0.0.1:{fresh.port}/v1/traces", compression=Compression.Gzip
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    facts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 1,
    }
    with provider.get_tracer("any.instrumentor").start_as_current_span("chat m", attributes=facts):
        pass
    provider.shutdown()
    assert len(fresh.stored()) == 1


def test_two_instrumentors_on_one_crew_are_billed_once(fresh):
    """Captured double instrumentation.

    Ten reports of five exchanges leave five calls, also of the embedding without an id.
    """

    document = json.loads((SPAN_FIXTURES / "mixed.json").read_text())
    for part in document["requests"]:
        assert fresh.post(json.dumps(part).encode(), content_type="application/json").status == 200
    rows = {row["model"]: row for row in fresh.get("/api/report?by=model").json()["rows"]}
    chats, embeddings = rows["gpt-4o-mini"], rows["text-embedding-3-small"]
    assert (chats["calls"], chats["input_tokens"], chats["output_tokens"]) == (4, 3000, 680)
    assert (embeddings["calls"], embeddings["input_tokens"]) == (1, 8)


@pytest.mark.parametrize(
    ("signal", "field"),
    [("metrics", "rejectedDataPoints"), ("logs", "rejectedLogRecords")],
)
def test_partial_success_in_json_is_named_after_the_signal(sidecar, signal, field):
    """The three services share field numbers in protobuf, and no field name in JSON."""
    answer = sidecar.ask("POST", f"/v1/{signal}", b"{}", {"content-type": "application/json"})
    assert (answer.status, set(answer.json()["partialSuccess"])) == (200, {field, "errorMessage"})


def test_a_keep_alive_connection_answers_without_delay(sidecar):
    """With Nagle's algorithm each response of two segments waited 40 ms for the client."""
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=60)
    quickest = {}
    for path in ("/healthz", "/api/report", "/metrics"):
        times = []
        for _ in range(15):
            began = time.perf_counter()
            connection.request("GET", path)
            connection.getresponse().read()
            times.append(time.perf_counter() - began)
        quickest[path] = min(times)
    connection.close()
    assert quickest["/healthz"] < 0.035, quickest
    assert min(quickest.values()) < 0.035


@pytest.mark.parametrize("length", ["\u00b2", "1e3", "-1", "+5", "9" * 40, " "])
def test_a_length_that_is_no_number_is_refused(sidecar, length):
    """ "²" is a digit to Python, and no length."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", sidecar.port), timeout=60) as client:
        client.sendall(head + b"Content-Length: " + length.encode("latin-1") + b"\r\n\r\n{}")
        answer = client.recv(4096)
    assert answer == b"" or answer.split()[1] in (b"400", b"413")
