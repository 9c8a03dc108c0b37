"""An older ledger opens as a current one, with its data.

A fresh one equals what the revisions make.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from sqlalchemy import inspect, text
from support.ledger_audit import assert_books_hold
from support.ledger_build import call, frozen, priced, root, some_calls, step
from support.rows import rows

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.connection import WRITE, open_engine
from crewmeter_cost.ledger.location import ledger_url, sqlite_path
from crewmeter_cost.ledger.read.run_search import find_runs
from crewmeter_cost.ledger.schema.migrations.run import upgrade
from crewmeter_cost.ledger.schema.version_numbers import HEAD, REVISIONS
from crewmeter_cost.ledger.sqlite_file import prepare_file
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.records import CallContext


def _at(url: str, revision: str) -> None:
    """A ledger as the given revision made it."""
    path = sqlite_path(ledger_url(url))
    if path is not None:
        prepare_file(path)
    engine = open_engine(ledger_url(url), durable=False, read_only=False, busy_seconds=5)
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        upgrade(connection, revision)
    engine.dispose()


def _schema(ledger: Ledger) -> dict[str, object]:
    if ledger.engine.dialect.name == "sqlite":
        return {
            row["name"]: re.sub(r'[\s"]+', "", row["sql"] or "")
            for row in rows(ledger, "SELECT name, sql FROM sqlite_master")
        }
    look = inspect(ledger.engine)
    shape: dict[str, object] = {
        table: (
            [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in look.get_columns(table)
            ],
            look.get_pk_constraint(table),
            sorted(str(index) for index in look.get_indexes(table)),
            sorted(str(unique) for unique in look.get_unique_constraints(table)),
        )
        for table in look.get_table_names()
    }
    return shape | {view: look.get_view_definition(view) for view in look.get_view_names()}


def test_a_fresh_ledger_equals_the_revisions(tmp_path):
    """The quick way to a new ledger and the long way through every revision end in the same
    schema.
    """
    _at(str(tmp_path / "long.db"), "head")
    with (
        Ledger.open(str(tmp_path / "quick.db")) as quick,
        Ledger.open(str(tmp_path / "long.db")) as long,
    ):
        assert _schema(quick) == _schema(long)
        assert rows(quick, "PRAGMA application_id") == rows(long, "PRAGMA application_id")


def test_a_fresh_postgresql_ledger_equals_the_revisions(postgres_url):
    """The same on PostgreSQL."""
    with Ledger.open(postgres_url) as quick:
        made = _schema(quick)
        with quick.engine.connect() as connection, connection.begin():
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    _at(postgres_url, "head")
    with Ledger.open(postgres_url) as long:
        assert _schema(long) == made


def test_every_older_ledger_upgrades_with_its_data(tmp_path):
    """A ledger of each older revision opens as a current one, its calls and sums intact, and takes
    new ones.
    """
    for revision in REVISIONS[:-1]:
        path = str(tmp_path / f"{revision}.db")
        with Ledger.open(path) as ledger:
            ledger.write([(call(number), priced()) for number in range(20)], [root()], frozen)
        _downgraded(path, revision)
        with Ledger.open(path) as ledger:
            assert rows(ledger, "SELECT version_num FROM crewmeter_schema") == [
                {"version_num": HEAD}
            ]
            assert_books_hold(ledger)
            ledger.write([(call(number), priced()) for number in range(15, 25)], [], frozen)
            assert len(assert_books_hold(ledger).calls) == 25


@pytest.mark.slow
def test_a_million_calls_upgrade_in_one_transaction_and_it_is_said(tmp_path, caplog):
    """Log lines before and after name the ledger, its size and the time. Nobody need wonder why
    an app's first write waits.
    """
    path = str(tmp_path / "ledger.db")
    with Ledger.open(path) as ledger:
        ledger.write(some_calls(3, 2_000, hours=2_000), [root()], frozen)
        with ledger.engine.connect() as connection, connection.begin():
            _multiplied(connection, times=500)
        sums = rows(ledger, "SELECT dimension, sum(count) AS n FROM latency_hour GROUP BY 1")
    _downgraded(path, "0001")
    with Ledger.open(path) as ledger:
        assert rows(ledger, "SELECT count(*) AS n FROM call") == [{"n": 1_000_000}]
        assert sums == rows(ledger, "SELECT dimension, sum(count) AS n FROM latency_day GROUP BY 1")
        ledger.write([(call(5_000_000), priced())], [], frozen)
    before, after = [record.message for record in caplog.records if "upgrad" in record.message]
    assert f"ledger.db from schema 0001 to {HEAD}, some 1000000 calls" in before
    assert re.search(r"ledger\.db in \d+\.\d s", after)


def _multiplied(connection, *, times: int) -> None:
    """Copy every call, and every latency count into hours of its own."""
    for table, changed in (
        ("call", {"id": "id + 2000 * n", "span_id": "randomblob(8)", "response_id": "NULL"}),
        ("latency_hour", {"hour": "hour + 3600 * 2000 * n"}),
    ):
        found = connection.exec_driver_sql(f"PRAGMA table_info({table})").fetchall()
        names = [row[1] for row in found]
        values = ", ".join(changed.get(name, f'"{name}"') for name in names)
        columns = ", ".join(f'"{name}"' for name in names)
        connection.exec_driver_sql(
            f"INSERT INTO {table} ({columns}) WITH RECURSIVE copy(n) AS "
            f"(SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < {times - 1}) "
            f"SELECT {values} FROM {table}, copy"
        )


def _downgraded(path: str, revision: str) -> None:
    """Make a current ledger with data what a revision left, without views."""
    engine = open_engine(ledger_url(path), durable=False, read_only=False, busy_seconds=5)
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        for view in inspect(connection).get_view_names():
            connection.exec_driver_sql(f"DROP VIEW {view}")
        for index in ("name", "team", "user", "session", "not_ok"):
            connection.exec_driver_sql(f"DROP INDEX run_{index}")
        connection.exec_driver_sql("DELETE FROM ledger_state WHERE name = 'calls_named_apart'")
        if revision == "0001":
            connection.exec_driver_sql("DROP TABLE latency_day")
        connection.exec_driver_sql(f"UPDATE crewmeter_schema SET version_num = '{revision}'")
    engine.dispose()


@pytest.mark.parametrize("user", ["ada", "bob"])
def test_an_upgrade_marks_ledgers_whose_calls_are_named_apart(tmp_path, user):
    """A user of calls inside a run of somebody else is found after the upgrade, and only then are
    calls looked at.
    """
    path = str(tmp_path / "ledger.db")
    owner = CallContext(run_id=f"{1:016x}", run_name="research", user="ada")
    inner = replace(owner, user=user)
    with Ledger.open(path) as ledger:
        steps = [step(1, "crew", "research", is_run=True, context=owner)]
        ledger.write([], steps, frozen)
        ledger.write([(call(2, context=inner), priced())], [], frozen)
    _downgraded(path, "0002")
    with Ledger.open(path) as ledger:
        marks = rows(ledger, "SELECT value FROM ledger_state WHERE name = 'calls_named_apart'")
        assert len(marks) == (user == "bob")
        assert len(find_runs(ledger, where=f"user={user}").runs) == 1


def test_a_failed_upgrade_leaves_the_older_ledger(tmp_path):
    """An upgrade is one transaction: where it fails, the ledger is what it was, views and all."""
    path = str(tmp_path / "ledger.db")
    with Ledger.open(path) as ledger:
        ledger.write([(call(1), priced())], [], frozen)
        with ledger.engine.connect() as connection, connection.begin():
            connection.exec_driver_sql(
                "UPDATE crewmeter_schema SET version_num = '0001'"
            )  # latency_day is in the way
        before = _schema(ledger)
    with pytest.raises(CrewMeterError, match="latency_day"):
        Ledger.open(path)
    unopened = Ledger(ledger_url(path))
    assert _schema(unopened) == before
    unopened.close()
