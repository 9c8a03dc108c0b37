"""The guard in front of calls.

What fits goes, what doesn't is refused with the reason, and the ledger's own rows have the last
word.
"""

from __future__ import annotations

import json

import pytest

from crewmeter import semconv
from crewmeter.usage.attributes import usage_attributes
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.enforcement import BudgetEnforcer, Reservation
from crewmeter_cost.budgets.local_balance import LocalBalanceStore
from crewmeter_cost.budgets.repository import in_force, remove, save, status
from crewmeter_cost.budgets.reservations import BudgetRefusal
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.price_book import PriceBook

NOW = 1_795_000_000.0
CALL = {
    semconv.OPERATION: "chat",
    semconv.PROVIDER: "openai",
    semconv.REQUEST_MODEL: "gpt-4o-mini",
    semconv.AGENT_NAME: "Writer",
}
ENDED = {**CALL, **usage_attributes(TokenUsage(input=1000, output=166))}
COST = 249_600_000
"""1,000 input tokens at $0.15 and 166 output tokens at $0.60 per million."""


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(str(tmp_path / "ledger.db")) as ledger:
        yield ledger


@pytest.fixture
def make_guard(ledger):
    made = []

    def make(*budgets):
        balance_store = LocalBalanceStore(ledger.engine)
        guard = BudgetEnforcer(
            [parse_budget(budget) for budget in budgets],
            balance_store=balance_store,
            book=PriceBook.load(),
            clock=lambda: NOW,
        )
        made.append(guard)
        return guard

    yield make
    for guard in made:
        guard.close()


def spend_all(guard, attributes=CALL, ended=ENDED, most=50):
    """Calls until the guard refuses; how many went, and the refusal."""
    for made in range(most):
        outcome = guard.reserve(attributes, input_chars=3000)
        if isinstance(outcome, BudgetRefusal):
            return made, outcome
        guard.settle(outcome, ended)
    return most, None


def test_a_hard_budget_stops_within_one_call(make_guard):
    """$0.002 a day and calls of about $0.00025.

    Eight go, and what they spent is at most one call over.
    """
    made, refusal = spend_all(make_guard("0.002 USD/day"))
    assert made == 8
    assert refusal.spent_pusd == 8 * COST
    assert (refusal.limit_pusd, refusal.budget) == (2_000_000_000, "everything 0.002 USD/day")


def test_a_second_process_finds_the_budget_spent(make_guard):
    """Both share the account in the ledger."""
    first, second = make_guard("0.002 USD/day"), make_guard("0.002 USD/day")
    made, _ = spend_all(first)
    assert made == 8
    assert spend_all(second)[0] <= 1


def test_only_calls_in_scope_count(make_guard):
    """A budget for one agent leaves the others alone; a tag is matched by key and value."""
    guard = make_guard("agent:Writer 0.0005 USD/day", "tag:env=prod 0.0005 USD/day")
    assert spend_all(guard)[0] == 2
    editor = {**CALL, semconv.AGENT_NAME: "Editor"}
    assert spend_all(guard, editor, {**ENDED, **editor}, most=10) == (10, None)
    tagged = {**editor, semconv.TAG_PREFIX + "env": "prod"}
    assert spend_all(guard, tagged, {**ENDED, **tagged})[0] == 2


def test_a_soft_budget_never_stops(make_guard):
    """It counts and announces."""
    assert spend_all(make_guard({"amount": "0.0005 USD/day", "hard": False}), most=20) == (20, None)


def test_a_call_that_was_never_made_costs_nothing(make_guard):
    """Its reservation goes back."""
    guard = make_guard("0.002 USD/day")
    spend_all(guard, most=1)
    for _ in range(100):
        reservation = guard.reserve(CALL, input_chars=3000)
        assert isinstance(reservation, Reservation)
        guard.settle(reservation, None)
        guard.settle(reservation, ENDED)  # a second settlement is none
    assert spend_all(guard)[0] == 7


def test_an_unpriced_model_goes_or_stops_as_the_user_chose(make_guard):
    """Nobody can know what it costs: allowed by default, stopped where the budget says block."""
    unknown = {**CALL, semconv.REQUEST_MODEL: "no-such-model"}
    assert isinstance(make_guard("1 USD/day").reserve(unknown, input_chars=10), Reservation)
    refusal = make_guard({"amount": "2 USD/day", "on_unknown": "block"}).reserve(
        unknown, input_chars=10
    )
    assert isinstance(refusal, BudgetRefusal)
    assert "no price" in refusal.reason


