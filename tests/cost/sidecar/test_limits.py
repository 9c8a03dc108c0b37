"""What hostile or clumsy clients send.

Refused or bounded, in bounded memory, while the sidecar keeps serving others.
"""

from __future__ import annotations

import gzip
import itertools
import os
import re
import secrets
import socket
import threading
import time
import zlib

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.patience import patience
from support.sidecars import request

MIB = 1 << 20
SMALL = {
    "body_bytes": MIB,
    "opened_bytes": MIB,
    "held_bytes": 2 * MIB,
    "requests": 4,
    "connections": 40,
    "header_seconds": 0.6,
    "body_seconds": 0.6,
}
HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
NAMES = int(os.environ.get("CREWMETER_TEST_NAMES", "20000"))
"""Distinct names sent in one test; the full suite sends more."""
MEMORY_MB = 300
"""What a sidecar may hold at most under anything in this module."""


@pytest.fixture(scope="module")
def small(nursery, tmp_path_factory):
    """A sidecar with small limits and little patience."""
    with nursery.start(tmp_path_factory.mktemp("small") / "ledger.db", limits=SMALL) as running:
        yield running
        assert running.memory_mb() < MEMORY_MB


@pytest.fixture(autouse=True)
def _keeps_serving(small):
    """After every attack an honest request is taken."""
    yield
    assert small.post(request(1)).status == 200


def bomb(megabytes: int) -> bytes:
    """A gzip body that opens to so many megabytes of zeros."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(megabytes)), packer.flush()])


@pytest.mark.slow
def test_a_gzip_bomb_of_300_megabytes_is_refused(small, sidecar):
    """300 KB that open to 300 MB get 413, and memory stays where it was.

    That holds in both small and default limits.
    """
    body = bomb(300)
    assert len(body) < MIB
    for running in (small, sidecar):
        assert running.post(body, content_encoding="gzip").status == 413
        assert running.memory_mb() < MEMORY_MB


@pytest.mark.slow
def test_bombs_of_every_make_are_refused(small):
    """deflate, zstd and a chain of gzip members."""
    packed = zstandard.compress(bytes(64 * MIB), 3)
    assert small.post(packed, content_encoding="zstd").status == 413
    assert small.post(zlib.compress(bytes(64 * MIB)), content_encoding="deflate").status == 413
    assert small.post(gzip.compress(bytes(MIB // 2)) * 50, content_encoding="gzip").status == 413


def test_a_zstd_frame_that_wants_a_huge_window_is_refused(small):
    """A frame may ask the reader to hold gigabytes; it is not obeyed."""
    parameters = zstandard.ZstdCompressionParameters(
        window_log=27, compression_level=1, write_content_size=False
    )
    body = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    assert (
        small.post(body.compress(request(1)) + body.flush(), content_encoding="zstd").status == 400
    )


def test_a_gigabyte_announced_is_refused_before_it_is_sent(small):
    """Content-Length says 1 GB: the answer comes at once and the connection ends."""
    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as client:
        client.sendall(HEAD + b"Content-Length: 1073741824\r\n\r\n")
        began = time.monotonic()
        assert b" 413 " in client.recv(4096).splitlines()[0]
        while client.recv(4096):
            pass
        assert time.monotonic() - began < patience(2)


def test_a_body_without_end_is_refused(small):
    """Chunked bodies are counted as they come."""
    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        try:
            for _ in range(64):
                client.sendall(chunk)
            answer = client.recv(4096)
        except OSError:  # it was closed on us while we were still sending: refused all the same
            return
        assert b" 413 " in answer.splitlines()[0]


def test_a_slow_body_is_given_up(small):
    """A byte now and then: 408 after the limit, not a connection held for ever."""
    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as client:
        client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        began = time.monotonic()
        client.sendall(b"\n")
        assert b" 408 " in client.recv(4096).splitlines()[0]
        assert 0.4 < time.monotonic() - began < patience(3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "said", [b"", b"POST /v1/tra", b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nX-A: "]
)
def test_slow_loris_heads_are_given_up(small, said):
    """Connections that say nothing, or never finish their headers, are closed.

    Dozens of them block nobody.
    """
    clients = [socket.create_connection(("127.0.0.1", small.port), timeout=60) for _ in range(20)]
    try:
        for client in clients:
            client.sendall(said)
        assert small.post(request(1)).status == 200
        began = time.monotonic()
        for client in clients:
            assert client.recv(1024) == b""
        assert time.monotonic() - began < patience(3)
    finally:
        for client in clients:
            client.close()


def test_bodies_that_arrive_slowly_keep_nobody_out(small):
    """A request counts among those under way once its body is there, not before."""
    slow = []
    for _ in range(3 * SMALL["requests"]):
        client = socket.create_connection(("127.0.0.1", small.port), timeout=60)
        client.sendall(HEAD + b"Content-Length: 9\r\n\r\n1")
        slow.append(client)
    time.sleep(0.1)
    assert small.post(request(1)).status == 200
    for client in slow:
        client.close()


@pytest.mark.slow
def test_large_bodies_that_stall_make_room_for_others(nursery, tmp_path):
    """All the bytes there may be are held by bodies that never end: the largest is given up."""
    limits = SMALL | {"body_seconds": 60, "requests": 64}
    with nursery.start(tmp_path / "ledger.db", limits=limits) as running:
        stalled = []
        for _ in range(2):
            client = socket.create_connection(("127.0.0.1", running.port), timeout=60)
            client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % MIB + bytes(MIB - 1))
            stalled.append(client)
        deadline = time.monotonic() + 60
        while (answer := running.post(request(40))).status != 200:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for client in stalled:
            client.close()


def test_too_many_at_once_are_sent_back(nursery, tmp_path):
    """More requests under way than allowed: 503 with Retry-After, and none is lost in silence."""
    with nursery.start(tmp_path / "ledger.db", limits=SMALL) as running:
        assert running.post(request(1)).status == 200
        answers = []
        with running.locked():
            threads = [
                threading.Thread(target=lambda: answers.append(running.post(request(1))))
                for _ in range(3 * SMALL["requests"])
            ]
            for thread in threads:
                thread.start()
            deadline = time.monotonic() + 60
            while not any(answer.status == 503 for answer in answers):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        for thread in threads:
            thread.join()
        refused = [answer for answer in answers if answer.status == 503]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        taken = [answer for answer in answers if answer.status == 200]
        assert len(running.stored()) == 1 + len(taken)


@pytest.mark.slow
def test_too_many_connections_are_sent_back(nursery, tmp_path):
    """Uvicorn's own 503 had no Retry-After, so that clients dropped what they sent."""
    limits = SMALL | {"connections": 2, "body_seconds": 60}
    with nursery.start(tmp_path / "ledger.db", limits=limits) as running:
        busy = []
        for _ in range(2):
            client = socket.create_connection(("127.0.0.1", running.port), timeout=60)
            client.sendall(HEAD + b"Content-Length: 9\r\n\r\n1")
            busy.append(client)
        time.sleep(0.2)
        answer = running.post(request(1))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        for client in busy:
            client.close()


