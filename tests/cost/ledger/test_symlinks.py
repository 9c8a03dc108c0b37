"""`~/.crewmeter`, or the ledger in it, may be a symbolic link."""

from __future__ import annotations

import os
import stat

import pytest
from support.emit_spans import RUN, emit_calls
from support.ledger_build import call, frozen, priced
from support.rows import rows

from crewmeter.export.journal_format import journal_folder
from crewmeter_cost.exporter import LedgerSpanExporter
from crewmeter_cost.ledger.integrity import damage_of
from crewmeter_cost.ledger.quarantine import quarantine
from crewmeter_cost.ledger.read.run_cost import run_cost
from crewmeter_cost.ledger.store import Ledger


@pytest.fixture
def real(tmp_path):
    """The file that the link leads to, in a folder of its own."""
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder / "real.db"


@pytest.fixture(params=["folder", "file"])
def link(request, tmp_path, real):
    """A path that leads to `real` through a link: of its folder, or of the file itself."""
    if request.param == "folder":
        (tmp_path / ".crewmeter").symlink_to(real.parent, target_is_directory=True)
        return tmp_path / ".crewmeter" / real.name
    path = tmp_path / "ledger.db"
    path.symlink_to(real)
    return path


def emit(path, count):
    exporter = LedgerSpanExporter(ledger=str(path))
    emit_calls(exporter, count)
    exporter.shutdown()


def test_the_file_behind_a_link_is_made_private(link, real):
    """A link that leads to nothing yet: the file is made where it points, for its owner only."""
    emit(link, 3)
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    with Ledger.open(str(real), read_only=True) as ledger:
        assert run_cost(ledger, RUN).calls == 3


def test_link_and_file_are_one_ledger(link, real):
    """One app has the link, another the file: one log, one journal folder, nothing twice."""
    emit(link, 2)
    emit(real, 2)
    with Ledger.open(str(link)) as one, Ledger.open(str(real)) as other:
        one.write([(call(1), priced())], [], frozen)
        other.write([(call(1), priced()), (call(2), priced())], [], frozen)
        assert rows(one, "SELECT count(*) AS n FROM call") == [{"n": 6}]
    assert journal_folder(link) == journal_folder(real)


def test_damage_behind_a_link_is_found_and_moved_whole(link, real):
    """The log beside the real file is what counts. The link stays, and a new ledger begins."""
    ledger = Ledger.open(str(link))
    for number in range(30):
        ledger.write([(call(number), priced())], [], frozen)
    log = real.with_name(f"{real.name}-wal")
    with log.open("r+b") as file:
        file.seek(log.stat().st_size // 2)
        file.write(os.urandom(64))
    assert "checksum" in damage_of(link)
    ledger.abandon()
    aside = quarantine(link)
    assert aside.parent == real.parent
    assert aside.with_name(f"{aside.name}-wal").exists()
    assert not log.exists()
    emit(link, 1)
    assert real.is_file()


def test_a_link_that_is_turned_elsewhere_is_followed(tmp_path, real):
    """An operator points the link at another volume while the app runs."""
    path = tmp_path / "ledger.db"
    path.symlink_to(real)
    exporter = LedgerSpanExporter(ledger=str(path))
    emit_calls(exporter, 2)
    other = tmp_path / "other.db"
    path.unlink()
    path.symlink_to(other)
    emit_calls(exporter, 3)
    exporter.shutdown()
    found = []
    for file in (real, other):
        with Ledger.open(str(file)) as ledger:
            found.append(rows(ledger, "SELECT count(*) AS n FROM call")[0]["n"])
    assert found == [2, 3]
    assert not list(tmp_path.glob("*-wal"))


def test_a_link_in_a_circle_is_an_error_in_words(tmp_path, caplog):
    """The app goes on, with one line."""
    path = tmp_path / "ledger.db"
    path.symlink_to(path)
    emit(path, 1)
    assert "not writable" in caplog.text
    assert "Traceback" not in caplog.text
