"""The embedded ledger never hurts the app.

Locked, full, damaged or forbidden, spans wait, and what is lost is said once.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import time

import pytest
from support.emit_spans import RUN, emit_calls
from support.ledger_audit import assert_books_hold
from support.paths import TESTS
from support.patience import patience
from support.rows import rows

from crewmeter import semconv
from crewmeter_cost import exporter as exporting
from crewmeter_cost.exporter import LedgerSpanExporter
from crewmeter_cost.ledger import sqlite_file
from crewmeter_cost.ledger.store import Ledger


@pytest.fixture
def exporter(ledger_path):
    made = LedgerSpanExporter(ledger=str(ledger_path))
    yield made
    made.shutdown()


def _calls(path) -> int:
    with Ledger.open(str(path), read_only=True) as ledger:
        return rows(ledger, "SELECT COUNT(*) AS n FROM call")[0]["n"]


def test_a_finished_span_is_a_priced_row(exporter, ledger_path):
    """One span of a call.

    Exact tokens and cost in the ledger, and the run's cost to be read at once.
    """
    emit_calls(exporter)
    cost = exporter.run_cost(RUN)
    assert (cost.calls, cost.input_tokens, cost.cost_pusd, cost.unpriced_calls) == (
        1,
        1000,
        5_500_000_000,
        0,
    )
    assert exporter.run_cost("feed") is None
    with Ledger.open(str(ledger_path)) as ledger:
        assert_books_hold(ledger)


def test_constructing_it_imports_nothing_heavy():
    """The app's thread pays for no database and no price book: both come with the first export."""
    code = (
        "import sys\nfrom crewmeter_cost.exporter import "
        "LedgerSpanExporter\nLedgerSpanExporter('/nowhere/l.db')\n"
        "print([name for name in ('sqlalchemy', 'sqlmodel', 'alembic', "
        "'crewmeter_cost.pricing', 'genai_prices') if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_a_locked_ledger_delays_but_loses_nothing(exporter, ledger_path, monkeypatch, caplog):
    """Another process holds the lock.

    Export returns soon, complains once, and the retry thread writes when the lock is gone.
    """
    monkeypatch.setattr(exporting, "BUSY_SECONDS", 0.1)
    Ledger.open(str(ledger_path)).close()
    holder = sqlite3.connect(ledger_path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    emit_calls(exporter, 20)
    assert time.monotonic() - began < patience(5)
    assert not exporter.force_flush(100)
    holder.execute("ROLLBACK")
    holder.close()
    until = time.monotonic() + 60
    while _calls(ledger_path) < 20 and time.monotonic() < until:
        time.sleep(0.05)
    assert _calls(ledger_path) == 20
    complaints = [record.message for record in caplog.records if "locked" in record.message]
    assert len(complaints) == 1
    assert "lost" in complaints[0]


def test_a_damaged_ledger_is_moved_aside_and_begun_anew(exporter, ledger_path, caplog):
    """Bytes flipped under a running app.

    The file is renamed, said loudly, and nothing new is lost.
    """
    emit_calls(exporter, 50)
    with Ledger.open(str(ledger_path)) as ledger, ledger.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = ledger_path.stat().st_size
    with ledger_path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(size - 100))
    exporter.after_fork()  # a fresh connection, as after a restart of the app
    emit_calls(exporter, 3)
    assert exporter.force_flush()
    assert _calls(ledger_path) == 3
    (aside,) = [
        path
        for path in ledger_path.parent.iterdir()
        if ".corrupt-" in path.name and path.name[-1] == "Z"
    ]
    assert aside.stat().st_size == size
    assert [record.levelno for record in caplog.records if "moved to" in record.message] == [
        logging.ERROR
    ]


def _filled_and_damaged(path, *, wal: bool) -> None:
    """A ledger of 400 calls; then some bytes of a page, or of its log, are noise."""
    writer = LedgerSpanExporter(ledger=str(path))
    emit_calls(writer, 400)
    if wal:  # as after kill -9: the log was not folded into the file
        connection = writer._pipeline.ledger._sqlite.session.connection
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        emit_calls(writer, 20)
        log = path.with_name(f"{path.name}-wal")
        copies = {each: each.read_bytes() for each in (path, log)}
        writer.shutdown()
        for each, content in copies.items():
            each.write_bytes(content)
        _overwrite(log, 20_000)
    else:
        writer.shutdown()
        _overwrite(path, path.stat().st_size // 2)


def _overwrite(path, start: int) -> None:
    """Put noise over 6,000 bytes."""
    content = bytearray(path.read_bytes())
    content[start : start + 6000] = bytes(byte ^ 0x5A for byte in content[start : start + 6000])
    path.write_bytes(content)


def _salvaged_calls(path, caplog) -> int:
    """Wait for what was copied of a damaged ledger, and count its calls."""
    deadline = time.monotonic() + 120
    while "of the damaged ledger are in" not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.02)
    (salvaged,) = path.parent.glob(f"{path.name}.corrupt-*.salvaged.db")
    return _calls(salvaged)


@pytest.mark.slow
@pytest.mark.parametrize("wal", [False, True], ids=["page", "log"])
def test_damage_from_before_the_start_is_found_at_open(ledger_path, caplog, wal):
    """SQLite itself would drop the log from the damage on, and read a page when it needs it.

    What can be read is copied, and nothing new goes into the damaged file.
    """
    _filled_and_damaged(ledger_path, wal=wal)
    exporter = LedgerSpanExporter(ledger=str(ledger_path))
    emit_calls(exporter, 3)
    assert exporter.force_flush()
    assert _calls(ledger_path) == 3
    assert "moved to" in caplog.text
    assert 0 < _salvaged_calls(ledger_path, caplog) <= 420
    exporter.shutdown()


@pytest.mark.slow
def test_the_check_at_open_ends_in_time(ledger_path, monkeypatch, caplog):
    """A large ledger must not hold up an app's first spans: what was not looked at is sound."""
    _filled_and_damaged(ledger_path, wal=True)
    monkeypatch.setattr(exporting, "CHECK_SECONDS", -1.0)
    exporter = LedgerSpanExporter(ledger=str(ledger_path))
    emit_calls(exporter, 3)
    exporter.shutdown()
    assert "moved to" not in caplog.text


def test_damage_that_a_reader_finds_is_set_aside(exporter, ledger_path, monkeypatch, caplog):
    """The summary after a kickoff reads the run's cost. Its error is the writer's business."""
    emit_calls(exporter, 400)
    connection = exporter._pipeline.ledger._sqlite.session.connection
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(ledger_path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    ledger_path.write_bytes(content)
    assert exporter.run_cost(RUN) is None
    emit_calls(exporter, 3)
    assert exporter.force_flush()
    assert _calls(ledger_path) == 3
    assert "moved to" in caplog.text


def test_a_ledger_deleted_under_the_app_is_begun_anew(exporter, ledger_path):
    """`rm ledger.db` while the app runs.

    The next spans go into a new file, not into the deleted one.
    """
    emit_calls(exporter, 2)
    for suffix in ("", "-wal", "-shm"):
        os.unlink(f"{ledger_path}{suffix}")
    emit_calls(exporter, 3)
    assert _calls(ledger_path) == 3


def test_a_forbidden_folder_costs_the_app_nothing_but_a_line(tmp_path, caplog):
    """A ledger that cannot be made.

    Bounded spool, one complaint, and at the end how many spans are lost.
    """
    (tmp_path / "file").write_text("in the way")
    exporter = LedgerSpanExporter(ledger=str(tmp_path / "file" / "ledger.db"))
    emit_calls(exporter, 30)
    assert not exporter.force_flush(200)
    began = time.monotonic()
    exporter.shutdown()
    exporter.shutdown()
    assert time.monotonic() - began < patience(2)
    messages = [record.message for record in caplog.records]
    assert sum("not writable" in message for message in messages) == 1
    assert messages[-1].endswith("30 spans never reached the ledger")


def test_the_spool_is_bounded(tmp_path, monkeypatch, caplog):
    """A ledger that stays away: the oldest spans go first, and the loss is counted."""
    monkeypatch.setattr(exporting, "SPOOL_SPANS", 10)
    (tmp_path / "file").write_text("in the way")
    exporter = LedgerSpanExporter(ledger=str(tmp_path / "file" / "ledger.db"))
    emit_calls(exporter, 25)
    exporter.shutdown()
    assert caplog.records[-1].message == "25 spans never reached the ledger"


def test_a_malformed_price_file_does_not_stop_the_meter(
    exporter, ledger_path, monkeypatch, tmp_path, caplog
):
    """The overrides are broken.

    Say so, price with the public book, and let `reprice` mend it later.
    """
    prices = tmp_path / "prices.toml"
    prices.write_text("[[price]]\ninput = -1\n")
    monkeypatch.setenv("CREWMETER_PRICES", str(prices))
    emit_calls(exporter)
    assert exporter.run_cost(RUN).cost_pusd == 5_500_000_000
    assert "prices.toml" in caplog.text
    assert "reprice" in caplog.text


def test_a_span_nobody_can_read_is_dropped_alone(exporter, ledger_path, monkeypatch, caplog):
    """A defect of ours in reading one span loses that span, not its batch, and not the app's
    exports.
    """
    from crewmeter_cost.intake import classify

    reading = classify.read

    def read(span):
        if span.attributes.get("poison"):
            raise RuntimeError("no")
        return reading(span)

    monkeypatch.setattr(classify, "read", read)
    monkeypatch.setattr(exporter, "_next_try", time.monotonic() + 0.2)
    emit_calls(exporter, 3)
    emit_calls(exporter, 1, poison=True)
    emit_calls(exporter, 3)
    time.sleep(0.25)
    assert exporter.force_flush()
    assert _calls(ledger_path) == 6
    assert "RuntimeError" in caplog.text


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("slower", ["parent", "child"])
def test_parent_and_forked_child_both_write(ledger_path, slower):
    """A fork in the middle.

    Each has its own connection and locks, so nothing is lost whoever closes the file first.
    """
    code = f"""
import os, sys, time
sys.path.insert(0, {str(TESTS)!r})
from crewmeter_cost.exporter import LedgerSpanExporter
from support.emit_spans import emit_calls
exporter = LedgerSpanExporter(ledger=sys.argv[1])
emit_calls(exporter, 5)
child = os.fork()
emit_calls(exporter, 1)
if (child == 0) == ({slower!r} == "child"):
    time.sleep(1)
emit_calls(exporter, 6)
exporter.shutdown()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(ledger_path)], check=True, timeout=60
    )
    assert _calls(ledger_path) == 5 + 7 + 7
    with Ledger.open(str(ledger_path)) as ledger:
        assert_books_hold(ledger)


def test_calls_are_safe_half_a_second_after_they_ended(ledger_path):
    """`os._exit` skips every handler: what was exported is in the file all the same."""
    code = f"""
import os, sys
sys.path.insert(0, {str(TESTS)!r})
from crewmeter_cost.exporter import LedgerSpanExporter
from support.emit_spans import emit_calls
emit_calls(LedgerSpanExporter(ledger=sys.argv[1]), 9)
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code, str(ledger_path)], check=True, timeout=600)
    assert _calls(ledger_path) == 9


def test_a_full_disk_is_survived(exporter, ledger_path, monkeypatch, caplog):
    """No space: spans wait; when there is space again they are written, each once."""
    emit_calls(exporter, 2)
    pipeline = exporter._pipeline
    with sqlite3.connect(ledger_path) as connection:
        (room,) = connection.execute("PRAGMA page_count").fetchone()
    connection.close()
    big = {semconv.TAG_PREFIX + f"k{n}": json.dumps(list(range(100))) for n in range(30)}
    usual = sqlite_file.pragmas

    def tight(**options):
        """Every further page is SQLITE_FULL."""
        return [*usual(**options), f"PRAGMA max_page_count = {room}"]

    monkeypatch.setattr(sqlite_file, "pragmas", tight)
    pipeline.ledger.close()
    for number in range(400):
        emit_calls(exporter, 1, **big, **{semconv.USER: f"user {number}"})
    assert not exporter.force_flush()
    assert "disk is full" in caplog.text
    monkeypatch.setattr(sqlite_file, "pragmas", usual)
    pipeline.ledger.close()
    assert exporter.force_flush()
    assert _calls(ledger_path) == 402
