"""Bytes that change under a live writer are found, and what can be read is saved."""

from __future__ import annotations

import logging
import os
import shutil
import time

import pytest
from support.ledger_audit import assert_books_hold
from support.ledger_build import call, frozen, priced, root, some_calls, step

from crewmeter_cost.errors import LedgerCorruptError
from crewmeter_cost.ledger.integrity import damage_of, wal_damage
from crewmeter_cost.ledger.maintenance.salvage import salvage
from crewmeter_cost.ledger.maintenance.set_aside import set_aside
from crewmeter_cost.ledger.store import Ledger


def _wal(path):
    return path.with_name(f"{path.name}-wal")


def _flip(path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))


def test_a_sound_ledger_is_sound_at_any_time(ledger, ledger_path):
    """Between batches, after a checkpoint, and with frames of an older generation in the WAL."""
    for number in range(30):
        ledger.write([(call(number), priced())], [], frozen)
        ledger.verify()
        if number % 10 == 9:
            ledger._sqlite.session.connection.execute("PRAGMA wal_checkpoint(RESTART)")
            ledger.verify()
    assert damage_of(ledger_path) is None


@pytest.mark.parametrize("share", [0.05, 0.4, 0.7])
def test_a_flipped_byte_of_the_wal_is_found(ledger, ledger_path, share):
    """One bit, in the log of a writer that is open: SQLite would read it as it is."""
    for number in range(20):
        ledger.write([(call(number), priced())], [], frozen)
    _flip(_wal(ledger_path), int(_wal(ledger_path).stat().st_size * share))
    with pytest.raises(LedgerCorruptError, match="checksum"):
        ledger.verify()


def test_a_half_written_last_frame_is_no_damage(ledger, ledger_path, tmp_path):
    """A process killed while it wrote leaves such an end: SQLite drops it, rightly."""
    for number in range(5):
        ledger.write([(call(number), priced())], [], frozen)
    torn = tmp_path / "torn-wal"
    torn.write_bytes(_wal(ledger_path).read_bytes()[:-700] + os.urandom(700))
    assert wal_damage(torn) is None
    torn.write_bytes(_wal(ledger_path).read_bytes()[:-1000])
    assert wal_damage(torn) is None
    assert wal_damage(tmp_path / "none-wal") is None


def test_damage_in_the_log_is_set_aside_with_what_can_be_read(ledger_path, caplog):
    """A new ledger begins, the evidence is whole, and the commits before the damage are copied."""
    ledger = Ledger.open(str(ledger_path), durable=True)
    ledger.write([(call(number), priced()) for number in range(40)], [root()], frozen)
    ledger._sqlite.session.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.write([(call(50), priced())], [], frozen)
    size = _wal(ledger_path).stat().st_size
    ledger.write([(call(51), priced())], [], frozen)
    ledger.write([(call(52), priced())], [], frozen)
    _flip(_wal(ledger_path), size + 3000)
    with pytest.raises(LedgerCorruptError) as caught:
        ledger.verify()
    with caplog.at_level(logging.ERROR):
        aside = set_aside(ledger_path, caught.value, [ledger])
        salvaged = aside.with_name(f"{aside.name}.salvaged.db")
        deadline = time.monotonic() + 60
        while "damaged ledger are in" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "41 calls" in caplog.text
    with Ledger.open(str(salvaged)) as found:
        assert len(assert_books_hold(found).calls) == 41
    ledger.write([(call(60), priced())], [], frozen)
    assert len(assert_books_hold(ledger).calls) == 1
    ledger.close()


@pytest.mark.slow
def test_every_readable_row_of_damaged_pages_is_salvaged(tmp_path):
    """Pages in the middle are noise: the other rows come over, and every sum is theirs."""
    path = tmp_path / "ledger.db"
    calls = some_calls(5, 3_000)
    steps = [step(10_000 + number, "tool", "search") for number in range(50)]
    with Ledger.open(str(path)) as ledger:
        for start in range(0, len(calls), 500):
            ledger.write(calls[start : start + 500], [], frozen)
        ledger.write([], [*steps, root()], frozen)
        whole = len(assert_books_hold(ledger).calls)
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    for page in range(pages // 2, pages // 2 + 12):
        content[page * 4096 : (page + 1) * 4096] = os.urandom(4096)
    path.write_bytes(content)
    before = path.read_bytes()
    salvaged = salvage(path, tmp_path / "new.db")
    assert path.read_bytes() == before
    with Ledger.open(str(tmp_path / "new.db")) as ledger:
        books = assert_books_hold(ledger)
    assert len(books.calls) == salvaged.calls
    assert whole * 0.8 < salvaged.calls <= whole


def test_a_sound_ledger_is_salvaged_whole(tmp_path):
    """Nothing is damaged: the copy has every row, sum and run outcome."""
    path = tmp_path / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        ledger.write(some_calls(7, 500), [root()], frozen)
        whole = assert_books_hold(ledger)
    salvage(path, tmp_path / "new.db")
    with Ledger.open(str(tmp_path / "new.db")) as ledger:
        copied = assert_books_hold(ledger)
    assert (copied.calls, copied.steps, copied.runs) == (whole.calls, whole.steps, whole.runs)


def test_nothing_is_written_over_a_file(tmp_path):
    """A target that exists is refused."""
    path = tmp_path / "ledger.db"
    Ledger.open(str(path)).close()
    shutil.copy(path, tmp_path / "new.db")
    with pytest.raises(FileExistsError):
        salvage(path, tmp_path / "new.db")
