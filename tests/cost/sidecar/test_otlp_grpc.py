"""OTLP over gRPC."""

from __future__ import annotations

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from support.sidecars import request

SERVICE = "/opentelemetry.proto.collector.{0}.v1.{1}Service/Export"


@pytest.fixture(scope="module")
def running(nursery, tmp_path_factory):
    """A sidecar with its gRPC port open."""
    with nursery.start(tmp_path_factory.mktemp("grpc") / "ledger.db", grpc=True) as made:
        yield made


@pytest.fixture
def channel(running):
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as made:
        yield made


def test_acknowledged_spans_are_in_the_ledger(running, channel):
    """GRPC answers after the commit too."""
    before = len(running.stored())
    assert channel.unary_unary(SERVICE.format("trace", "Trace"))(request(30)) == b""
    assert len(running.stored()) == before + 30
    assert running.metric('crewmeter_ingest_requests_total{outcome="ok",protocol="grpc"}') >= 1


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_taken(running, channel, compression):
    """GRPC clients compress per call."""
    before = len(running.stored())
    channel.unary_unary(SERVICE.format("trace", "Trace"))(request(5), compression=compression)
    assert len(running.stored()) == before + 5


def test_refused_spans_are_counted(channel):
    """`partial_success`, as over HTTP."""
    answer = ExportTraceServiceResponse.FromString(
        channel.unary_unary(SERVICE.format("trace", "Trace"))(request(spans=[(b"", b"")]))
    )
    assert answer.partial_success.rejected_spans == 1


def test_other_signals_are_let_go(channel):
    """Metrics and logs get a polite answer."""
    for package, name in (("metrics", "Metrics"), ("logs", "Logs")):
        answer = ExportTraceServiceResponse.FromString(
            channel.unary_unary(SERVICE.format(package, name))(b"x")
        )
        assert "spans only" in answer.partial_success.error_message


def test_what_is_no_request_is_an_invalid_argument(channel):
    """A truncated message is the sender's fault: no retry."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SERVICE.format("trace", "Trace"))(request(3)[:-5])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_over_the_limit_is_refused(channel):
    """A body over the limit never reaches us whole."""
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SERVICE.format("trace", "Trace"))(bytes(17 << 20))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.slow
@pytest.mark.parametrize(
    "compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"]
)
def test_a_compressed_bomb_is_refused(running, channel, compression):
    """300 KB that open to 300 MB.

    Refused before they are opened further than a message may be, and the next message is taken.
    """
    export = channel.unary_unary(SERVICE.format("trace", "Trace"))
    before = len(running.stored())
    with pytest.raises(grpc.RpcError) as caught:
        export(bytes(300 << 20), compression=compression)
    assert caught.value.code() in (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INVALID_ARGUMENT,
    )
    assert running.memory_mb() < 200
    export(request(2), compression=compression)
    assert len(running.stored()) == before + 2


def test_the_stock_exporter_delivers(running):
    """The OpenTelemetry SDK's own OTLP/gRPC exporter is a client like any other."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    before = len(running.stored())
    provider = TracerProvider()
    provider.add_span_processor(
        BatchSpanProcessor(
            OTLPSpanExporter(endpoint=f"http://127.0.0.1:{running.grpc_port}", insecure=True)
        )
    )
    facts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 1,
    }
    with provider.get_tracer("any.instrumentor").start_as_current_span("chat m", attributes=facts):
        pass
    provider.shutdown()
    assert len(running.stored()) == before + 1
