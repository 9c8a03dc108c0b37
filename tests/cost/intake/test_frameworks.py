"""Agents of other frameworks over OTLP: captured once, replayed here into a ledger.

The fixtures are written by `support/capture_frameworks.py`. Each holds what a real small app of the
framework sent, and what the fake provider billed meanwhile.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.paths import SPAN_FIXTURES

import crewmeter_cost
from crewmeter_cost.intake.otlp_json import from_json
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook

FOLDER = SPAN_FIXTURES / "frameworks"
AGENTS = (
    "ag2_agent",
    "google_adk",
    "langgraph_genai",
    "langgraph_langsmith",
    "langgraph_openinference",
    "openai_agents_genai",
    "openai_agents_openinference",
    "pydantic_ai_agent",
    "strands",
    "vercel_ai",
)
"""Frameworks that name the agent."""
UNNAMED = ("llama_index",)
"""Frameworks whose spans do not say what the agent is called."""
BARE = ("anthropic_genai", "google_genai", "openai_genai")
"""Instrumentors of a bare SDK: calls only."""
NO_REASONING = ("strands",)
"""Frameworks that do not pass on how many tokens were reasoning. It costs what output does."""


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.load()


@pytest.fixture
def replayed(tmp_path, book):
    """Replays a fixture into a ledger, twice, as OTLP may; returns its client and what it holds."""
    clients = []

    def replay(name: str):
        document = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        ledger = Ledger.open(url)
        pipeline = Pipeline(ledger, book)
        for request in document["requests"] * 2:
            pipeline.ingest(from_json(json.dumps(request).encode()).spans)
        ledger.close()
        clients.append(crewmeter_cost.open(url))
        return clients[-1], document["billed"]

    yield replay
    for client in clients:
        client.close()


def expected(billed, name: str) -> dict[str, int]:
    """The sums of what the provider billed."""
    sums = {
        key: sum(entry["usage"][key] for entry in billed)
        for key in ("input", "cache_read", "output", "reasoning")
    }
    if name in NO_REASONING:
        sums["reasoning"] = 0
    return {f"{key}_tokens": value for key, value in sums.items()} | {"calls": len(billed)}


def test_every_fixture_is_replayed():
    """A fixture that no test reads would prove nothing."""
    assert {path.stem for path in Path(FOLDER).glob("*.json")} == {*AGENTS, *UNNAMED, *BARE}


@pytest.mark.parametrize("name", [*AGENTS, *UNNAMED, *BARE])
def test_each_billed_exchange_is_one_priced_call(replayed, name):
    """One row a bill with its exact tokens, priced, however often the spans come."""
    client, billed = replayed(name)
    total = client.report(by=["model"], since="2020-01-01").total
    assert {key: total[key] for key in expected(billed, name)} == expected(billed, name)
    assert total["unpriced_calls"] == 0
    assert total["cost_usd"] > 0


@pytest.mark.parametrize("name", AGENTS)
def test_the_agent_pays_for_its_calls(replayed, name):
    """Calls belong to the agent that made them, under the name that its app gave it."""
    client, billed = replayed(name)
    rows = client.report(by=["agent"], since="2020-01-01").rows
    assert {row["agent"]: row["calls"] for row in rows} == {"forecaster": len(billed)}


@pytest.mark.parametrize("name", [*AGENTS, *UNNAMED])
def test_the_run_and_its_tool_are_seen(replayed, name):
    """The app's trace is a run that ended well, with one call of the tool in it."""
    client, billed = replayed(name)
    tools = client.report(by=["tool"], since="2020-01-01").rows
    assert [(row["tool"], row["calls"]) for row in tools] == [("lookup", 1)]
    runs = list(client.runs(since="2020-01-01"))
    assert sum(run["calls"] for run in runs) == len(billed)
    assert sum(run["tool_calls"] for run in runs) == 1
    assert {run["status"] for run in runs} == {"ok"}
    assert all(run["name"] for run in runs)
