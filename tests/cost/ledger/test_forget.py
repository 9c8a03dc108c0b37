"""A person is forgotten: the name is nowhere in the ledger, and every sum stays."""

from __future__ import annotations

import sqlite3
import time

import pytest
from sqlalchemy import text
from support.ledger_build import CONTEXT, call, frozen, priced, root

from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.local_balance import LocalBalanceStore, Window
from crewmeter_cost.budgets.repository import save, stored_budgets
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.maintenance.forget import forget_user
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.records import CallContext

NAME = "Ada Lovelace <ada@example.org>"


def fill(ledger: Ledger) -> None:
    """Write two calls of the person, one of them also tagged with the name, and one of another."""
    person = CallContext(
        run_id=CONTEXT.run_id, crew="research", user=NAME, tags=(("owner", NAME), ("env", "prod"))
    )
    other = CallContext(run_id=CONTEXT.run_id, crew="research", user="bob")
    calls = [
        (call(1, context=person), priced(5)),
        (call(2, context=person), priced(7)),
        (call(3, context=other), priced(11)),
    ]
    ledger.write(calls, [root(context=person)], frozen)
    budget = parse_budget({"amount": "5 USD/day", "scope": f"user:{NAME}"})
    save(ledger.engine, budget, now_ns=time.time_ns())
    LocalBalanceStore(ledger.engine).account(budget, Window(None, None))


def test_a_forgotten_user_keeps_the_sums_under_a_pseudonym(either):
    """Calls, costs, tags and budgets are found under the pseudonym, and none under the name."""
    fill(either)
    before = report(either, by=["user"])
    done = forget_user(either, NAME)
    assert (done.calls, done.runs, done.tag_sets, done.budgets) == (2, 1, 1, 1)
    after = report(either, by=["user"])
    assert after.total == before.total
    assert {row.keys[0]: row.cost_pusd for row in after.rows} == {done.pseudonym: 12, "bob": 11}
    assert report(either, by=["tag:owner"], where={"user": done.pseudonym}).rows[0].keys == (
        done.pseudonym,
    )
    [budget] = stored_budgets(either.engine)
    assert budget.value == done.pseudonym
    assert NAME not in budget.label
    with either.reading() as connection:
        scopes = connection.execute(text("SELECT scope FROM budget_account")).scalars().all()
    assert scopes == [f"user:{done.pseudonym}/day/UTC"]
    with pytest.raises(CrewMeterError, match="no user") as refusal:
        forget_user(either, NAME)
    assert refusal.value.exit_code == 1


def test_the_name_is_not_left_in_the_file(ledger, ledger_path):
    """Neither the database nor its write-ahead log holds the name's bytes afterwards."""
    fill(ledger)
    assert forget_user(ledger, NAME).file_cleaned
    ledger.close()
    for file in ledger_path.parent.glob(f"{ledger_path.name}*"):
        assert b"Lovelace" not in file.read_bytes(), file


def test_a_dry_run_changes_nothing(ledger, ledger_path):
    """It only counts."""
    fill(ledger)
    done = forget_user(ledger, NAME, dry_run=True)
    assert (done.calls, done.runs) == (2, 1)
    with sqlite3.connect(ledger_path) as connection:
        row = connection.execute("SELECT count(*) FROM label WHERE value = ?", (NAME,)).fetchone()
    connection.close()
    assert row[0] == 1


def test_a_name_is_a_value(ledger):
    """Quotes and wildcards of SQL in a name match nobody else."""
    fill(ledger)
    for name in ("%", "' OR 1=1 --", "bo_", ""):
        with pytest.raises(CrewMeterError, match="no user"):
            forget_user(ledger, name)
