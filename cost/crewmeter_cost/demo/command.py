"""The demo's two forms: a metered crew, or days of sample history in a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter_cost.demo.fake_provider import FakeProvider
from crewmeter_cost.demo.quiet import quiet_crewai
from crewmeter_cost.demo.script_text import newsroom_script
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter_cost.demo.fake_provider import BillingLog

__all__ = ["Performance", "demo_ledger", "perform"]


@dataclass(frozen=True, slots=True)
class Performance:
    """A run of the demo's crew that has ended."""

    began: datetime
    seconds: float
    brief: str
    """What the crew wrote."""
    books: BillingLog
    """The stand-in's own account of what it billed."""


def demo_ledger() -> str:
    """``~/.crewmeter/demo.db``: play money stays out of the ledger of real runs."""
    return str(Path.home() / ".crewmeter" / "demo.db")


def perform(ledger: str) -> Performance:
    """Run the demo crew once, metered, and return when its spans are in `ledger`.

    Raises `CrewMeterError` where CrewAI is missing.
    """
    with quiet_crewai(), FakeProvider(newsroom_script) as fake_provider:
        import crewmeter

        run_newsroom = _newsroom()
        handle = crewmeter.instrument(ledger=ledger, service_name="crewmeter-demo", summary=False)
        began = datetime.now(UTC)
        try:
            with crewmeter.attribute(team="newsroom", user="you"):
                brief = run_newsroom(fake_provider.base_url())
            seconds = (datetime.now(UTC) - began).total_seconds()
        finally:
            handle.flush(10)
            handle.uninstrument()
    return Performance(began, seconds, brief, fake_provider.books)


def _newsroom() -> Callable[[str], str]:
    """The demo's app, which imports CrewAI."""
    try:
        from crewmeter_cost.demo.crew import run_newsroom
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "crewai":
            raise
        raise CrewMeterError(
            "the demo runs a real crew, and crewai is not installed",
            hint='pip install "crewmeter[crewai]", or see a month of history without it: crewmeter demo --days 30',
        ) from error
    return run_newsroom
