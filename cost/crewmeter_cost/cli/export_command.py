"""``crewmeter export``: every billed call, for other programs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from crewmeter_cost.cli.options import LedgerOption, SinceOption, UntilOption, window
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.export import FORMATS, calls
from crewmeter_cost.ledger.store import Ledger

__all__ = ["register"]


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("export", help=help)
    def command(
        format: Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)}.")] = "jsonl",
        ledger: LedgerOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
    ) -> None:
        lines = FORMATS.get(format)
        if lines is None:
            raise CrewMeterError(f"--format {format!r} is no export format", hint=f"one of {', '.join(FORMATS)}")
        start, end = window(since, until)
        with Ledger.open(ledger, read_only=True) as book:
            sys.stdout.writelines(lines(calls(book, since=start, until=end)))
