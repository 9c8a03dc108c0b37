"""Real crews against a fake provider: a spent budget stops them, whichever way they call.

The provider bills nothing more.
"""

from __future__ import annotations

import asyncio
import pickle
import sqlite3

import pytest

pytest.importorskip("crewai")

from crewai import LLM, Agent
from crewai.flow.flow import Flow, start
from crewai.tools import tool

import crewmeter
from crewmeter_cost.budgets.definition import parse_budget
from crewmeter_cost.budgets.repository import save
from crewmeter_cost.ledger.store import Ledger

USAGE = "[[usage:in=1000 out=166]]"
"""$0.0002496 a call with gpt-4o-mini."""
BUDGET = "0.002 USD/day"
CALLS = 8


@pytest.fixture
def budgeted(ledger_path):
    """`instrument` with a budget, taken out afterwards."""
    handles = []

    def make(budget=BUDGET):
        handles.append(crewmeter.instrument(ledger=str(ledger_path), summary=False, budget=budget))
        return handles[-1]

    yield make
    for handle in handles:
        handle.uninstrument()


def until_refused(call, most=30):
    """Call until the budget stops it: (calls that went through, the error)."""
    for made in range(most):
        try:
            call()
        except crewmeter.BudgetExceeded as error:
            return made, error
    raise AssertionError("never refused")


class Asking(Flow):
    """A flow that makes one call."""

    llm: object = None

    @start()
    def ask(self):
        return Asking.llm.call(f"hello {USAGE}")


def caller(way, llm, worker, job, team, fake_provider):
    """A function that makes one model call the given way."""
    text = f"Say hello. {USAGE}"
    match way:
        case "kickoff":
            return lambda: team(job(worker(), text)).kickoff()
        case "akickoff":
            return lambda: asyncio.run(team(job(worker(), text)).akickoff())
        case "stream":
            llm = LLM(
                model="openai/gpt-4o-mini",
                base_url=f"{fake_provider.url}/v1",
                api_key="sk-fake",
                stream=True,
            )
            return lambda: team(job(worker(llm=llm), text)).kickoff()
        case "flow":
            Asking.llm = llm
            return lambda: Asking().kickoff()
        case "agent":
            return lambda: Agent(role="a", goal="b", backstory="c", llm=llm).kickoff(text)
        case "litellm":
            pytest.importorskip("litellm")
            other = LLM(
                model="openai/gpt-4o-mini",
                base_url=f"{fake_provider.url}/v1",
                api_key="sk-fake",
                is_litellm=True,
            )
            return lambda: other.call(text)
    return lambda: llm.call(text)


@pytest.mark.mostly_slow("kickoff")
@pytest.mark.parametrize(
    "way", ["kickoff", "akickoff", "stream", "flow", "agent", "call", "litellm"]
)
def test_a_spent_budget_stops_every_way_to_call(
    way, budgeted, llm, worker, job, team, fake_provider
):
    """$0.002 and calls of $0.00025.

    Eight are billed, the ninth raises `BudgetExceeded` out of kickoff and nothing is billed after.
    """
    budgeted()
    made, error = until_refused(caller(way, llm, worker, job, team, fake_provider))
    assert made == len(fake_provider.billing_log.billed) == CALLS
    assert (error.budget, error.spent_usd, error.limit_usd) == (
        "everything 0.002 USD/day",
        "0.0019968",
        "0.002",
    )
    assert error.resets_at is not None
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.spent_usd) == (crewmeter.BudgetExceeded, error.spent_usd)


def test_a_budget_stored_in_the_ledger_holds_without_being_named(ledger_path, llm, fake_provider):
    """`crewmeter budget set` is enough; what an earlier process spent counts."""
    with Ledger.open(str(ledger_path)) as ledger:
        save(ledger.engine, parse_budget("0.0005 USD/day"), now_ns=1)
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    try:
        assert until_refused(lambda: llm.call(f"hello {USAGE}"))[0] == 2
    finally:
        handle.uninstrument()
    with sqlite3.connect(ledger_path) as connection:
        assert (
            connection.execute("SELECT sum(outstanding_pusd) FROM budget_lease").fetchone()[0] == 0
        )
    connection.close()


def test_the_environment_names_a_budget(ledger_path, llm, monkeypatch, caplog):
    """``CREWMETER_BUDGETS`` is enough, and nonsense in it is logged at once, as an error.

    It does not stop the app: no environment variable makes `instrument` raise.
    """
    monkeypatch.setenv("CREWMETER_BUDGETS", "0.0005 USD/day")
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    try:
        assert until_refused(lambda: llm.call(f"hello {USAGE}"))[0] == 2
    finally:
        handle.uninstrument()
    monkeypatch.setenv("CREWMETER_BUDGETS", "5 EUR/day")
    crewmeter.instrument(ledger=str(ledger_path), summary=False).uninstrument()
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert ["EUR" in record.getMessage() for record in errors] == [True]


@pytest.mark.slow
def test_memory_is_stopped_before_it_embeds(budgeted, llm, worker, job, team, fake_provider):
    """With the budget spent, a crew with memory buys neither an embedding nor a completion."""
    pytest.importorskip("lancedb")
    budgeted("0.0019968 USD/day")
    until_refused(lambda: llm.call(f"hello {USAGE}"))
    fake_provider.billing_log.clear()
    config = {
        "api_key": "sk-fake",
        "model_name": "text-embedding-3-small",
        "api_base": f"{fake_provider.url}/v1",
    }
    crew = team(
        job(worker(), "Remember that the sky is blue."),
        memory=True,
        embedder={"provider": "openai", "config": config},
    )
    with pytest.raises(crewmeter.BudgetExceeded):
        crew.kickoff()
    assert fake_provider.billing_log.billed == []


def test_a_looping_crew_is_stopped(budgeted, worker, job, team, fake_provider):
    """The same tool with the same arguments.

    After two uses the third is refused, and the run ends there.
    """
    budgeted({"loop": {"same_tool": 2, "stop": True}})
    used = []

    @tool("lookup")
    def lookup(word: str) -> str:
        """Look a word up."""
        used.append(word)
        return f"nothing {len(used)}"

    lookup.cache_function = lambda *_: False
    endless = " ".join('[[tool:lookup {"word": "x"' + " " * n + "}]]" for n in range(9))
    with pytest.raises(crewmeter.BudgetExceeded, match="circles") as stopped:
        team(job(worker(tools=[lookup]), f"Look. {endless}")).kickoff()
    assert stopped.value.budget == "loop"
    assert len(used) == 2
    assert len(fake_provider.billing_log.billed) <= 4


def test_a_run_that_calls_too_often_is_stopped(budgeted, worker, job, team, fake_provider):
    """Three tasks and two calls allowed a run: the third call is not made.

    A new run begins anew.
    """
    budgeted("loop calls=2 stop")
    with pytest.raises(crewmeter.BudgetExceeded, match="3 model calls"):
        team(*(job(worker(role), USAGE) for role in ("A", "B", "C"))).kickoff()
    assert len(fake_provider.billing_log.billed) == 2
    team(job(worker("A"), USAGE)).kickoff()
    assert len(fake_provider.billing_log.billed) == 3
