"""``crewmeter runs``.

The runs in the ledger, found by a filter or a text, in any order.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    SinceOption,
    UntilOption,
    WhereOption,
    ZoneOption,
    window,
    zone,
)
from crewmeter_cost.cli.output import (
    COST_LEGEND,
    UNPRICED_LEGEND,
    Amount,
    Cell,
    console,
    cost_amount,
    print_csv,
    print_json,
    print_table,
)
from crewmeter_cost.filters import parse_filter
from crewmeter_cost.formatting import run_status_text
from crewmeter_cost.ledger.read.run_search import ORDERS, find_runs, read_order
from crewmeter_cost.ledger.read.runs import RUN_COLUMNS, inexact_runs
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.time_range import zone_name

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from crewmeter_cost.ledger.read.runs import Run

__all__ = ["register"]

SearchOption = Annotated[
    str | None,
    typer.Option(
        "--search",
        metavar="TEXT",
        help="Only runs with this text in their id or in a name (crew, agent, task, tool, "
        "model, user).",
    ),
]
OrderOption = Annotated[
    str,
    typer.Option("--order", metavar="ORDER", help=f"{', '.join(ORDERS)}: largest or newest first."),
]
_TITLES = {
    "time": "newest first",
    "cost": "most expensive first",
    "duration": "longest first",
    "calls": "most calls first",
}


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("runs", help=help)(_runs)


def _runs(
    where: WhereOption = None,
    search: SearchOption = None,
    order: OrderOption = "time",
    ledger: LedgerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            min=0,
            max=10**9,
            metavar="N",
            help="At most so many runs; 0 is all.",
        ),
    ] = 50,
    offset: Annotated[
        int,
        typer.Option(
            "--offset",
            min=0,
            max=10**9,
            metavar="N",
            help="Skip so many runs.",
        ),
    ] = 0,
    format: FormatOption = Format.TABLE,
    tz: ZoneOption = None,
) -> None:
    start, end = window(since, until)
    wanted = parse_filter(where)
    checked = read_order(order)
    with Ledger.open(ledger, read_only=True) as opened:
        page = find_runs(
            opened,
            where=wanted,
            search=search,
            order=checked,
            since=start,
            until=end,
            limit=limit or None,
            offset=offset,
        )
        inexact = inexact_runs(opened, page.runs) if format is Format.TABLE else frozenset()
    if format is Format.JSON:
        print_json([run.document() for run in page.runs])
    elif format is Format.CSV:
        print_csv(
            RUN_COLUMNS,
            (run.document() for run in page.runs),
        )
    elif not page.runs:
        sys.stdout.write("no runs match\n")
    else:
        _print(page.runs, order, inexact)
    if page.note:
        sys.stderr.write(f"note: {page.note}\n")


def _print(found: Sequence[Run], order: str, inexact: Collection[str]) -> None:
    started = f"started ({zone_name(zone())})"
    columns = [
        ("run", "right"),
        (started, "right"),
        ("name", "name"),
        ("status", "right"),
        ("time", "right"),
        ("calls", "right"),
        ("tools", "right"),
        ("cost", "right"),
    ]
    width = console().width
    dropped: set[int] = set()
    # Names and money matter more than the columns that go first.
    if width < 100:
        dropped.add(6)
    if width < 80:
        dropped |= {1, 5}
    if width < 56:
        dropped |= {3, 4}
    rows = [_cells(run, inexact=run.run_id in inexact) for run in found]
    print_table(
        f"Runs, {_TITLES[order]}; `crewmeter show RUN` takes the start of an id",
        [column for index, column in enumerate(columns) if index not in dropped],
        [[cell for index, cell in enumerate(row) if index not in dropped] for row in rows],
        legend=COST_LEGEND if inexact else UNPRICED_LEGEND,
    )


def _cells(run: Run, *, inexact: bool) -> list[Cell]:
    cost: Cell = Amount(0)
    if run.calls:
        cost = cost_amount(
            run.cost_pusd,
            priced=run.priced_calls,
            unpriced=run.unpriced_calls,
            inexact=int(inexact),
        )
    duration = "–"
    if run.duration_ns is not None:
        duration = f"{run.duration_ns / 1e9:,.1f}s"
    return [
        run.run_id[:8],
        f"{datetime.fromtimestamp(run.started_ns / 1e9, zone()):%m-%d %H:%M:%S}",
        run.name or "–",
        run_status_text(run.status),
        duration,
        f"{run.calls:,}",
        f"{run.tool_calls:,}",
        cost,
    ]
