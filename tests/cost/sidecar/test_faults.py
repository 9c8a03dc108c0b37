"""What on-call engineers fear: kills, full disks, damaged files, stalled writers, clocks that jump.

Nothing acknowledged is lost.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import threading
import time

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from support.otlp_client import Client
from support.ports import free_port
from support.sidecars import request

pytestmark = pytest.mark.mostly_slow(
    "test_sigterm_drains",
    "test_prices_are_reloaded_on_sighup",
    "test_a_stalled_writer_pushes_back_and_recovers",
)

KILLS = int(os.environ.get("CREWMETER_TEST_KILLS", "20"))
"""How often the sidecar is killed; the full suite says 100."""


def test_kill_9_under_load_loses_nothing_acknowledged(nursery, tmp_path, record_property):
    """Killed at random moments with retrying clients.

    Every acknowledged span is in the ledger once, none twice, sums agree.
    """
    ledger, port = tmp_path / "ledger.db", free_port()
    clients = [Client(port) for _ in range(3)]
    running = nursery.start(ledger, port=port)
    for client in clients:
        client.start()
    chance = random.Random(4)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.0, 0.12))
        running.kill()
        running = nursery.start(ledger, port=port)
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join()
    stored = running.stored()
    total = running.get("/api/report").json()["total"]
    running.kill()
    acknowledged = set().union(*(client.acknowledged for client in clients))
    record_property("tried", KILLS)
    assert len(acknowledged) >= 16  # some were, however slow the machine
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
    assert set(stored) <= set().union(*(client.sent for client in clients))
    assert total["calls"] == len(stored)
    check = sqlite3.connect(ledger)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


def test_sigterm_drains(nursery, tmp_path):
    """Stopped under load, it answers what it took, stores it, and ends by itself."""
    ledger, port = tmp_path / "ledger.db", free_port()
    running = nursery.start(ledger, port=port)
    clients = [Client(port) for _ in range(3)]
    for client in clients:
        client.start()
    time.sleep(0.4)
    running.terminate()
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join()
    stored = running.stored()
    assert set().union(*(client.acknowledged for client in clients)) <= set(stored)
    assert any("stopped" in str(line["message"]) for line in running.log())


def test_a_stalled_writer_pushes_back_and_recovers(nursery, tmp_path):
    """Somebody holds the database.

    Senders learn when to come back (HTTP and gRPC), and afterwards everything goes in.
    """
    with nursery.start(tmp_path / "ledger.db", grpc=True, limits={"queued_spans": 100}) as running:
        assert running.post(request(1)).status == 200
        holder = sqlite3.connect(running.ledger, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=running.post, args=(request(90),))
        waiting.start()
        time.sleep(0.3)
        body = request(50)
        reply = running.post(body)
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) >= 1
        with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
            export = channel.unary_unary(
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            )
            with pytest.raises(grpc.RpcError) as caught:
                export(body)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = Status.FromString(
            dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        )
        info = RetryInfo()
        assert status.details[0].Unpack(info)
        assert info.retry_delay.ToTimedelta().total_seconds() >= 1
        assert running.get("/healthz").status == 200
        assert running.metric("crewmeter_ingest_queue_spans") == 90
        holder.execute("ROLLBACK")
        holder.close()
        waiting.join()
        assert running.post(body).status == 200
        assert len(running.stored()) == 141


def test_a_locked_ledger_is_a_retryable_error(nursery, tmp_path):
    """A lock held longer than the wait: 503, not ready, and ready again after the next success."""
    with nursery.start(tmp_path / "ledger.db") as running:
        holder = sqlite3.connect(running.ledger, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        body = request(3)
        reply = running.post(body)
        assert reply.status == 503
        assert "retry-after" in reply.headers
        assert running.get("/readyz").status == 503
        assert "locked" in running.get("/readyz").text
        assert running.metric("crewmeter_ledger_errors_total") == 1
        holder.execute("ROLLBACK")
        holder.close()
        assert running.post(body).status == 200
        assert running.get("/readyz").status == 200
        assert len(running.stored()) == 3


def test_a_full_disk_is_survived(nursery, tmp_path):
    """No space: retryable errors, nothing corrupt; space again: it goes on without a restart."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)], capture_output=True
        ).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    try:
        with nursery.start(mount / "ledger.db") as running:
            ballast = mount / "ballast"
            ballast.write_bytes(bytes(1 << 20))
            acknowledged, status = 0, 200
            while status == 200 and acknowledged < 40_000:
                status = running.post(request(400)).status
                acknowledged += 400 if status == 200 else 0
            assert status == 503
            assert "full" in running.get("/readyz").text or "disk" in running.get("/readyz").text
            assert len(running.stored()) == acknowledged
            ballast.unlink()
            assert running.post(request(10)).status == 200
            assert len(running.stored()) == acknowledged + 10
            assert running.get("/readyz").status == 200
            running.terminate()
            check = sqlite3.connect(mount / "ledger.db")
            assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            check.close()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_damaged_file_is_set_aside_at_the_start(nursery, tmp_path):
    """Flipped bytes.

    The file is renamed, a new ledger is begun, and it is said loudly.
    """
    ledger = tmp_path / "ledger.db"
    with nursery.start(ledger) as running:
        assert running.post(request(3_000)).status == 200
        running.terminate()
    damaged = bytearray(ledger.read_bytes())
    for at in range(4096, len(damaged) - 200, 1000):
        damaged[at : at + 60] = os.urandom(60)
    ledger.write_bytes(damaged)
    with nursery.start(ledger) as running:
        assert running.post(request(5)).status == 200
        assert len(running.stored()) == 5
        assert list(tmp_path.glob("ledger.db.corrupt-*"))
        assert any(line["level"] == "critical" for line in running.log())


