"""The demo's crew run once, metered, against a fake provider on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.demo.fake_provider import FakeProvider, Reply, ToolUse
from crewmeter_cost.demo.quiet import quiet_crewai
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import install_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter_cost.demo.fake_provider import BillingLog, Prompt

__all__ = ["Performance", "demo_ledger", "newsroom_answer", "perform"]

_FLUSH_SECONDS = 10
_FIGURES = "North: 1,284 units, up from 1,102; the blue kettle leads."
_BRIEF = (
    "The north sold 1,284 units this week, 16 percent more than the week before. "
    "The blue kettle led again. Order more of it before Thursday."
)


@dataclass(frozen=True, slots=True)
class Performance:
    """A run of the demo's crew that has ended."""

    began: datetime
    seconds: float
    brief: str
    """What the crew wrote."""
    billing_log: BillingLog
    """What the fake provider billed and refused."""
    delivered: bool
    """Whether every span was taken by the ledger or endpoint."""


def demo_ledger() -> str:
    """Return ``~/.crewmeter/demo.db``, apart from the ledger of real runs."""
    return str(Path.home() / ".crewmeter" / "demo.db")


def perform(ledger: str | None) -> Performance:
    """Run the demo crew once, metered, and return when its spans are delivered.

    They go to `ledger`, or where the ``OTEL_*`` variables say for None. Raises `CrewMeterError`
    where CrewAI is missing.
    """
    with (
        quiet_crewai(with_otel=ledger is None),
        FakeProvider(newsroom_answer) as fake_provider,
    ):
        import crewmeter

        run_newsroom = _newsroom()
        handle = crewmeter.instrument(
            ledger=ledger,
            service_name="crewmeter-demo",
            summary=False,
        )
        began = datetime.now(UTC)
        delivered = False
        try:
            with crewmeter.attribute(team="newsroom", user="you"):
                brief = run_newsroom(fake_provider.base_url())
            seconds = (datetime.now(UTC) - began).total_seconds()
        finally:
            delivered = handle.flush(_FLUSH_SECONDS)
            handle.uninstrument()
    return Performance(began, seconds, brief, fake_provider.billing_log, delivered)


def newsroom_answer(prompt: Prompt) -> Reply | None:
    """Return the fake provider's answer to the demo's crew, at a plausible pace.

    The model decides: a tool call and an answer, a streamed brief, or a refusal.
    """
    if prompt.model == "gpt-4o-mini" and prompt.tool_results == 0:
        return Reply(
            tool_calls=(ToolUse("read_sales", {"region": "north"}),),
            usage=TokenUsage(input=1240, output=28),
            delay_s=0.22,
        )
    if prompt.model == "gpt-4o-mini":
        usage = TokenUsage(input=1391, output=64, cache_read=1152)
        return Reply(text=_FIGURES, usage=usage, delay_s=0.31)
    if prompt.model == "gpt-4o":
        usage = TokenUsage(input=1720, output=186, cache_read=1024)
        return Reply(
            text=_BRIEF,
            usage=usage,
            delay_s=0.18,
            chunk_delay_s=0.03,
        )
    return Reply(status=400)


def _newsroom() -> Callable[[str], str]:
    """Return the demo's app, importing CrewAI."""
    try:
        from crewmeter_cost.demo.crew import run_newsroom
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "crewai":
            raise
        raise CrewMeterError(
            "the demo runs a real crew, and crewai is not installed",
            hint=f"{install_command('crewai')}, or see a month of sample data without it: "
            "crewmeter demo --days 30",
        ) from error
    return run_newsroom
