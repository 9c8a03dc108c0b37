"""``crewmeter watch``.

The ledger, live in a terminal, or look by look for a script.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crewmeter_cost.cli.options import Format, LedgerOption, window
from crewmeter_cost.cli.output import console, cost_cell, exact_usd, usd
from crewmeter_cost.csv_text import csv_line
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.read.live import Snapshot, look
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import moment, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from crewmeter_cost.budgets.repository import BudgetStatus
    from crewmeter_cost.ledger.read.runs import Run

__all__ = ["register", "render"]

_MARK = {
    "ok": ("✓", "green"),
    "error": ("✗", "red"),
    "abandoned": ("◌", "yellow"),
    "running": ("●", "cyan"),
}
_CSV = (
    "at",
    "since",
    "spent_usd",
    "unpriced_calls",
    "hour_usd",
    "calls_per_minute",
    "tokens_per_minute",
    "running",
    "failures",
    "exceeded",
)

FromOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        help="Spend, runs and failures from then on: 2026-11-01, 6h, month. Default: the spend of today.",
    ),
]
AsOfOption = Annotated[str | None, typer.Option("--until", help="One look as of then.")]
LineFormatOption = Annotated[
    Format, typer.Option("--format", help="table, json or csv; json and csv are one line a look.")
]


def register(app: typer.Typer, line: str) -> None:
    """Add the command to the command line."""
    app.command("watch", help=line)(_watch)


def _watch(
    every: Annotated[
        float, typer.Option("--every", min=0.2, help="Seconds between two looks.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and exit.")] = False,
    ledger: LedgerOption = None,
    since: FromOption = None,
    until: AsOfOption = None,
    format: LineFormatOption = Format.TABLE,
) -> None:
    start, end = window(since, until)
    with Ledger.open(ledger, read_only=True) as book:
        if once or end is not None:
            _print(
                look(book, now=end or datetime.now(UTC), since=start, past=end is not None),
                book.name,
                format,
                first=True,
            )
        elif format is Format.TABLE and console().is_terminal:
            _live(book, start, every)
        else:
            _lines(book, start, every, format)


def _live(book: Ledger, since: datetime | None, every: float) -> None:
    with Live(console=console(), screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(
                    render(look(book, now=datetime.now(UTC), since=since), name=book.name),
                    refresh=True,
                )
                time.sleep(every)
        except KeyboardInterrupt:
            return


def _lines(book: Ledger, since: datetime | None, every: float, format: Format) -> None:
    first = True
    try:
        while True:
            _print(look(book, now=datetime.now(UTC), since=since), book.name, format, first=first)
            sys.stdout.flush()
            first = False
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _print(snapshot: Snapshot, name: str, format: Format, *, first: bool) -> None:
    if format is Format.TABLE:
        console().print(render(snapshot, name=name))
    elif format is Format.JSON:
        sys.stdout.write(json.dumps(_document(snapshot), ensure_ascii=False) + "\n")
    else:
        document = _document(snapshot)
        exceeded = sum(each.exceeded for each in snapshot.budgets)
        counts = {
            "running": len(snapshot.running),
            "failures": len(snapshot.failures),
            "exceeded": exceeded,
        }
        sys.stdout.write(
            (csv_line(_CSV) if first else "")
            + csv_line((document | counts)[column] for column in _CSV)
        )


def _document(snapshot: Snapshot) -> dict[str, object]:
    return {
        "at": moment(nanoseconds(snapshot.at) or 0),
        "since": moment(nanoseconds(snapshot.since) or 0),
        "spent_usd": exact_usd(snapshot.spent_pusd),
        "unpriced_calls": snapshot.unpriced_calls,
        "hour_usd": exact_usd(snapshot.hour_pusd),
        "calls_per_minute": snapshot.calls_per_minute,
        "tokens_per_minute": snapshot.tokens_per_minute,
        "running": [run.document() for run in snapshot.running],
        "finished": [run.document() for run in snapshot.finished],
        "failures": [
            {**asdict(failure), "time": moment(failure.time * 10**9)}
            for failure in snapshot.failures
        ],
        "budgets": [
            {
                "budget": each.budget.label,
                "spent_usd": exact_usd(each.spent_pusd),
                "amount_usd": exact_usd(each.budget.amount_pusd),
                "percent": round(each.percent, 2),
                "exceeded": each.exceeded,
            }
            for each in snapshot.budgets
        ],
    }


def render(snapshot: Snapshot, *, name: str) -> RenderableType:
    """One look as something Rich can print.

    Names are shown as they are: no markup in them is obeyed.
    """
    now, midnight = snapshot.at, snapshot.at.replace(hour=0, minute=0, second=0, microsecond=0)
    since = "today" if snapshot.since == midnight else f"since {snapshot.since:%Y-%m-%d %H:%M}"
    minute = f"{counted(snapshot.calls_per_minute, 'call')}, {counted(snapshot.tokens_per_minute, 'token')}"
    rates = Text.assemble(
        (f"{since} ", "dim"),
        (usd(snapshot.spent_pusd), "bold"),
        ("   this hour ", "dim"),
        (usd(snapshot.hour_pusd), "bold"),
        ("   last minute ", "dim"),
        (minute, "bold"),
    )
    if snapshot.unpriced_calls:
        rates.append(
            f"\n{counted(snapshot.unpriced_calls, 'call')} without a price, in no sum",
            style="yellow",
        )
    title = Text(f"crewmeter  {now:%Y-%m-%d %H:%M:%S} UTC")
    parts: list[RenderableType] = [
        Panel(rates, title=title, subtitle=Text(name), title_align="left")
    ]
    parts.append(_runs("in flight", snapshot.running, now, empty="nothing runs"))
    parts.append(
        _runs(
            "finished",
            snapshot.finished,
            now,
            empty="no run yet: crewmeter demo, or an app with crewmeter.instrument()",
        )
    )
    if snapshot.budgets:
        parts.append(_budgets(snapshot.budgets))
    if snapshot.failures:
        table = _table("recent failures", ("time", "what", "error", "where"))
        for failure in snapshot.failures:
            at = datetime.fromtimestamp(failure.time, UTC)
            clock = f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%d %b %H:%M}"
            table.add_row(
                clock,
                Text(failure.what),
                Text(failure.error_type, style="red"),
                Text(failure.where),
            )
        parts.append(table)
    return Group(*parts)


def _table(title: str, headings: Sequence[str], right: Sequence[str] = ()) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="dim",
        expand=False,
    )
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=heading in right,
            overflow="ellipsis",
        )
    return table


def _runs(title: str, lines: Sequence[Run], now: datetime, *, empty: str) -> RenderableType:
    if not lines:
        return Text(f"{title}: {empty}", style="dim")
    table = _table(
        title,
        ("", "run", "name", "time", "calls", "tools", "cost"),
        right=("time", "calls", "tools", "cost"),
    )
    for run in lines:
        mark, style = _MARK.get("running" if title == "in flight" else run.status, ("?", ""))
        seconds = (
            now.timestamp() - run.started_ns / 1e9
            if title == "in flight" or run.duration_ns is None
            else run.duration_ns / 1e9
        )
        cost = cost_cell(run.cost_pusd, priced=run.priced_calls, unpriced=run.unpriced_calls)
        table.add_row(
            Text(mark, style=style),
            run.run_id[:8],
            Text(run.name or "(unnamed)"),
            f"{seconds:,.1f} s",
            f"{run.calls:,}",
            f"{run.tool_calls:,}",
            cost,
        )
    return table


def _budgets(found: Sequence[BudgetStatus]) -> Table:
    table = _table("budgets", ("budget", "", "spent", "limit"), right=("spent", "limit"))
    for each in found:
        colour = "red" if each.exceeded else "yellow" if each.percent >= 80 else "green"
        bar = ProgressBar(
            total=100,
            completed=min(100.0, each.percent),
            width=24,
            complete_style=colour,
            finished_style=colour,
        )
        table.add_row(
            Text(each.budget.label), bar, usd(each.spent_pusd), usd(each.budget.amount_pusd)
        )
    return table