def test_a_budget_per_run_starts_anew_with_each_run(make_guard):
    """Runs don't see each other."""
    guard = make_guard("0.0005 USD/run")
    for run in ("a" * 16, "b" * 16):
        inside = {**CALL, semconv.RUN_ID: run}
        assert spend_all(guard, inside, {**ENDED, **inside})[0] == 2


def test_a_billed_embedding_counts_too(make_guard):
    """What nobody could reserve for is booked all the same."""
    guard = make_guard("0.002 USD/day")
    for _ in range(8):
        guard.spend(ENDED)
    assert spend_all(guard)[0] <= 1


def test_a_guard_says_once_that_a_budget_is_nearly_spent(make_guard, caplog):
    """The threshold is in the log after the next look at the account, and not again."""
    guard = make_guard("0.002 USD/day")
    spend_all(guard, most=7)
    with caplog.at_level("WARNING", logger="crewmeter"):
        guard._sync(final=False)
        guard._sync(final=False)
    assert [record.message for record in caplog.records] == [
        "budget everything 0.002 USD/day: 80 % spent (0.0017472 of 0.002 USD)"
    ]


def test_budgets_are_stored_changed_and_removed(ledger, monkeypatch):
    """Setting the same scope and period again changes it; the environment goes before the ledger.

    A wrong name lists the right ones.
    """
    assert not save(ledger.engine, parse_budget("5 USD/day"), now_ns=1)
    assert save(ledger.engine, parse_budget("7 USD/day"), now_ns=2)
    save(ledger.engine, parse_budget("team:growth 9 USD/month"), now_ns=3)
    assert [budget.amount_text for budget in in_force(ledger.engine)] == [
        "7 USD/day",
        "9 USD/month",
    ]
    monkeypatch.setenv("CREWMETER_BUDGETS", "1 USD/day")
    assert [budget.amount_text for budget in in_force(ledger.engine)] == [
        "1 USD/day",
        "9 USD/month",
    ]
    with pytest.raises(CrewMeterError) as refused:
        remove(ledger.engine, "nonsense")
    assert "7 USD/day" in refused.value.hint
    remove(ledger.engine, "everything 7 USD/day")
    from datetime import UTC, datetime

    (standing,) = status(
        ledger.engine, [parse_budget("1 USD/day")], now=datetime.fromtimestamp(NOW, UTC)
    )
    assert (standing.spent_pusd, standing.exceeded) == (0, False)


@pytest.mark.parametrize(
    ("change", "enforced"),
    [
        ({"burst_share": 0.5, "owners": ["a"]}, True),
        ({"on_unknown": None, "webhook": None}, False),
        ({"period": "quarter"}, False),
        ({"scope": "project", "value": "x"}, False),
        ({"amount_pusd": "five"}, False),
    ],
)
def test_a_budget_of_a_newer_version_stops_no_other(ledger, caplog, change, enforced):
    """Unknown keys are ignored. What can't be enforced is skipped by name, once, and named."""
    save(ledger.engine, parse_budget("5 USD/day"), now_ns=1)
    save(ledger.engine, parse_budget("team:growth 9 USD/month"), now_ns=2)
    with ledger.engine.begin() as connection:
        name = "team:growth 9 USD/month"
        query = "SELECT definition FROM budget WHERE name = ?"
        document = json.loads(connection.exec_driver_sql(query, (name,)).scalar_one()) | change
        name = f"newer {sorted(change)}"
        connection.exec_driver_sql(
            "UPDATE budget SET definition = ?, name = ? WHERE id = 2", (json.dumps(document), name)
        )
    found = [in_force(ledger.engine) for _ in range(2)]
    assert [len(each) for each in found] == [1 + enforced] * 2
    warned = [record for record in caplog.records if name in record.getMessage()]
    assert len(warned) == (0 if enforced else 1)


def test_a_budget_of_an_older_version_has_the_defaults(ledger):
    """A key that is missing has its default."""
    save(ledger.engine, parse_budget("5 USD/day"), now_ns=1)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE budget SET definition = ?", ('{"amount_pusd": 5000000000000, "period": "day"}',)
        )
    assert in_force(ledger.engine) == (parse_budget("5 USD/day"),)
