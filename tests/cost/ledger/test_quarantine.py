"""A damaged ledger is moved aside whole, and nothing that was moved aside before is lost."""

from __future__ import annotations

import sqlite3
import time

import pytest
from support.ledger_build import call, frozen, priced, root

from crewmeter_cost.ledger import quarantine as module
from crewmeter_cost.ledger.quarantine import quarantine
from crewmeter_cost.ledger.sqlite_file import identity_of
from crewmeter_cost.ledger.store import Ledger


def _damaged(path, text: str) -> None:
    path.write_bytes(text.encode() * 1000)


def _corrupt(path) -> list:
    return sorted(path.parent.glob(f"{path.name}.corrupt-*"))


def test_two_damaged_files_in_one_second_are_both_there(ledger_path, monkeypatch):
    """The second of a second gets a name of its own: no rename replaces evidence."""
    monkeypatch.setattr(time, "strftime", lambda *_: "20261126T120000Z")
    for text in ("first", "second", "third"):
        _damaged(ledger_path, text)
        assert quarantine(ledger_path) is not None
    assert [each.read_bytes()[:5] for each in _corrupt(ledger_path)] == [
        b"first",
        b"secon",
        b"third",
    ]


def test_the_log_and_its_index_go_along(ledger_path):
    """`-wal` and `-shm` hold the last commits: they move with the file, byte for byte."""
    ledger = Ledger.open(str(ledger_path))
    ledger.write([(call(1), priced())], [root()], frozen)
    wal, shm = (ledger_path.with_name(f"{ledger_path.name}{end}") for end in ("-wal", "-shm"))
    content = wal.read_bytes()
    aside = quarantine(ledger_path, damaged=identity_of(ledger_path))
    ledger.abandon()
    assert aside is not None
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == content
    assert aside.with_name(f"{aside.name}-shm").exists()
    assert [each for each in (ledger_path, wal, shm) if each.exists()] == []


def test_a_sound_file_stays(ledger_path):
    """Nothing is moved on suspicion alone."""
    Ledger.open(str(ledger_path)).close()
    assert quarantine(ledger_path) is None
    assert ledger_path.exists()
    assert quarantine(ledger_path.with_name("none.db")) is None


def test_another_process_new_ledger_is_put_back(ledger_path, monkeypatch):
    """Where another process was quicker, its new ledger is left at the path."""
    _damaged(ledger_path, "bad")
    sound = ledger_path.with_name("sound.db")
    Ledger.open(str(sound)).close()
    reserve = module._reserved_name

    def meanwhile(path):
        path.unlink()
        sound.rename(path)
        return reserve(path)

    monkeypatch.setattr(module, "_reserved_name", meanwhile)
    assert quarantine(ledger_path) is None
    with sqlite3.connect(ledger_path) as raw:
        assert raw.execute("SELECT count(*) FROM call").fetchone() == (0,)
    raw.close()
    assert _corrupt(ledger_path) == []


def test_a_name_that_cannot_be_reserved_is_an_error(ledger_path, monkeypatch):
    """A folder that takes no file: the caller hears of it, and the ledger stays."""
    _damaged(ledger_path, "bad")

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.os, "open", refused)
    with pytest.raises(PermissionError):
        quarantine(ledger_path)
    assert ledger_path.exists()
