"""What is acknowledged is in the ledger at its path, also where that file goes away meanwhile."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time

import pytest
from support.sidecars import request


def until(true, seconds=60):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def calls_in(path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM call").fetchone()[0]


def delete(path):
    path.unlink()


def delete_all(path):
    for beside in path.parent.glob(path.name + "*"):
        beside.unlink()


def move(path):
    path.rename(path.with_name("moved.db"))


def replace_by_a_backup(path):
    backup = path.with_name("backup.db")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(backup)) as target,
    ):
        source.backup(target)
    backup.rename(path)


@pytest.mark.mostly_slow("delete")
@pytest.mark.parametrize("exchange", [delete, delete_all, move, replace_by_a_backup])
def test_spans_acknowledged_after_the_file_went_are_at_its_path(nursery, tmp_path, exchange):
    """300 spans were answered 200 and were nowhere after a restart."""
    path = tmp_path / "ledger.db"
    with nursery.start(path) as running:
        assert running.post(request(5)).status == 200
        exchange(path)
        statuses = [running.post(request(100)).status for _ in range(3)]
        assert statuses == [200, 200, 200]
        before = 5 if exchange is replace_by_a_backup else 0
        assert calls_in(path) == 300 + before
        assert running.metric("crewmeter_ledger_replacements_total") == 1
        assert any(
            "while crewmeter was writing" in str(line["message"]) and line["level"] == "critical"
            for line in running.log()
        )
        assert running.get("/api/report").json()["total"]["calls"] == 300 + before
        running.terminate()
    if exchange is move:
        assert calls_in(path.with_name("moved.db")) == 5
    with nursery.start(path) as again:
        assert len(again.stored()) == 300 + before


@pytest.mark.slow
def test_a_file_that_goes_while_nothing_is_written_is_noticed(nursery, tmp_path):
    """The next batch need not be the first to find out."""
    path = tmp_path / "ledger.db"
    with nursery.start(path) as running:
        assert running.post(request(5)).status == 200
        path.rename(tmp_path / "moved.db")
        until(path.exists)
        until(lambda: running.metric("crewmeter_ledger_replacements_total") == 1)
        running.terminate()


@pytest.mark.slow
def test_where_no_new_file_can_be_made_nothing_is_acknowledged(nursery, tmp_path):
    """A folder stands at the path: 503, not ready, and nothing is said to be in the ledger."""
    path = tmp_path / "ledger.db"
    with nursery.start(path) as running:
        assert running.post(request(5)).status == 200
        path.rename(tmp_path / "moved.db")
        with contextlib.suppress(FileExistsError):
            path.mkdir()
        until(lambda: running.get("/readyz").status == 503 or path.is_file())
        if path.is_file():  # the sidecar was quicker
            return
        assert running.post(request(5)).status == 503
        path.rmdir()
        until(lambda: running.post(request(5)).status == 200)
        until(lambda: running.get("/readyz").status == 200)


@pytest.mark.slow
def test_the_log_says_at_the_end_only_what_was_looked_at(nursery, tmp_path):
    """A ledger that is at its path, and one that is gone when the sidecar stops."""
    for gone in (False, True):
        folder = tmp_path / str(gone)
        folder.mkdir()
        with nursery.start(folder / "ledger.db") as running:
            assert running.post(request(1)).status == 200
            if gone:
                shutil.move(folder / "ledger.db", folder / "moved.db")
            running.terminate()
            last = [line for line in running.log() if "stopped" in str(line["message"])][-1]
            followed = any("was writing" in str(line["message"]) for line in running.log())
            if gone and not followed:
                assert "may not be in" in str(last["message"])
            else:
                assert "is at its location" in str(last["message"])


@pytest.mark.services
def test_a_database_that_is_dropped_and_made_again(nursery, postgres_url, tmp_path):
    """What is acknowledged after is in the new database."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    url = make_url(postgres_url)
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with nursery.start(tmp_path / "ledger", url=postgres_url) as running:
        assert running.post(request(5)).status == 200
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {url.database} WITH (FORCE)"))
        assert running.post(request(5)).status == 503
        until(lambda: running.get("/readyz").status == 503)
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {url.database}"))
        until(lambda: running.post(request(7)).status == 200)
        assert running.get("/api/report").json()["total"]["calls"] == 7
        assert running.metric("crewmeter_ledger_replacements_total") == 1
        running.terminate()
    admin.dispose()
