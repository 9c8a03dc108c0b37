"""A guard over time and across forks.

Periods roll over where the calendar says so, children begin anew, a lost ledger is survived.
"""

from __future__ import annotations

import os
import warnings
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from crewmeter import semconv
from crewmeter.usage.attributes import usage_attributes
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.enforcement import BudgetEnforcer, Reservation
from crewmeter_cost.budgets.loader import guard as entry_guard
from crewmeter_cost.budgets.local_balance import LocalBalanceStore
from crewmeter_cost.budgets.loop_limits import parse_limits
from crewmeter_cost.budgets.plan import plan_of, read_plan
from crewmeter_cost.budgets.reservations import BudgetRefusal
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.price_book import PriceBook

CALL = {semconv.OPERATION: "chat", semconv.PROVIDER: "openai", semconv.REQUEST_MODEL: "gpt-4o-mini"}
ENDED = {**CALL, **usage_attributes(TokenUsage(input=1000, output=166))}


def calls_until_refused(guard, most=20):
    for made in range(most):
        outcome = guard.reserve(CALL, input_chars=3000)
        if isinstance(outcome, BudgetRefusal):
            return made
        guard.settle(outcome, ENDED)
    return most


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        yield ledger


@pytest.mark.parametrize(
    ("budget", "zone", "before", "after"),
    [
        ("0.0005 USD/day", "UTC", (2026, 11, 21, 23, 59, 59), (2026, 11, 22, 0, 0, 0)),
        ("0.0005 USD/day", "Europe/Berlin", (2026, 3, 29, 23, 59, 59), (2026, 3, 30, 0, 0, 0)),
        ("0.0005 USD/day", "Europe/Berlin", (2026, 10, 25, 23, 59, 59), (2026, 10, 26, 0, 0, 0)),
        (
            "0.0005 USD/month",
            "America/New_York",
            (2026, 10, 31, 23, 59, 59),
            (2026, 11, 1, 0, 0, 0),
        ),
        ("0.0005 USD/hour", "Europe/Berlin", (2026, 10, 25, 1, 59, 59), (2026, 10, 25, 2, 0, 0)),
    ],
)
def test_a_spent_budget_is_whole_again_with_its_period(ledger, budget, zone, before, after):
    """One second before it is spent, at midnight (also where clocks change), month's end or the
    full hour there is money again.
    """
    now = [datetime(*before, tzinfo=ZoneInfo(zone)).timestamp()]
    definition = parse_budget({"amount": budget, "timezone": zone})
    guard = BudgetEnforcer(
        [definition],
        balance_store=LocalBalanceStore(ledger.engine),
        book=PriceBook.load(),
        clock=lambda: now[0],
    )
    assert calls_until_refused(guard) == 2
    refusal = guard.reserve(CALL, input_chars=3000)
    reset = datetime(*after, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    assert refusal.resets_at == reset
    now[0] = reset.timestamp()
    assert calls_until_refused(guard) == 2
    now[0] -= 1  # a clock set back finds the old period's account, still spent
    assert calls_until_refused(guard) == 0
    guard.close()


def test_a_forked_child_keeps_to_the_budget_and_harms_nothing(ledger, tmp_path):
    """The child has leases, locks and connections of its own.

    What it spends counts for the parent.
    """
    guard = BudgetEnforcer(
        [parse_budget("0.002 USD/day")],
        balance_store=LocalBalanceStore(ledger.engine),
        book=PriceBook.load(),
    )
    guard.settle(guard.reserve(CALL, input_chars=3000), ENDED)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # forking with threads is the case tested
        pid = os.fork()
    if pid == 0:
        guard.after_fork()
        for _ in range(3):
            guard.settle(guard.reserve(CALL, input_chars=3000), ENDED)
        guard.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert calls_until_refused(guard) == 4
    guard.close()


@pytest.mark.parametrize(("on_unknown", "kind"), [("allow", Reservation), ("block", BudgetRefusal)])
def test_a_ledger_that_goes_down_is_not_queried_for_every_call(ledger, on_unknown, kind, caplog):
    """Its table is gone.

    ``on_unknown`` decides, the warning is said once, and fifty calls take no time.
    """
    guard = BudgetEnforcer(
        [parse_budget({"amount": "1 USD/day", "on_unknown": on_unknown})],
        balance_store=LocalBalanceStore(ledger.engine),
        book=PriceBook.load(),
    )
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE budget_lease")
    assert all(isinstance(guard.reserve(CALL, input_chars=10), kind) for _ in range(50))
    assert sum("can't be read" in record.message for record in caplog.records) == 1
    guard._stop.set()


def test_a_ledger_that_cannot_be_opened_leaves_it_to_on_unknown(tmp_path):
    """The path is a folder: calls go, or are stopped with the reason."""
    assert entry_guard("1 USD/day", ledger=str(tmp_path)).reserve(CALL, input_chars=1) is None
    blocked = entry_guard(
        {"amount": "1 USD/day", "on_unknown": "block"}, ledger=str(tmp_path)
    ).reserve(CALL, input_chars=1)
    assert "can't be read" in blocked.reason


def test_without_budgets_nothing_is_loaded(tmp_path):
    """A ledger that is not there, or keeps none, makes the guard inactive at once.

    One budget makes it active.
    """
    path = str(tmp_path / "ledger.db")
    assert not entry_guard(None, ledger=path).active
    with Ledger.open(path):
        assert not entry_guard(None, ledger=path).active


def test_loop_limits_are_read_and_nonsense_is_named(tmp_path):
    """Short form, table and file say the same; what can't be meant is refused."""
    file = tmp_path / "budgets.toml"
    file.write_text('[[budget]]\namount = "1 USD/day"\n[loop]\ncalls = 5\nstop = true\n')
    from_file = read_plan(str(file))
    assert from_file == read_plan("1 USD/day; loop calls=5 stop")
    assert plan_of({"budget": "1 USD/day", "loop": {"calls": 5, "stop": True}}) == from_file
    for wrong in (
        "loop",
        "loop stop",
        "loop calls=0",
        "loop calls=many",
        "loop cows=3",
        {"calls": True},
        7,
    ):
        with pytest.raises(CrewMeterError):
            parse_limits(wrong, where="test")
