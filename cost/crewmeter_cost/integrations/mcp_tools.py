"""An MCP server over one ledger: read-only tools with schemas and bounded answers.

The protocol is that of the official ``mcp`` package (https://modelcontextprotocol.io). Every tool
answers with the JSON that the command of its name prints.
"""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from mcp.server.fastmcp import FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from crewmeter.providers.hosts import canonical_provider
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.analysis.budget_forecast import outlook, projection_document
from crewmeter_cost.analysis.run_comparison import Side, compare_sides
from crewmeter_cost.budgets.repository import in_force, status, status_document
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import parse_filter
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.run_search import find_runs
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.runs import find_run
from crewmeter_cost.ledger.read.unknown_usage import with_inexact_calls
from crewmeter_cost.pricing.charge import charge
from crewmeter_cost.pricing.price_book import PriceBook
from crewmeter_cost.pricing.rate_table import charge_document, read_rates
from crewmeter_cost.time_range import read_zone, window

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["MAX_ROWS", "MAX_STEPS", "build_server"]

MAX_ROWS = 200
"""Rows of a report, and runs of a list, that one answer holds."""
MAX_STEPS = 500
"""Steps, and calls, of a run that one answer holds."""
_NS = 10**9

Since = Annotated[
    str | None,
    Field(description="Start: ISO time, 2h, 7d, today, yesterday, monday, last week, last month"),
]
Until = Annotated[str | None, Field(description="End (exclusive), in the same forms")]
Where = Annotated[
    str | None,
    Field(description="Filter: 'model=gpt-5 status=failed cost>0.5 duration>2m tag:env=prod'"),
]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS, description="Rows at most")]
Tokens = Annotated[int | None, Field(ge=0, le=2**40)]

_INSTRUCTIONS = (
    "Costs, tokens, latency and failures of CrewAI runs. Costs are exact decimal strings in USD; "
    "null means that the price is not known, never that it is zero."
)


def build_server(ledger: Ledger) -> FastMCP:
    """Return a server whose tools read `ledger`."""
    server = FastMCP("crewmeter", instructions=_INSTRUCTIONS, log_level="WARNING")
    tools = _Tools(ledger)
    for tool in (
        tools.report,
        tools.runs,
        tools.run,
        tools.compare,
        tools.budgets,
        tools.forecast,
        tools.price,
    ):
        annotations = ToolAnnotations(readOnlyHint=True, openWorldHint=False)
        add = server.tool(annotations=annotations, structured_output=False)
        add(_in_thread(tool))
    return server


def _in_thread(tool: Callable[..., str]) -> Callable[..., Awaitable[str]]:
    """Return a tool that reads the ledger in a thread.

    Others are answered meanwhile.
    """

    @functools.wraps(tool)
    async def answer(**arguments: Any) -> str:
        return await anyio.to_thread.run_sync(functools.partial(tool, **arguments))

    return answer


def _answered(document: Callable[[], object]) -> str:
    """Return a document as JSON.

    A mistake of the caller is a tool error with the way out.
    """
    try:
        return json.dumps(document(), ensure_ascii=False)
    except CrewMeterError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ToolError(f"{error.message}{hint}") from error


def _window(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    return window(since, until, zone=read_zone())


class _Tools:
    """The tools. Their names, docstrings and annotations are what a client sees."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def report(
        self,
        by: Annotated[
            list[str],
            Field(
                description="Groups: model, provider, crew, agent, task, tool, run, user, team, "
                "session, tag:KEY, hour, day, month",
                max_length=5,
            ),
        ] = ["model"],  # noqa: B006  # never changed, and a schema needs the value
        since: Since = None,
        until: Until = None,
        where: Where = None,
        limit: Limit = 50,
    ) -> str:
        """Sum calls, tokens, cost, success rate and latency by group, dearest first."""

        def document() -> dict[str, object]:
            start, end = _window(since, until)
            wanted = parse_filter(where)
            zone = read_zone()
            made = report(
                self._ledger,
                by=by,
                since=start,
                until=end,
                where=wanted,
                limit=limit,
                zone=zone,
            )
            return with_inexact_calls(self._ledger, made, wanted, zone).document()

        return _answered(document)

    def runs(
        self,
        where: Where = None,
        search: Annotated[str | None, Field(max_length=200)] = None,
        order: Annotated[str, Field(pattern="^(time|cost|duration|calls)$")] = "time",
        since: Since = None,
        until: Until = None,
        limit: Limit = 20,
    ) -> str:
        """List runs that match a filter or a text, newest or largest first."""

        def document() -> dict[str, object]:
            start, end = _window(since, until)
            page = find_runs(
                self._ledger,
                where=where,
                search=search,
                order=order,  # type: ignore[arg-type]  # the pattern allows no other
                since=start,
                until=end,
                limit=limit,
            )
            return {
                "runs": [run.document() for run in page.runs],
                "note": page.note,
            }

        return _answered(document)

    def run(
        self, run_id: Annotated[str, Field(description="A run's id, the start of one, or last")]
    ) -> str:
        """One run as a tree of tasks, agents, tools and calls, with time and cost."""

        def document() -> dict[str, object]:
            found = find_run(self._ledger, run_id)
            return run_tree(self._ledger, found, limit=MAX_STEPS).document()

        return _answered(document)

    def compare(self, a: str, b: str) -> str:
        """Two runs by id: totals, differences, and the steps that explain most of them."""

        def document() -> dict[str, object]:
            sides = [Side.of_run(find_run(self._ledger, run_id)) for run_id in (a, b)]
            made = compare_sides(
                self._ledger,
                *sides,
            ).document()
            steps = made["steps"]
            if isinstance(steps, list):
                made["steps"] = steps[:MAX_ROWS]
            return made

        return _answered(document)

    def budgets(self) -> str:
        """Return what is spent of each budget in its current period."""

        def document() -> dict[str, object]:
            with self._ledger.explained():
                engine = self._ledger.engine
                found = status(
                    engine,
                    in_force(engine),
                    now=datetime.now(UTC),
                )
            return {"budgets": [status_document(each) for each in found[:MAX_ROWS]]}

        return _answered(document)

    def forecast(self) -> str:
        """Spend of this month so far, and at its end, with an 80 % interval."""

        def document() -> dict[str, object]:
            with self._ledger.read_session() as session:
                projection = outlook(session, now=datetime.now(UTC), zone=read_zone())
            return {"currency": "USD", **projection_document("everything", projection)}

        return _answered(document)

    def price(
        self,
        model: Annotated[str, Field(max_length=512)],
        provider: str | None = None,
        input_tokens: Tokens = None,
        output_tokens: Tokens = None,
        cache_read_tokens: Annotated[int, Field(ge=0, le=2**40)] = 0,
        tier: str | None = None,
    ) -> str:
        """Price tokens on a model today, or without tokens give its rates per 1M."""

        def document() -> dict[str, Any]:
            at_ns = int(datetime.now(UTC).timestamp() * _NS)
            book = PriceBook.load()
            if input_tokens is None and output_tokens is None:
                rates = read_rates(
                    book, provider=provider, model=model, host=None, at_ns=at_ns, tier=tier
                )
                return rates.document()
            used = TokenUsage(
                input_tokens or 0,
                output_tokens or 0,
                cache_read=cache_read_tokens,
            )
            outcome = charge(
                used,
                book,
                provider=provider,
                model=model,
                at_ns=at_ns,
                tier=tier,
            )
            return charge_document(
                outcome,
                provider=canonical_provider(provider),
                model=model,
            )

        return _answered(document)