def test_headers_without_end_are_refused(small):
    """A megabyte of headers is an error, not a buffer."""
    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for _ in range(256):
                client.sendall(b"X-Fill: " + b"a" * 4000 + b"\r\n")
            answer = client.recv(4096)
        except OSError:
            return
        assert (
            answer == b""
            or b" 400 " in answer.splitlines()[0]
            or b" 431 " in answer.splitlines()[0]
        )


def test_a_ten_megabyte_attribute_is_taken_and_cut(sidecar):
    """Content on a span does not lose the billing facts beside it, and is not stored."""
    before = len(sidecar.stored())
    assert (
        sidecar.post(
            request(
                1, **{"gen_ai.input.messages": "x" * (10 * MIB), "crewmeter.crew.name": "y" * 5000}
            )
        ).status
        == 200
    )
    assert len(sidecar.stored()) == before + 1
    assert sidecar.memory_mb() < MEMORY_MB


@pytest.mark.slow
def test_many_distinct_names_stay_bounded_in_the_metrics(fresh):
    """5,000 model names: exact in the ledger, at most 200 and "other" in the metrics."""
    from support.sidecars import ExportTraceServiceRequest

    body = ExportTraceServiceRequest.FromString(request(5_000))
    for number, span in enumerate(body.resource_spans[0].scope_spans[0].spans):
        next(
            pair for pair in span.attributes if pair.key == "gen_ai.request.model"
        ).value.string_value = f"model-{number}"
    assert fresh.post(body.SerializeToString()).status == 200
    page = fresh.get("/metrics").text
    models = set(re.findall(r'^crewmeter_llm_calls_total{.*model="([^"]+)"', page, re.MULTILINE))
    assert len(models) == 201
    assert "other" in models
    assert fresh.get("/api/report?by=model").json()["total"]["calls"] == 5_000


