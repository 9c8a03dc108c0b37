"""``crewmeter runs``: the runs in the ledger, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    SinceOption,
    UntilOption,
    window,
)
from crewmeter_cost.cli.output import console, cost_cell, print_csv, print_json, print_table, usd
from crewmeter_cost.ledger.read.runs import RUN_COLUMNS, runs
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from crewmeter_cost.ledger.read.runs import Run

__all__ = ["register"]

_COLUMNS = [
    ("run", "right"),
    ("started (UTC)", "right"),
    ("name", "left"),
    ("status", "right"),
    ("time", "right"),
    ("calls", "right"),
    ("tools", "right"),
    ("cost", "right"),
]


_TOOLS = 6
"""The column that narrow terminals do without."""


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("runs", help=help)
    def command(
        ledger: LedgerOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        limit: Annotated[
            int, typer.Option("--limit", min=0, help="At most so many; 0 is all.")
        ] = 50,
        format: FormatOption = Format.TABLE,
    ) -> None:
        start, end = window(since, until)
        with Ledger.open(ledger, read_only=True) as book:
            found = runs(book, since=start, until=end, limit=limit or None)
        if format is Format.JSON:
            print_json([run.document() for run in found])
        elif format is Format.CSV:
            print_csv(RUN_COLUMNS, (run.document() for run in found))
        else:
            kept = [
                index for index in range(len(_COLUMNS)) if index != _TOOLS or console().width >= 100
            ]
            columns, rows = (
                [_COLUMNS[index] for index in kept],
                ([_cells(run)[index] for index in kept] for run in found),
            )
            print_table(
                "Runs, newest first; `crewmeter show RUN` takes the start of an id", columns, rows
            )


def _cells(run: Run) -> list[str]:
    cost = (
        cost_cell(run.cost_pusd, priced=run.priced_calls, unpriced=run.unpriced_calls)
        if run.calls
        else usd(0)
    )
    return [
        run.run_id[:8],
        f"{datetime.fromtimestamp(run.started_ns / 1e9, UTC):%m-%d %H:%M:%S}",
        run.name or "–",
        run.status,
        "–" if run.duration_ns is None else f"{run.duration_ns / 1e9:,.1f}s",
        f"{run.calls:,}",
        f"{run.tool_calls:,}",
        cost,
    ]
