"""`crewmeter mcp` through the official client: tools, schemas, bounded answers, errors."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.store import Ledger

mcp = pytest.importorskip("mcp", reason="needs the extra crewmeter[mcp]")


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """A ledger with two days of sample data."""
    where = str(tmp_path_factory.mktemp("mcp") / "ledger.db")
    with Ledger.open(where) as ledger:
        load_history(ledger, days=2, seed=3, until=datetime.now(UTC), calls_per_day=60)
    return where


def talk(path: str, requests: list[tuple[str, dict]]):
    """Call tools in one session; gives the listed tools, and (is_error, text) of each answer."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    script = str(Path(sys.executable).with_name("crewmeter"))
    parameters = StdioServerParameters(command=script, args=["mcp", "--ledger", path])

    async def session():
        async with (
            stdio_client(parameters) as (reader, writer),
            ClientSession(reader, writer, read_timeout_seconds=timedelta(seconds=120)) as client,
        ):
            await client.initialize()
            tools = (await client.list_tools()).tools
            answers = []
            for name, arguments in requests:
                answer = await client.call_tool(name, arguments)
                answers.append((bool(answer.isError), answer.content[0].text))
            return tools, answers

    return asyncio.run(session())


def test_a_client_asks_every_tool(path):
    """Seven read-only tools with schemas; each answers the JSON of its command."""
    requests = [
        ("report", {"by": ["crew"], "limit": 2}),
        ("runs", {"where": "status=failed", "order": "cost", "limit": 3}),
        ("run", {"run_id": "last"}),
        ("compare", {"a": "last", "b": "last"}),
        ("budgets", {}),
        ("forecast", {}),
        ("price", {"model": "gpt-4o", "input_tokens": 1000000, "output_tokens": 0}),
        ("price", {"model": "gpt-4o"}),
        ("report", {"by": ["modle"]}),
        ("runs", {"limit": 100000}),
    ]
    tools, answers = talk(path, requests)
    names = {tool.name for tool in tools}
    assert names == {"report", "runs", "run", "compare", "budgets", "forecast", "price"}
    assert all(tool.description and tool.annotations.readOnlyHint for tool in tools)
    documents = [None if failed else json.loads(text) for failed, text in answers]
    with Ledger.open(path, read_only=True) as ledger:
        assert documents[0] == report(ledger, by=["crew"], limit=2).document()
    assert 0 < len(documents[1]["runs"]) <= 3
    assert documents[2]["tree"]["calls"] == documents[2]["calls"]
    assert documents[3]["delta"]["calls"] == 0
    assert documents[4] == {"budgets": []}
    assert documents[5]["scope"] == "everything"
    assert documents[6]["cost_usd"] == "2.5"
    assert documents[7]["rates"][0]["usd"] == "2.5"
    assert answers[8][0]
    assert "did you mean model?" in answers[8][1]
    assert answers[9][0]
