"""An app whose ledger is held for a minute, and whose clock jumps."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest
from support.app import run_app
from support.ledger_audit import assert_books_hold
from support.paths import TESTS
from support.patience import patience

from crewmeter_cost.ledger.store import Ledger

LOCKED_SECONDS = float(os.environ.get("CREWMETER_TEST_LOCKED", "60"))

APP = """
import os, sys, time
import crewmeter
handle = crewmeter.instrument(summary=False)
from crewai import LLM
llm = LLM(model="openai/gpt-4o-mini", base_url=os.environ["PROVIDER_URL"] + "/v1", api_key="k")
llm.call("first")
handle.flush(60)
print("ready", flush=True)
slowest, calls, end = 0.0, 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    began = time.monotonic()
    llm.call("hello")
    slowest, calls = max(slowest, time.monotonic() - began), calls + 1
    time.sleep(0.2)
open(sys.argv[2], "w").close()
while os.path.exists(sys.argv[2]):
    time.sleep(0.05)
print(calls, slowest, handle.flush(120))
"""


@pytest.mark.slow
def test_a_ledger_that_is_locked_for_a_minute_delays_no_call(fake_provider, tmp_path):
    """Another program holds the write lock all the time. The app's calls take what they take, and
    every one is in the ledger afterwards.
    """
    ledger, done = tmp_path / "ledger.db", tmp_path / "done"
    Ledger.open(str(ledger)).close()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(ledger), str(done)], stdout=subprocess.PIPE, text=True
    )
    ran = run_app(
        APP, str(LOCKED_SECONDS), str(done), ledger=ledger, provider_url=fake_provider.url
    )
    holder.communicate(timeout=120)
    calls, slowest, flushed = ran.stdout.split()[1:]
    assert flushed == "True"
    assert float(slowest) < patience(3), "a call waited for the ledger"
    assert int(calls) > 10
    with Ledger.open(str(ledger)) as opened:
        assert len(assert_books_hold(opened).calls) == int(calls) + 1


# Takes the lock once the app has written its first call, and gives it up when the app has said so.
HOLDER = """
import os, sqlite3, sys, time
ledger, done = sys.argv[1:]
def count():
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
        return connection.execute("SELECT count(*) FROM call").fetchone()[0]
while not count():
    time.sleep(0.02)
connection = sqlite3.connect(ledger, isolation_level=None, timeout=60)
connection.execute("BEGIN IMMEDIATE")
while not os.path.exists(done):
    time.sleep(0.05)
connection.execute("ROLLBACK")
os.unlink(done)
"""

JUMPS = f"""
import sys, time
sys.path.insert(0, {str(TESTS)!r})
real, off = time.time_ns, 0
time.time_ns = lambda: real() + off
time.time = lambda: (real() + off) / 1e9
from crewmeter_cost.exporter import LedgerSpanExporter
from support.emit_spans import emit_calls
exporter = LedgerSpanExporter(ledger=sys.argv[1])
for seconds in (0, 86_400, 0, -3_600, -86_400, 40 * 86_400, 0):
    off = seconds * 10**9
    emit_calls(exporter, 5)
print(exporter.force_flush())
exporter.shutdown()
"""


def test_an_apps_clock_that_jumps_loses_nothing(ledger_path):
    """A day ahead, back, an hour and a day behind, forty days ahead: every call is stored, no
    duration is negative, and the sums agree.
    """
    environ = {**os.environ, "CREWMETER_KEEP": "90d"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", JUMPS, str(ledger_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environ,
        timeout=600,
    )
    assert done.stdout.strip() == "True"
    with Ledger.open(str(ledger_path)) as ledger:
        assert len(assert_books_hold(ledger).calls) == 35
    with sqlite3.connect(ledger_path) as connection:
        assert connection.execute("SELECT min(duration_ns) >= 0 FROM call").fetchone() == (1,)
    connection.close()
