"""Opening: files are private, and whatever is wrong is named with the way out."""

from __future__ import annotations

import os
import pwd
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.ledger_build import call, frozen, priced

from crewmeter_cost.errors import CrewMeterError, LedgerCorruptError, LedgerUnavailableError
from crewmeter_cost.installation import upgrade_command
from crewmeter_cost.ledger.location import ledger_url
from crewmeter_cost.ledger.sql import Sql
from crewmeter_cost.ledger.store import Ledger


def test_the_folder_and_the_file_are_private(tmp_path):
    """A new folder is 0700 and the ledger with its WAL 0600.

    Costs and names are nobody else's business.
    """
    path = tmp_path / "new" / "deep" / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        ledger.write([(call(1), priced())], [], frozen)
        modes = {
            name: stat.S_IMODE(os.stat(f"{path}{name}").st_mode) for name in ("", "-wal", "-shm")
        }
    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("/data/l.db", "sqlite:////data/l.db"),
        ("sqlite:////data/l.db", "sqlite:////data/l.db"),
        ("postgres://u:p@h/d", "postgresql+psycopg://u:***@h/d"),
        ("postgresql://u@h:5/d", "postgresql+psycopg://u@h:5/d"),
    ],
)
def test_paths_and_urls(option, expected):
    """A plain path is SQLite; every spelling of PostgreSQL uses psycopg."""
    assert ledger_url(option).render_as_string() == expected


def test_the_environment_and_the_home_decide_where_nothing_is_said(monkeypatch):
    """The option wins over CREWMETER_LEDGER, that over ~/.crewmeter/ledger.db."""
    monkeypatch.setenv("HOME", "/home/ada")
    assert ledger_url(None, environ={}).database == "/home/ada/.crewmeter/ledger.db"
    assert ledger_url(None, environ={"CREWMETER_LEDGER": "~/l.db"}).database == "/home/ada/l.db"
    assert ledger_url("/x.db", environ={"CREWMETER_LEDGER": "/y.db"}).database == "/x.db"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/d",
        "sqlite://",
        "nonsense://",
        "://",
        "sqlite+aiosqlite:///x.db",
        "clickhouse://h",
    ],
)
def test_a_wrong_url_is_refused_by_name(url):
    """A database the ledger does not live in, or no URL at all."""
    with pytest.raises(CrewMeterError, match=r"ledger|URL|file") as caught:
        Ledger.open(url)
    assert caught.value.hint


def test_a_password_is_never_printed():
    """Messages name the server without its password."""
    with pytest.raises(LedgerUnavailableError) as caught:
        Ledger.open("postgresql://ada:s3cret@127.0.0.1:1/none", busy_seconds=1)
    assert "s3cret" not in caught.value.message
    assert "127.0.0.1" in caught.value.message