@pytest.mark.slow
def test_names_without_end_cost_disk_and_not_memory(fresh):
    """Models never seen before, one a call: all are in the ledger, and memory stays in its limit.

    That holds however many come and whatever is reported: rows are limited, totals are not.
    """
    marker, batch = b"model-00000000", 2_000
    ids = [(b"T" * 15 + b"%d" % (number % 10), b"S" * 8) for number in range(batch)]
    parts = re.split(
        rb"(T{15}\d|S{8}|model-0{8})",
        request(spans=ids, **{"gen_ai.request.model": marker.decode()}),
    )
    sent, numbers = 0, itertools.count()
    while sent < NAMES:
        made = {
            marker: lambda: b"model-%08x" % next(numbers),
            b"S" * 8: lambda: secrets.token_bytes(8),
        }
        body = b"".join(
            made[part]()
            if part in made
            else secrets.token_bytes(16)
            if part.startswith(b"TTTT")
            else part
            for part in parts
        )
        assert fresh.post(body).status == 200
        sent += batch
    assert fresh.memory_mb() < MEMORY_MB
    for query, groups in (
        ("by=model", sent),
        ("by=model&limit=20000", sent),
        ("by=hour", 1),
        ("by=model&by=user", sent),
    ):
        found = fresh.ask("GET", f"/api/report?{query}", timeout=120).json()
        assert (found["total"]["calls"], found["total"]["unpriced_calls"]) == (sent, sent)
        assert groups <= found["groups"] <= groups + (groups == 1)  # the hour may have turned
        assert found["truncated"] is (len(found["rows"]) < found["groups"])
        assert fresh.memory_mb() < MEMORY_MB, query


@pytest.mark.slow
def test_a_run_without_end_is_returned_in_part(fresh):
    """A run of 24,000 calls.

    The tree has the first 10,000 and says so, its totals are over all, and memory stays under the
    limit.
    """
    for _ in range(12):
        assert (
            fresh.post(
                request(2_000, **{"crewmeter.run.id": f"{7:016x}", "crewmeter.run.kind": "crew"})
            ).status
            == 200
        )
    found = fresh.get(f"/api/runs/{7:016x}").json()
    assert (found["calls"], found["tree"]["calls"], found["tree"]["cost_usd"]) == (
        24_000,
        24_000,
        found["cost_usd"],
    )
    assert (found["truncated"], len(found["tree"]["children"])) == (True, 10_000)
    assert fresh.memory_mb() < MEMORY_MB


def test_concurrent_attackers_and_honest_clients(small):
    """Truncated, bombed and half-sent requests beside honest ones: every honest span is stored."""
    before = len(small.stored())
    stored, attack = [], bomb(50)

    def honest() -> None:
        for _ in range(10):
            while (reply := small.post(request(20))).status == 503:
                time.sleep(0.02)
            stored.append(reply.status)

    def hostile() -> None:
        for body, headers in (
            (attack, {"content_encoding": "gzip"}),
            (request(4)[:-3], {}),
            (b"\xff" * 5000, {}),
        ) * 3:
            assert small.post(body, **headers).status in (400, 413, 503)

    threads = [threading.Thread(target=work) for work in (honest, honest, hostile, hostile)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored == [200] * 20
    assert len(small.stored()) == before + 400


_paths = st.sampled_from(
    [
        "/",
        "/metrics",
        "/api/report",
        "/api/runs",
        "/api/runs/x",
        "/static/",
        "/api/panels/x",
        "/v1/traces",
        "/api/boards",
    ]
)
_words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
_names = st.sampled_from(["by", "since", "until", "where", "limit", "crew"]) | _words
_methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"])


@given(_methods, _paths, st.dictionaries(_names, _words, max_size=4), st.binary(max_size=60))
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_request_makes_the_sidecar_fail(small, method, path, query, body):
    """Any method, path, query and body is answered, never with a 500."""
    from urllib.parse import urlencode

    status = small.ask(
        method,
        f"{path}?{urlencode(query)}",
        body or None,
        {"content-type": "application/x-protobuf"},
    ).status
    assert status < 500
