"""Time goes wrong: the sidecar's own clock jumps, its writer stands still.

It keeps serving, and no age is ever negative.
"""

from __future__ import annotations

import os
import re
import threading
import time

import pytest
from support.otlp_client import Client
from support.patience import patience
from support.sidecars import Running, request

pytestmark = pytest.mark.slow

STALL_SECONDS = float(os.environ.get("CREWMETER_TEST_STALL", "7"))
"""How long the writer is held up; the full suite says 30.

Longer than the 5 s a transaction waits for a lock, in any case.
"""
DAY, HOUR = 86_400, 3_600


def ages(running: Running) -> dict[str, float]:
    """Every metric that is a time or a time span: sums, gauges and buckets."""
    lines = re.findall(
        r"^(crewmeter_\w*seconds\w*)(?:{\S+})? (\S+)$", running.get("/metrics").text, re.MULTILINE
    )
    return {name: float(value) for name, value in lines}


@pytest.fixture
def jumpy(nursery, tmp_path):
    """A sidecar whose clock goes wrong by what is written into the file ``clock``, and
    that file.
    """
    clock = tmp_path / "clock"
    clock.write_text("0")
    with nursery.start(tmp_path / "ledger.db", clock=clock) as running:
        yield running, clock


def test_a_clock_that_jumps_stops_nothing(jumpy):
    """A day ahead, back, an hour behind, back.

    Every batch is stored with times reports can live with, and ages stay true.
    """
    running, clock = jumpy
    before = time.time()
    for stored, offset in enumerate((0, DAY, 0, -HOUR, -DAY, 0), 1):
        clock.write_text(str(offset))
        assert running.post(request(1)).status == 200
        assert len(running.stored()) == stored
        assert running.get("/readyz").status == 200
        found = ages(running)
        assert min(found.values()) >= 0
        assert found["crewmeter_ingest_last_span_timestamp_seconds"] == pytest.approx(
            time.time() + offset, abs=10
        )
        assert found["crewmeter_ledger_lag_seconds_sum"] < DAY + 30
    # One span came while the clock was a day ahead: it seemed a day late. No other batch seemed
    # late, none early.
    assert running.metric('crewmeter_ledger_lag_seconds_bucket{le="60.0"}') == 5
    assert running.get("/api/report?since=1h").json()["total"]["calls"] in (
        4,
        5,
    )  # what came a day behind was dated by that clock
    assert running.get("/api/report").json()["total"]["calls"] == 6
    assert time.time() - before < patience(30)


def test_a_clock_that_jumps_under_a_waiting_batch_does_not_age_it(jumpy):
    """The clock jumps while a batch waits for its commit.

    The lag is what was waited, not the jump.
    """
    running, clock = jumpy
    with running.locked():
        waiting = threading.Thread(target=running.post, args=(request(3),))
        waiting.start()
        time.sleep(0.5)
        clock.write_text(str(DAY))
    waiting.join()
    assert len(running.stored()) == 3
    assert 0.4 < ages(running)["crewmeter_ledger_lag_seconds_sum"] < patience(10)


def test_the_age_of_the_prices_is_always_a_number(jumpy):
    """The alert on stale prices compares this gauge, and a comparison with NaN never fires.

    A day later it is a day more.
    """
    running, clock = jumpy
    age = ages(running)["crewmeter_price_book_age_seconds"]
    assert 0 <= age < 3650 * DAY
    clock.write_text(str(DAY))
    assert ages(running)["crewmeter_price_book_age_seconds"] == pytest.approx(age + DAY, abs=30)
    clock.write_text(str(-3650 * DAY))
    assert ages(running)["crewmeter_price_book_age_seconds"] == 0


def test_a_writer_that_stalls_for_long_loses_nothing(nursery, tmp_path):
    """The database is held for half a minute under load.

    Probes are answered at once, memory stays, and then all goes in once.
    """
    with nursery.start(tmp_path / "ledger.db", limits={"queued_spans": 200}) as running:
        assert running.post(request(1)).status == 200
        clients = [Client(running.port) for _ in range(4)]
        with running.locked():
            for client in clients:
                client.start()
            slowest, end = 0.0, time.monotonic() + STALL_SECONDS
            while time.monotonic() < end:
                began = time.monotonic()
                assert running.get("/healthz").status == 200
                assert running.metric("crewmeter_ingest_queue_spans") <= 200
                slowest = max(slowest, time.monotonic() - began)
                time.sleep(0.1)
            assert running.get("/readyz").status == 503
            assert slowest < patience(2)
            assert not any(client.acknowledged for client in clients)
        end = time.monotonic() + 120
        while not all(client.acknowledged for client in clients):
            assert time.monotonic() < end, "it did not go on after the stall"
            time.sleep(0.02)
        for client in clients:
            client.stopping.set()
        for client in clients:
            client.join()
        stored = running.stored()
        assert set().union(*(client.acknowledged for client in clients)) <= set(stored)
        assert len(stored) == len(set(stored))
        assert running.get("/readyz").status == 200
        assert running.memory_mb() < 300
