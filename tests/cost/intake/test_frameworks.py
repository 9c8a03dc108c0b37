"""Agents of other frameworks over OTLP: captured once, replayed here into a ledger.

The fixtures are written by `support/capture_frameworks.py`. Each holds what a real small app of the
framework sent, and what the fake provider billed meanwhile.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.paths import SPAN_FIXTURES
from support.rows import call_rows

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
    "mlflow_openai",
    "openai_agents_genai",
    "openai_agents_openinference",
    "pydantic_ai_agent",
    "strands",
    "vercel_ai",
    "vercel_ai_7",
)
"""Frameworks that name the agent."""
UNNAMED = ("llama_index",)
"""Frameworks whose spans do not say what the agent is called."""
BARE = (
    "anthropic_genai",
    "anthropic_sdk",
    "google_genai",
    "openai_genai",
    "vertexai_openinference",
    "vertexai_openllmetry",
)
"""Instrumentors of a bare SDK: calls only."""
TWICE = ("two_langchain_anthropic", "two_langchain_openai", "two_logfire_streams")
"""Two reports of each call: by two instrumentors, or by a span and a log."""
TWO_COUNTS = ("mlflow_genai", "semantic_kernel", "vertexai_genai")
"""Frameworks that say nothing of cached tokens: two counts, of which no price is exact."""
PARTLY_TWO_COUNTS = ("vercel_ai_5",)
"""A framework whose streams have every count, and whose other answers two."""
NO_REASONING = ("strands", "vercel_ai_7")
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
    assert {path.stem for path in Path(FOLDER).glob("*.json")} == {
        *AGENTS,
        *UNNAMED,
        *BARE,
        *TWICE,
        *TWO_COUNTS,
        *PARTLY_TWO_COUNTS,
    }


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


@pytest.mark.parametrize("name", TWO_COUNTS)
def test_a_price_without_the_cached_tokens_is_a_bound(replayed, tmp_path, name):
    """What an instrumentor leaves out makes no exact price.

    OpenTelemetry's instrumentor of Vertex AI leaves out the thoughts as well, and whole streams.
    """
    _, billed = replayed(name)
    is_vertex = name == "vertexai_genai"
    calls = call_rows(tmp_path / "ledger.db")
    assert len(calls) == len(billed) - is_vertex
    assert {call["cost_status"] for call in calls} == {
        "lower_bound" if is_vertex else "upper_bound"
    }
    assert {call["input_tokens"] for call in calls} == {1000}


def test_version_5_of_the_ai_sdk_is_exact_where_it_streams(replayed, tmp_path):
    """Its `generateText` leaves the cached tokens out, its `streamText` does not."""
    _, billed = replayed("vercel_ai_5")
    calls = call_rows(tmp_path / "ledger.db")
    assert len(calls) == len(billed) == 3
    assert [(call["cost_status"], call["cache_read_tokens"]) for call in calls] == [
        ("upper_bound", 0),
        ("upper_bound", 0),
        ("priced", 400),
    ]
    assert {call["agent"] for call in calls} == {"forecaster"}


def test_lifetimes_of_anthropics_own_spans_are_read(replayed, tmp_path):
    """The SDK's own spans split what was written to the cache by its lifetime."""
    replayed("anthropic_sdk")
    for call in call_rows(tmp_path / "ledger.db"):
        assert (call["cache_write_5m_tokens"], call["cache_write_1h_tokens"]) == (200, 100)
        assert call["cost_status"] == "priced"
        assert call["finish_reason"] == "end_turn"


@pytest.mark.parametrize("name", [name for name in TWO_COUNTS if name != "vertexai_genai"])
def test_the_agent_of_two_counts_is_seen(replayed, name):
    """The agent, its run and its tool, as with the others. Semantic Kernel names the plugin."""
    client, billed = replayed(name)
    rows = client.report(by=["agent"], since="2020-01-01").rows
    assert {row["agent"]: row["calls"] for row in rows} == {"forecaster": len(billed)}
    runs = list(client.runs(since="2020-01-01"))
    assert [(run["calls"], run["tool_calls"], run["status"]) for run in runs] == [
        (len(billed), 1, "ok")
    ]
    (tool,) = client.report(by=["tool"], since="2020-01-01").rows
    assert tool["tool"].endswith("lookup")


def one_by_one(requests: list[dict]) -> list[dict]:
    """Each span in a request of its own."""
    return [
        {"resourceSpans": [{**group, "scopeSpans": [{**scoped, "spans": [span]}]}]}
        for request in requests
        for group in request["resourceSpans"]
        for scoped in group["scopeSpans"]
        for span in scoped["spans"]
    ]


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("order", ["together", "one by one", "backwards"])
def test_two_reports_of_a_call_are_one_bill(tmp_path, book, name, order):
    """LangChain round OpenAI's or Anthropic's client, and Logfire's streams: one row a call.

    The stream of LangChain on OpenAI has no usage at all, so it is a row without a price.
    """
    document = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    requests = document["requests"]
    if order != "together":
        requests = one_by_one(requests)[:: -1 if order == "backwards" else 1]
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger.open(url) as ledger:
        pipeline = Pipeline(ledger, book)
        for request in requests * 2:
            pipeline.ingest(from_json(json.dumps(request).encode()).spans)
    with crewmeter_cost.open(url) as client:
        total = client.report(by=["model"], since="2020-01-01").total
    billed = document["billed"]
    silent = 1 if name == "two_langchain_openai" else 0
    assert total["calls"] == len(billed)
    assert total["unpriced_calls"] == silent
    assert total["input_tokens"] == 1000 * (len(billed) - silent)
    assert total["cache_read_tokens"] == 400 * (len(billed) - silent)
    assert total["output_tokens"] == 300 * (len(billed) - silent)
