"""A ledger's file that is deleted, moved or replaced under its writer."""

from __future__ import annotations

import logging
import shutil

import pytest
from support.ledger_audit import assert_books_hold
from support.ledger_build import call, frozen, priced, root

from crewmeter_cost.errors import LedgerUnavailableError
from crewmeter_cost.ledger import store
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.store import Ledger


def _calls(path) -> int:
    with Ledger.open(str(path), read_only=True) as found:
        return report(found).total.sums["calls"]


def _delete(path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def _move(path) -> None:
    for each in list(path.parent.glob(f"{path.name}*")):
        each.rename(each.with_name(f"moved-{each.name}"))


def _delete_folder(path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("away", [_delete, _move, _delete_folder])
def test_what_is_acknowledged_is_at_the_path(tmp_path, caplog, away):
    """After the file is gone, the next batch makes a new one, and says so."""
    path = tmp_path / "folder" / "ledger.db"
    with Ledger.open(str(path), durable=True) as ledger:
        ledger.write([(call(1), priced())], [root()], frozen)
        away(path)
        with caplog.at_level(logging.ERROR):
            assert ledger.write([(call(2), priced())], [], frozen).inserted_calls == 1
        assert "deleted, moved or replaced" in caplog.text
        assert _calls(path) == 1
        ledger.write([(call(3), priced())], [], frozen)
        assert len(assert_books_hold(ledger).calls) == 2
    assert _calls(path) == 2


def test_a_backup_put_in_its_stead_is_written_to(tmp_path):
    """A restored backup gets the next batch, with names and totals as they are there."""
    path, backup = tmp_path / "ledger.db", tmp_path / "backup.db"
    with Ledger.open(str(path)) as ledger:
        ledger.write([(call(1), priced())], [], frozen)
    shutil.copy(path, backup)
    with Ledger.open(str(path)) as ledger:
        ledger.write([(call(2), priced(version="h2"))], [root()], frozen)
        _delete(path)
        backup.rename(path)
        ledger.write([(call(3), priced(version="h2"))], [], frozen)
        books = assert_books_hold(ledger)
    assert [run["calls"] for run in books.runs] == [2]


def test_a_commit_into_a_file_that_just_went_is_written_again(tmp_path, monkeypatch):
    """The file goes between the start of a transaction and its commit: the batch is not lost."""
    path = tmp_path / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        ledger.write([(call(1), priced())], [], frozen)
        write_batch, moves = store.write_batch, []

        def moving(*batch):
            written = write_batch(*batch)
            if not moves:
                moves.append(_move(path))
            return written

        monkeypatch.setattr(store, "write_batch", moving)
        assert ledger.write([(call(2), priced())], [], frozen).inserted_calls == 1
        assert _calls(path) == 1


def test_a_file_that_goes_every_time_is_an_error(tmp_path, monkeypatch):
    """Nothing is acknowledged that is not at the path."""
    path = tmp_path / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        write_batch = store.write_batch

        def moving(*batch):
            written = write_batch(*batch)
            _delete(path)
            return written

        monkeypatch.setattr(store, "write_batch", moving)
        with pytest.raises(LedgerUnavailableError, match="replaced again and again"):
            ledger.write([(call(2), priced())], [], frozen)


def test_reading_makes_no_file(tmp_path):
    """Only an opening writer makes the file: a reader's one was empty and readable to all."""
    path = tmp_path / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        ledger.write([(call(1), priced())], [root()], frozen)
        _move(path)
        with pytest.raises(LedgerUnavailableError, match="no ledger at"), ledger.read_session():
            pass
        with pytest.raises(LedgerUnavailableError, match="no ledger at"), ledger.reading():
            pass
        assert not path.exists()


def test_a_folder_is_called_a_folder(tmp_path):
    """A folder was said to be unwritable."""
    with pytest.raises(LedgerUnavailableError, match="is a folder"):
        Ledger.open(str(tmp_path), read_only=True)