def test_an_unwritable_folder_names_its_owner():
    """Somebody else's folder: who owns it, who you are, and what to set."""
    folder = Path(tempfile.mkdtemp(prefix="crewmeter-unwritable-"))
    folder.chmod(0o555)
    child = (
        "import os, sys\nfrom crewmeter_cost.ledger.store import Ledger\nfrom "
        "crewmeter_cost.errors import CrewMeterError\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: Ledger.open(sys.argv[1])\nexcept CrewMeterError as e: print(e.message, '|', e.hint)"
    )
    try:
        said = subprocess.run(
            [sys.executable, "-c", child, str(folder / "sub" / "l.db")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    finally:
        folder.rmdir()
    owner = pwd.getpwuid(os.geteuid()).pw_name
    you = pwd.getpwuid(65534).pw_name if os.geteuid() == 0 else owner
    assert f"is not writable ({folder} belongs to {owner}, you are {you})" in said
    assert "CREWMETER_LEDGER" in said


def test_a_folder_instead_of_the_file_is_refused(tmp_path):
    """The path is a folder."""
    with pytest.raises(LedgerUnavailableError, match="is a folder"):
        Ledger.open(str(tmp_path))


def test_what_is_no_database_is_called_so(ledger_path):
    """A text file is left as it was."""
    ledger_path.write_text("dear diary, " * 1000)
    with pytest.raises(LedgerCorruptError, match="not a SQLite database"):
        Ledger.open(str(ledger_path))
    assert ledger_path.read_text().startswith("dear diary")


def test_another_programs_database_is_left_alone(ledger_path):
    """A SQLite file with tables that are not ours."""
    with sqlite3.connect(ledger_path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    with pytest.raises(CrewMeterError, match="something else"):
        Ledger.open(str(ledger_path))


def test_a_newer_ledger_is_refused(ledger_path):
    """Written by a crewmeter from the future: say so, touch nothing."""
    Ledger.open(str(ledger_path)).close()
    with sqlite3.connect(ledger_path) as raw:
        raw.execute("UPDATE crewmeter_schema SET version_num = '9999'")
    raw.close()
    with pytest.raises(CrewMeterError, match="newer crewmeter") as caught:
        Ledger.open(str(ledger_path))
    assert upgrade_command() in (caught.value.hint or "")


def test_a_damaged_file_is_found_out(ledger_path):
    """Zeroed pages in the middle are reported as damage, with the file's name."""
    with Ledger.open(str(ledger_path)) as ledger:
        ledger.write([(call(number), priced()) for number in range(2000)], [], frozen)
    size = ledger_path.stat().st_size
    with ledger_path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 8192))
    with pytest.raises(LedgerCorruptError, match=r"ledger\.db"):
        Ledger.open(str(ledger_path)).write([(call(5000), priced())], [], frozen)


def test_reading_needs_a_ledger_and_never_writes(ledger_path):
    """`read_only` makes no file where there is none, and its connection refuses writes."""
    with pytest.raises(CrewMeterError, match="no ledger at"):
        Ledger.open(str(ledger_path), read_only=True)
    assert not ledger_path.exists()
    Ledger.open(str(ledger_path)).close()
    with Ledger.open(str(ledger_path), read_only=True) as ledger, pytest.raises(CrewMeterError):
        ledger.write([(call(1), priced())], [], frozen)


def test_a_locked_ledger_says_so_in_time(ledger_path):
    """Another process holds the write lock: refused after `busy_seconds`, and works again after."""
    with Ledger.open(str(ledger_path), busy_seconds=0.2) as ledger:
        other = sqlite3.connect(ledger_path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError, match="locked"):
            ledger.write([(call(1), priced())], [], frozen)
        other.close()
        assert ledger.write([(call(1), priced())], [], frozen).inserted_calls == 1


def test_opening_a_current_ledger_does_not_import_alembic(ledger_path):
    """Memory and time in the app.

    A new or current ledger is opened without the migration machinery.
    """
    code = (
        "import sys; from crewmeter_cost.ledger.store import Ledger\n"
        "for _ in range(2): Ledger.open(sys.argv[1]).close()\n"
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ledger_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_reader_sees_one_moment(either):
    """What is committed between two queries of one session is in neither."""
    query = Sql("SELECT count(*) FROM call")
    with either.read_session() as session:
        before = session.value(query)
        with Ledger.open(either.url.render_as_string(hide_password=False)) as other:
            other.write([(call(1), priced())], [], frozen)
        assert session.value(query) == before == 0
    with either.read_session() as session:
        assert session.value(query) == 1


@pytest.mark.parametrize(("value", "problem"), [("\udcff", "UTF-8"), (10**20, "too large")])
def test_a_value_that_no_ledger_holds_is_refused(ledger, value, problem):
    """It was a traceback, in each reading command."""
    query = Sql("SELECT ?", (value,))
    with pytest.raises(CrewMeterError, match=problem), ledger.read_session() as session:
        session.value(query)
