"""`crewmeter mcp` through the official client: tools, schemas, bounded answers, errors."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from support.boards import running
from support.ports import free_port

from crewmeter_cost.analysis import budget_forecast
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.filters import parse_filter
from crewmeter_cost.integrations.mcp_endpoint import McpEndpoint
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.unknown_usage import with_inexact_calls
from crewmeter_cost.ledger.store import Ledger

mcp = pytest.importorskip("mcp", reason="needs the extra crewmeter[mcp]")
mcp_tools = pytest.importorskip("crewmeter_cost.integrations.mcp_tools")


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
        ("report", {"by": ["crew"], "where": "tool=web_search"}),
        ("report", {"by": ["modle"]}),
        ("runs", {"limit": 100000}),
    ]
    tools, answers = talk(path, requests)
    names = {tool.name for tool in tools}
    assert names == {"report", "runs", "run", "compare", "budgets", "forecast", "price"}
    assert all(tool.description and tool.annotations.readOnlyHint for tool in tools)
    documents = [None if failed else json.loads(text) for failed, text in answers]
    with Ledger.open(path, read_only=True) as ledger:
        made = report(ledger, by=["crew"], limit=2)
        made = with_inexact_calls(ledger, made, parse_filter(None), UTC)
        assert documents[0] == made.document()
    assert 0 < len(documents[1]["runs"]) <= 3
    assert documents[2]["tree"]["calls"] == documents[2]["calls"]
    assert documents[3]["delta"]["calls"] == 0
    assert documents[4] == {"budgets": []}
    assert documents[5]["scope"] == "everything"
    assert documents[6]["cost_usd"] == "2.5"
    assert documents[7]["rates"][0]["usd"] == "2.5"
    assert documents[8]["group_by"] == ["crew"]
    assert answers[9][0]
    assert "did you mean model?" in answers[9][1]
    assert answers[10][0]


def ask_sidecar(port: int, name: str, arguments: dict, *, key: str | None = None):
    """Call one tool over streamable HTTP; gives the listed tools' names and (is_error, text)."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def session():
        address = f"http://127.0.0.1:{port}/mcp"
        async with (
            httpx.AsyncClient(headers=headers, timeout=120) as http,
            streamable_http_client(address, http_client=http) as (reader, writer, _),
            ClientSession(reader, writer, read_timeout_seconds=timedelta(seconds=120)) as client,
        ):
            await client.initialize()
            names = [tool.name for tool in (await client.list_tools()).tools]
            answer = await client.call_tool(name, arguments)
            return names, (bool(answer.isError), answer.content[0].text)

    return asyncio.run(session())


@pytest.mark.slow
def test_a_sidecar_answers_the_same_tools(path, tmp_path):
    """The official client over streamable HTTP gets the answers of `crewmeter mcp`, with a read
    key and only with one.
    """
    command = [str(Path(sys.executable).with_name("crewmeter")), "serve", "--ledger", path]
    port = free_port()
    command += ["--http-port", str(port), "--grpc-port", str(free_port())]
    environment = {**os.environ, "CREWMETER_TOKEN": "read:read-key-5678,ingest:ingest-key-1234"}
    ready = f"http://127.0.0.1:{port}/healthz"
    with running(command, ready=ready, log=tmp_path / "serve.log", env=environment):
        question = ("report", {"by": ["crew"], "limit": 2})
        names, (failed, text) = ask_sidecar(port, *question, key="read-key-5678")
        tools, answers = talk(path, [question])
        assert names == [tool.name for tool in tools]
        assert not failed
        assert (failed, text) == answers[0]
        mistake = ("runs", {"where": "modle=x"})
        _, (failed, text) = ask_sidecar(port, *mistake, key="read-key-5678")
        assert failed
        assert "did you mean model?" in text
        for key, origin, status in (
            (None, None, 401),
            ("ingest-key-1234", None, 401),
            ("read-key-5678", "http://evil.example", 403),
        ):
            headers = {"accept": "application/json, text/event-stream"}
            headers |= {"authorization": f"Bearer {key}"} if key else {}
            headers |= {"origin": origin} if origin else {}
            address = f"http://127.0.0.1:{port}/mcp"
            refused = httpx.post(
                address, headers=headers, json={"jsonrpc": "2.0", "method": "ping"}
            )
            assert refused.status_code == status
        headers = {"authorization": "Bearer read-key-5678"}
        assert httpx.get(f"http://127.0.0.1:{port}/mcp", headers=headers).status_code == 405


def test_a_sidecar_with_an_older_mcp_says_so(path, monkeypatch):
    """A version without the limit of a body's size is no reason to end: /mcp answers 501."""

    def older(server, *, json_response, stateless):
        raise AssertionError

    monkeypatch.setattr(
        "mcp.server.streamable_http_manager.StreamableHTTPSessionManager",
        older,
    )
    with Ledger.open(path, read_only=True) as ledger:
        routes = [McpEndpoint(ledger).route()]
        answer = TestClient(Starlette(routes=routes)).post("/mcp", json={})
    assert answer.status_code == 501
    assert "too old" in answer.json()["error"]


def test_a_forecast_is_of_the_month_in_the_zone(path, monkeypatch):
    """Months begin where CREWMETER_TZ has it, as in `crewmeter forecast`."""
    zones = []

    def outlook(session, *, zone, **rest):
        zones.append(str(zone))
        return budget_forecast.outlook(session, zone=zone, **rest)

    monkeypatch.setenv("CREWMETER_TZ", "Asia/Tokyo")
    monkeypatch.setattr(mcp_tools, "outlook", outlook)
    with Ledger.open(path, read_only=True) as ledger:
        asyncio.run(mcp_tools.build_server(ledger).call_tool("forecast", {}))
    assert zones == ["Asia/Tokyo"]
