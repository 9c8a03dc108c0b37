"""`CREWMETER_KEEP`: detail goes by itself, in the app and in the sidecar, and sums stay."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.ledger_audit import stored_rollups
from support.ledger_build import frozen, root, some_calls
from support.rows import rows

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.maintenance import prune as pruning
from crewmeter_cost.ledger.maintenance.retention import Retention
from crewmeter_cost.ledger.store import Ledger

NOW = datetime(2026, 6, 3, 12, tzinfo=UTC).timestamp()


def _retention(keep: str, **options) -> Retention:
    return Retention({"CREWMETER_KEEP": keep}, clock=lambda: NOW, **options)


def test_old_detail_goes_and_sums_stay(either):
    """What is older than the setting is deleted, once in a while."""
    either.write(some_calls(7, 300), [root()], frozen)
    sums = stored_rollups(either)
    retention = _retention("1d")
    pruned = retention.run(either)
    assert pruned.calls > 50
    first = rows(either, "SELECT MIN(time) AS first FROM calls")[0]["first"]
    assert first >= NOW - 86_400
    assert stored_rollups(either) == sums
    assert retention.run(either) is None


def test_a_turn_is_bounded(ledger, monkeypatch):
    """An app's thread deletes so many rows at a time, and goes on in its next turn."""
    monkeypatch.setattr(pruning, "BATCH", 10)
    monkeypatch.setattr("crewmeter_cost.ledger.maintenance.retention.BATCH", 10)
    monkeypatch.setattr("crewmeter_cost.ledger.maintenance.retention._AGAIN_SECONDS", 0.0)
    ledger.write(some_calls(7, 300), [], frozen)
    retention = _retention("1d", most_batches=3)
    assert retention.run(ledger).calls == 30
    assert retention.run(ledger).calls == 30


def test_a_turn_that_fails_is_tried_again_soon(ledger_path, monkeypatch):
    """The ledger is locked when its turn comes: not six hours later, but in the next turn."""
    monkeypatch.setattr("crewmeter_cost.ledger.maintenance.retention._AGAIN_SECONDS", 0.0)
    retention = _retention("1d")
    with Ledger.open(str(ledger_path), busy_seconds=0.05) as ledger:
        ledger.write(some_calls(7, 300), [], frozen)
        holder = sqlite3.connect(ledger_path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(CrewMeterError, match="locked"):
            retention.run(ledger)
        holder.close()
        assert retention.run(ledger).calls > 50


@pytest.mark.parametrize("keep", ["soon", "1h", "-3d", "90 apples"])
def test_a_setting_that_is_no_age_is_refused(keep):
    """A typo, or less than a day, deletes nothing and is named."""
    with pytest.raises(CrewMeterError, match="CREWMETER_KEEP"):
        _retention(keep)


def test_without_a_setting_nothing_goes(ledger):
    """Detail stays for ever by default."""
    ledger.write(some_calls(7, 50), [root()], frozen)
    assert Retention({}).run(ledger) is None
    assert rows(ledger, "SELECT count(*) AS n FROM call") == [{"n": 50}]


def test_an_app_prunes_without_a_database_toolkit(ledger_path):
    """The exporter deletes old detail after its first batch, over `sqlite3` alone."""
    with Ledger.open(str(ledger_path)) as ledger:
        ledger.write(some_calls(7, 200), [root()], frozen)
    code = (
        "import sys; from support.emit_spans import emit_calls\n"
        "from crewmeter_cost.exporter import LedgerSpanExporter\n"
        "exporter = LedgerSpanExporter(ledger=sys.argv[1])\n"
        "emit_calls(exporter, 3); exporter.force_flush(); exporter.shutdown()\n"
        "print('sqlalchemy' in sys.modules)"
    )
    tests = str(Path(__file__).parents[3])
    environ = {**os.environ, "CREWMETER_KEEP": "2d", "PYTHONPATH": tests}
    done = subprocess.run(
        [sys.executable, "-c", code, str(ledger_path)],
        capture_output=True,
        text=True,
        check=True,
        env=environ,
    )
    assert done.stdout.strip() == "False"
    cutoff = time.time() - timedelta(days=2, hours=1).total_seconds()
    with Ledger.open(str(ledger_path)) as ledger:
        left = rows(ledger, "SELECT time FROM calls")
    assert left
    assert all(row["time"] >= cutoff for row in left)
