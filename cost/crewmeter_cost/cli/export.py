"""``crewmeter export``: every billed call, for other programs."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer

from crewmeter_cost.cli.options import (
    LedgerOption,
    SinceOption,
    UntilOption,
    WhereOption,
    ZoneOption,
    window,
)
from crewmeter_cost.cli.output import without_price
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import Filter, parse_filter
from crewmeter_cost.finance import focus
from crewmeter_cost.ledger.read.calls import FORMATS, billed, calls
from crewmeter_cost.ledger.store import Ledger

__all__ = ["register"]

_NAMES = (*FORMATS, "focus")


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("export", help=help)
    def command(
        format: Annotated[str, typer.Option("--format", help=f"{', '.join(_NAMES)}.")] = "jsonl",
        ledger: LedgerOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        where: WhereOption = None,
        tz: ZoneOption = None,
    ) -> None:
        if format not in _NAMES:
            raise CrewMeterError(
                f"--format {format!r} is no export format", hint=f"one of {', '.join(_NAMES)}"
            )
        start, end = window(since, until)
        wanted = parse_filter(where)
        with Ledger.open(ledger, read_only=True) as book:
            if format == "focus":
                _focus(book, start, end, wanted)
            else:
                sys.stdout.writelines(
                    FORMATS[format](
                        calls(
                            book,
                            since=start,
                            until=end,
                            where=wanted,
                        )
                    )
                )


def _focus(book: Ledger, start: datetime | None, end: datetime | None, where: Filter) -> None:
    left_out = focus.FocusExport()
    sys.stdout.writelines(
        focus.rows(
            billed(book, since=start, until=end, where=where),
            left_out,
        )
    )
    if left_out.unpriced_calls:
        sys.stderr.write(
            f"{without_price(left_out.unpriced_calls)}, nor in this export: see `crewmeter "
            "prices check`\n"
        )
