"""Many clients that want too much at once, or nothing for ever.

Memory stays under a stated limit and honest ones are served.
"""

from __future__ import annotations

import socket
import threading
import time

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from support.patience import patience
from support.sidecars import request

pytestmark = pytest.mark.mostly_slow("test_a_head_of_megabytes_is_refused_at_once")

MIB = 1 << 20
MEMORY_MB = 300
"""What one client at a time may make a sidecar hold, whatever it sends."""
CROWD_MEMORY_MB = 450
"""What many may make it hold together.

Bodies of 64 MiB, held twice or thrice while they are read.
"""
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
ALONE = [("grpc.use_local_subchannel_pool", 1)]
"""A connection of its own for each channel."""


@pytest.fixture
def both(nursery, tmp_path):
    """A sidecar with default limits on both ports."""
    with nursery.start(tmp_path / "ledger.db", grpc=True) as running:
        yield running


def outcome(call) -> tuple[str, bool]:
    """The status of a gRPC call, and whether it said when to come back."""
    try:
        call()
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
        reported = details is not None and Status.FromString(details).details[0].Is(
            RetryInfo.DESCRIPTOR
        )
        return error.code().name, reported
    return "OK", False


@pytest.mark.parametrize("value", [b"{}", b'{"":0}', b"[]", b"-9", b'"ab"'])
def test_a_json_body_of_tiny_values_is_refused(fresh, value):
    """16 MB of them would be half a gigabyte of objects: refused before they are made."""
    attribute = b'{"key":"a","value":{"arrayValue":{"values":['
    start = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[' + attribute
    body = start + b",".join([value] * ((15 * MIB) // (len(value) + 1))) + b"]}}}]}]}]}]}"
    began = time.monotonic()
    assert fresh.post(body, content_type="application/json").status == 400
    assert time.monotonic() - began < patience(8)
    assert fresh.memory_mb() < MEMORY_MB


def test_refused_messages_are_not_held(both):
    """Fifteen megabytes that are no request, again and again.

    Each is forgotten once it is answered.
    """
    body = request(1, **{"gen_ai.input.messages": "x" * (15 * MIB)})[:-40]
    with grpc.insecure_channel(f"127.0.0.1:{both.grpc_port}") as channel:
        for _ in range(25):
            assert outcome(lambda: channel.unary_unary(EXPORT)(body)) == ("INVALID_ARGUMENT", False)
    assert both.memory_mb() < MEMORY_MB


def test_large_messages_at_once_are_held_within_a_bound(both):
    """Thirty clients with fifteen megabytes each.

    Some are sent back, none takes the memory of all.
    """
    body = request(1, **{"gen_ai.input.messages": "x" * (15 * MIB)})
    found = []

    def send() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{both.grpc_port}", options=ALONE) as channel:
            found.append(outcome(lambda: channel.unary_unary(EXPORT)(body, timeout=300)))

    threads = [threading.Thread(target=send) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 30
    assert {reported for code, reported in found if code != "OK"} <= {True}
    assert found.count(("OK", False)) > 0
    assert len(both.stored()) == 1  # they all sent the same span
    assert both.memory_mb() < CROWD_MEMORY_MB


def test_calls_whose_message_never_comes_keep_nobody_out(both):
    """More open calls than are admitted.

    Who is refused learns when to come back, and soon is served.
    """
    gate = threading.Event()

    def never():
        gate.wait()
        yield b""

    channels = [
        grpc.insecure_channel(f"127.0.0.1:{both.grpc_port}", options=ALONE) for _ in range(4)
    ]
    calls = [
        channel.stream_unary(EXPORT).future(never()) for channel in channels for _ in range(25)
    ]
    time.sleep(0.3)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{both.grpc_port}", options=ALONE) as channel:
            end = time.monotonic() + 60
            while (
                found := outcome(lambda: channel.unary_unary(EXPORT)(request(1), timeout=60))
            ) != ("OK", False):
                assert found == ("RESOURCE_EXHAUSTED", True)
                assert time.monotonic() < end
                time.sleep(0.2)
    finally:
        gate.set()
        for call in calls:
            call.cancel()
        for channel in channels:
            channel.close()
    assert len(both.stored()) == 1


def test_more_idle_connections_than_allowed_keep_nobody_out(nursery, tmp_path):
    """The one idle longest makes room for a new one: probes and honest clients are answered."""
    with nursery.start(tmp_path / "ledger.db", limits={"connections": 20}) as running:
        idle = [
            socket.create_connection(("127.0.0.1", running.port), timeout=60) for _ in range(60)
        ]
        try:
            for _ in range(3):
                assert running.get("/healthz").status == 200
                assert running.post(request(1)).status == 200
        finally:
            for client in idle:
                client.close()


def test_a_head_of_megabytes_is_refused_at_once(fresh):
    """Its connection ends long before the time for a head does, and what came is forgotten."""
    with socket.create_connection(("127.0.0.1", fresh.port), timeout=60) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        sent, began = 0, time.monotonic()
        # Reset or broken pipe: the kernel says either, at some send.
        with pytest.raises(OSError):  # noqa: PT011, PT012
            while sent < 64 * MIB:
                client.sendall(b"X-Fill: " + b"a" * 4000 + b"\r\n")
                sent += 4010
        assert time.monotonic() - began < patience(5)
    assert fresh.memory_mb() < 150
