"""What a sidecar does by itself now and then: it checks its ledger, and deletes old detail."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time

import pytest
from support.ledger_build import call, frozen, priced
from support.sidecars import request

from crewmeter_cost.ledger.store import Ledger


def until(true, seconds=120):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def count(path, table="call") -> int:
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def flip_wal(path) -> None:
    """Flip a bit in the log under the sidecar that has it open."""
    log = path.with_name(f"{path.name}-wal")
    with log.open("r+b") as file:
        file.seek(log.stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x40]))


@pytest.mark.parametrize("finder", ["the hourly check", "a reader"])
def test_damage_found_while_serving_is_set_aside(nursery, tmp_path, finder):
    """Whoever finds it: the file goes aside whole, what can be read is copied, and spans that
    come next are in a new ledger.
    """
    path = tmp_path / "ledger.db"
    seconds = 0.2 if finder == "the hourly check" else 3600
    with nursery.start(path, intervals={"VERIFY_SECONDS": seconds}) as running:
        assert running.post(request(300)).status == 200
        if finder == "the hourly check":
            for _ in range(20):
                assert running.post(request(1)).status == 200
            flip_wal(path)
        else:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(os.urandom(size - 4096))
            until(lambda: running.get("/api/report").status == 503)

        def begun_anew():
            assert running.post(request(1)).status in (200, 503)
            return running.metric("crewmeter_ledger_quarantines_total") == 1

        until(begun_anew)
        assert running.post(request(7)).status == 200
        assert running.get("/api/report").json()["total"]["calls"] >= 7
        assert running.get("/readyz").status == 200
        if finder == "the hourly check":
            until(lambda: "of the damaged ledger are in" in running.raw_log())
            (salvaged,) = tmp_path.glob("ledger.db.corrupt-*.salvaged.db")
            assert count(salvaged) >= 300


def test_old_detail_goes_while_serving(nursery, tmp_path):
    """`CREWMETER_KEEP`: the loop deletes it, sums stay, and new spans are taken all the while."""
    path = tmp_path / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        ledger.write([(call(number), priced()) for number in range(500)], [], frozen)
    env = {"CREWMETER_KEEP": "30d"}
    with nursery.start(path, env=env, intervals={"RETENTION_SECONDS": 0.1}) as running:
        assert running.post(request(3)).status == 200
        until(lambda: count(path) == 3)
        assert running.get("/api/report").json()["total"]["calls"] == 503
