"""Budgets.

A guard reserves before every call and settles after it, and a refusal stops the call.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("crewai")

from support.rows import call_rows

from crewmeter import semconv
from crewmeter.budget_hook.protocol import BudgetLookup, find_budgets
from crewmeter.lifecycle import Installation
from crewmeter.settings import read_settings


@dataclass
class Refused:
    budget: str = "team search"
    reason: str = "the budget is spent"


class Ledger:
    """A guard that allows a number of calls and notes everything."""

    def __init__(self, allowed):
        self.allowed = allowed
        self.reserved, self.settled, self.spent = [], [], []
        self.closed = False
        self.active = True

    def start(self):
        self.started = True

    def exhausted(self, attributes):
        return None

    def tool(self, attributes, name, arguments):
        return None

    def after_fork(self):
        self.forked = True

    def reserve(self, attributes, *, input_chars, max_output_tokens=None):
        if len(self.reserved) >= self.allowed:
            return Refused()
        self.reserved.append((dict(attributes), input_chars))
        return object()

    def settle(self, reservation, attributes, *, duration_ns=None):
        self.settled.append((reservation, attributes))

    def spend(self, attributes, *, duration_ns=None):
        self.spent.append(attributes)

    def close(self):
        self.closed = True


@pytest.fixture
def guarded(ledger_path):
    """Starts a meter with a guard that allows so many calls: (guard, meter)."""
    meters = []

    def make(allowed):
        guard = Ledger(allowed)
        meter = Installation(
            read_settings({}, ledger=str(ledger_path), summary=False),
            None,
            BudgetLookup(lambda: guard, guard),
        )
        meter.install()
        meters.append(meter)
        return guard, meter

    yield make
    for meter in meters:
        meter.uninstall()


def test_every_call_is_reserved_and_settled_once(guarded, worker, job, team, llm):
    """Calls of agents and bare calls.

    What is reserved says where the call is made, what is settled what it used.
    """
    guard, meter = guarded(99)
    team(job(worker(), name="t"), job(worker("Writer"), name="w"), name="demo").kickoff()
    llm.call("hello")
    meter.flush(20)
    assert len(guard.reserved) == len(guard.settled) == 3
    assert guard.spent == []
    where = guard.reserved[0][0]
    assert (where[semconv.CREW], where[semconv.AGENT_NAME], where[semconv.REQUEST_MODEL]) == (
        "demo",
        "Researcher",
        "gpt-4o-mini",
    )
    assert all(characters > 0 for _, characters in guard.reserved)
    assert all(attributes[semconv.INPUT_TOKENS] > 0 for _, attributes in guard.settled)


def test_a_refusal_stops_the_call(guarded, llm, fake_provider, ledger_path, caplog):
    """The provider never sees the call, the caller gets CrewAI's own error, the log says which
    budget.
    """
    guard, meter = guarded(1)
    llm.call("one")
    with pytest.raises(Exception, match=r"budget|block|abort"):
        llm.call("two")
    meter.flush(20)
    assert len(fake_provider.billing_log.billed) == 1
    assert any(
        "budget team search: the budget is spent" in record.getMessage()
        for record in caplog.records
    )
    meter.uninstall()
    assert guard.closed
    assert [row["status"] for row in call_rows(ledger_path)] == ["ok", "error"]


def test_a_faulty_guard_lets_calls_through(guarded, llm, fake_provider):
    """A guard that raises costs a log line, not a call."""
    guard, _ = guarded(9)
    guard.reserve = None
    assert llm.call("hello")
    assert len(fake_provider.billing_log.billed) == 1


def test_no_budget_no_work():
    """Without a budget no guard is called.

    Where the ledger is elsewhere there is no guard at all.
    """
    budgets = find_budgets(None, read_settings({}))
    assert budgets.guard is None
    assert find_budgets(None, read_settings({}, endpoint="http://127.0.0.1:1")) is None
