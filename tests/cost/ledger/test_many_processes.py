"""Several processes on one ledger, and processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from support.ledger_audit import assert_books_hold
from support.paths import TESTS
from support.rows import rows

from crewmeter_cost.ledger.store import Ledger

WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from support.ledger_build import call, frozen, priced, root, step
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.records import CallContext
me, batches, size = int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
with Ledger.open(sys.argv[2], busy_seconds=30, durable=True) as ledger:
    for batch in range(batches):
        run = {"run_id": f"{me % 2:016x}", "run_kind": "crew", "run_name": "shared"}
        context = CallContext(**run, crew=f"crew {batch % 5}", agent=f"agent {me}")
        first = me * 1_000_000 + batch * size
        model = f"model {(me + batch) % 7}"
        calls = [call(first + n, context=context, request_model=model) for n in range(size)]
        ledger.write([(each, priced(1)) for each in calls], [], frozen)
        print(first + size, flush=True)
"""


def _start(path: str, me: int, batches: int, size: int = 50) -> subprocess.Popen[str]:
    tests = str(TESTS)
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, tests, path, str(me), str(batches), str(size)],
        stdout=subprocess.PIPE,
        text=True,
    )


def _together(path: str) -> None:
    writers = [_start(path, me, batches=20) for me in range(4)]
    for writer in writers:
        writer.communicate(timeout=600)
        assert writer.returncode == 0
    with Ledger.open(path) as ledger:
        books = assert_books_hold(ledger)
        assert len(books.calls) == 4 * 20 * 50
        assert sorted(run["calls"] for run in books.runs) == [2000, 2000]
        assert (
            rows(ledger, "SELECT kind, value FROM label GROUP BY kind, value HAVING COUNT(*) > 1")
            == []
        )


def test_four_processes_write_one_sqlite_file(tmp_path):
    """They meet on the same labels, runs and hours, and every sum is right at the end."""
    _together(str(tmp_path / "ledger.db"))


@pytest.mark.slow
def test_four_processes_write_one_postgresql(postgres_url):
    """The same on PostgreSQL: no deadlock, no doubled label."""
    _together(postgres_url)


def test_a_fresh_ledger_may_be_opened_by_many_at_once(tmp_path):
    """Eight processes create the same new ledger; one makes it, all write."""
    path = str(tmp_path / "ledger.db")
    writers = [_start(path, me, batches=1, size=3) for me in range(8)]
    assert [writer.wait(600) for writer in writers] == [0] * 8
    for writer in writers:
        writer.communicate()
    with Ledger.open(path) as ledger:
        assert len(assert_books_hold(ledger).calls) == 24


@pytest.mark.slow
def test_what_write_returned_from_survives_kill_9(tmp_path):
    """A writer killed in the middle of its work.

    Every batch it acknowledged is there, whole, and the sums agree.
    """
    path = str(tmp_path / "ledger.db")
    for round_ in range(4):
        writer = _start(path, 10 + round_, batches=100_000)
        assert writer.stdout is not None
        acknowledged = 0
        until = time.monotonic() + 0.6 + 0.13 * round_
        acknowledged = int(writer.stdout.readline())
        while time.monotonic() < until:
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        for line in writer.stdout:  # what it still said before it died
            acknowledged = int(line) if line.endswith("\n") else acknowledged
        writer.wait()
        writer.stdout.close()
        with Ledger.open(path) as ledger:
            first = (10 + round_) * 1_000_000
            found = rows(ledger, "SELECT COUNT(*) AS n FROM call WHERE started_ns >= :low", low=0)[
                0
            ]["n"]
            mine = len(
                [
                    span
                    for span in rows(ledger, "SELECT span_id FROM call")
                    if int(span["span_id"].hex(), 16) >= first
                ]
            )
            assert mine >= acknowledged - first
            assert mine % 50 == 0
            assert found >= mine
            assert_books_hold(ledger)