def test_a_file_damaged_while_running_is_set_aside(nursery, tmp_path):
    """Damage under a running sidecar.

    The next batches go into a new ledger, none is refused for ever.
    """
    with nursery.start(tmp_path / "ledger.db") as running:
        for _ in range(3):
            assert running.post(request(2_000)).status == 200
        with running.ledger.open("r+b") as file, open(f"{running.ledger}-wal", "r+b") as log:
            for target in (file, log):
                size = target.seek(0, 2)
                for at in range(4096 if target is file else 32, size, 2048):
                    target.seek(at)
                    target.write(os.urandom(1024))
        assert (
            running.get("/api/report?by=user").status == 503
        )  # the writer still has its pages in memory; a reader notices
        assert running.post(request(7)).status == 200
        assert list(tmp_path.glob("ledger.db.corrupt-*"))
        assert running.metric("crewmeter_ledger_quarantines_total") == 1
        assert running.get("/api/report").json()["total"]["calls"] == 7


def test_a_truncated_wal_is_survived(nursery, tmp_path):
    """Power cuts tear the WAL: what is left is consistent, and the sidecar starts on it."""
    ledger = tmp_path / "ledger.db"
    running = nursery.start(ledger)
    for _ in range(5):
        assert running.post(request(50)).status == 200
    running.kill()
    wal = tmp_path / "ledger.db-wal"
    wal.write_bytes(wal.read_bytes()[: wal.stat().st_size * 2 // 3])
    with nursery.start(ledger) as again:
        total = again.get("/api/report").json()["total"]["calls"]
        assert total == len(again.stored())
        assert total % 50 == 0
        assert again.post(request(2)).status == 200
        assert len(again.stored()) == total + 2


def test_prices_are_reloaded_on_sighup(nursery, tmp_path):
    """New prices take hold without a restart.

    Calls before are charged by the old ones, calls after by the new.
    """
    prices = tmp_path / "prices.toml"
    rates = '[[price]]\nprovider = "acme"\nmodel = "mine"\ninput = {}\noutput = 0\n'
    prices.write_text(rates.format(1))
    facts = {"gen_ai.provider.name": "acme", "gen_ai.request.model": "mine"}
    with nursery.start(tmp_path / "ledger.db", env={"CREWMETER_PRICES": str(prices)}) as running:
        assert running.post(request(1, **facts)).status == 200
        prices.write_text(rates.format(3))
        os.kill(running.pid, signal.SIGHUP)
        end = time.monotonic() + 60
        while not any(line["message"] == "prices reloaded" for line in running.log()):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert running.post(request(1, **facts)).status == 200
        assert running.get("/api/report").json()["total"]["cost_usd"] == "0.004"
