"""PostgreSQL says no, or is another server than before: words, an exit code, nothing doubled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from support.emit_spans import emit_calls
from support.sidecars import request

from crewmeter_cost.exporter import LedgerSpanExporter

pytestmark = pytest.mark.slow

SECRET = "wr0ng-s3cret"


@pytest.fixture
def wrong_password(postgres_server):
    """The URL of a role that needs a password, with another password."""
    url = make_url(postgres_server.get_uri()).set(drivername="postgresql+psycopg")
    rules = Path(str(url.query["host"])) / "pg_hba.conf"
    before = rules.read_text()
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE ROLE keyholder LOGIN PASSWORD 'right'"))
        rules.write_text(f"local all keyholder scram-sha-256\n{before}")
        connection.execute(text("SELECT pg_reload_conf()"))
    wrong = url.set(username="keyholder", password=SECRET)
    deadline = time.monotonic() + 60
    while "password" not in refusal(wrong):  # the server reads its rules a moment later
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield wrong.render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text("DROP ROLE keyholder"))
        rules.write_text(before)
        connection.execute(text("SELECT pg_reload_conf()"))
    admin.dispose()


def refusal(url) -> str:
    engine = create_engine(url)
    try:
        with engine.connect():
            return ""
    except Exception as error:  # noqa: BLE001  whatever the driver makes of it
        return str(error)
    finally:
        engine.dispose()


def test_a_wrong_password_is_an_error_in_words(wrong_password, caplog):
    """Every command names what is wrong, without a traceback, and never prints the password. An
    app goes on.
    """
    crewmeter = str(Path(sys.executable).with_name("crewmeter"))
    commands = {
        "report": ["report", "--ledger", wrong_password],
        "serve": ["serve", "--ledger", wrong_password, "--http-port", "0"],
        "budget": ["budget", "list", "--ledger", wrong_password],
        "prune": ["prune", "--keep", "90d", "--ledger", wrong_password],
    }
    for name, words in commands.items():
        done = subprocess.run(
            [crewmeter, *words],
            capture_output=True,
            text=True,
            env=os.environ | {"CREWMETER_LEDGER": wrong_password},
            timeout=600,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 2, (name, printed)
        assert 'password authentication failed for user "keyholder"' in printed, (name, printed)
        assert "Traceback" not in printed, name
        assert SECRET not in printed, name
    exporter = LedgerSpanExporter(ledger=wrong_password)
    emit_calls(exporter, 3)
    exporter.shutdown()
    assert "password authentication failed" in caplog.text
    assert SECRET not in caplog.text


def until(true, seconds=120):
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_failover_to_a_stale_replica_is_noticed(nursery, postgres_url, tmp_path):
    """The address leads to a copy that lacks the last commits: it is said loudly, what is
    acknowledged from then on is in the copy, and what the old server has is not touched.
    """
    url = make_url(postgres_url)
    name, replica, primary = (f"{url.database}{end}" for end in ("", "_replica", "_primary"))
    admin = create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def alone(*statements):
        """Run statements while nobody is connected to the database."""
        with admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :d"),
                {"d": name},
            )
            for statement in statements:
                connection.execute(text(statement))

    def calls_in(database) -> int:
        engine = create_engine(url.set(database=database))
        with engine.connect() as connection:
            found = connection.execute(text("SELECT count(*) FROM call")).scalar()
        engine.dispose()
        return found

    with nursery.start(tmp_path / "ledger", url=postgres_url) as running:
        assert running.post(request(5)).status == 200
        alone(
            f"CREATE DATABASE {replica} TEMPLATE {name}",
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
        )
        until(lambda: running.post(request(11)).status == 200)
        before = calls_in(name)
        assert before >= 16
        alone(
            f"ALTER DATABASE {name} RENAME TO {primary}",
            f"ALTER DATABASE {replica} RENAME TO {name}",
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS true",
            f"ALTER DATABASE {primary} ALLOW_CONNECTIONS true",
        )
        body = request(7)
        until(lambda: running.post(body).status == 200)
        assert calls_in(name) == 5 + 7
        assert calls_in(primary) == before
        assert running.metric("crewmeter_ledger_replacements_total") >= 1
        assert any(
            "another database, or another server" in str(line["message"])
            and line["level"] == "critical"
            for line in running.log()
        )
        assert running.get("/api/report").json()["total"]["calls"] == 12
        running.terminate()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {primary} WITH (FORCE)"))
    admin.dispose()
