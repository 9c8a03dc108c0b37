"""``crewmeter watch``: the ledger, live in a terminal or as snapshots."""

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

from crewmeter_cost.analysis.live import Snapshot, look
from crewmeter_cost.cli.options import (
    Format,
    LedgerOption,
    WhereOption,
    ZoneOption,
    window,
    zone,
)
from crewmeter_cost.cli.output import (
    UNPRICED_LEGEND,
    Amount,
    Cell,
    console,
    cost_amount,
    exact_usd,
    money_column,
    shortened,
    usd,
)
from crewmeter_cost.csv_text import csv_line
from crewmeter_cost.filters import parse_filter
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import moment, nanoseconds
from crewmeter_cost.time_range import zone_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
_MONEY = ("cost", "spent", "limit")
"""Headings of columns of money, which are never cut."""
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
        metavar="TIME",
        help="Spend, runs and failures from then on: 2026-11-01, 6h, month. "
        "Default: the spend of today.",
    ),
]
AsOfOption = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="One snapshot as of then.")
]
LineFormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="table, json or csv; json and csv are one line a snapshot.",
    ),
]
EveryOption = Annotated[
    float, typer.Option("--every", min=0.2, metavar="SECONDS", help="Time between two snapshots.")
]
_NO_RUN = "no run yet: crewmeter demo, or an app with crewmeter.instrument()"


def register(app: typer.Typer, line: str) -> None:
    """Add the command to the command line."""
    app.command("watch", help=line)(_watch)


def _watch(
    every: EveryOption = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot and exit.")] = False,
    ledger: LedgerOption = None,
    where: WhereOption = None,
    since: FromOption = None,
    until: AsOfOption = None,
    format: LineFormatOption = Format.TABLE,
    tz: ZoneOption = None,
) -> None:
    start, end = window(since, until)
    wanted = parse_filter(where)
    with Ledger.open(ledger, read_only=True) as opened:

        def snapshot() -> Snapshot:
            now = end or datetime.now(UTC)
            return look(opened, now=now, since=start, past=end is not None, where=wanted)

        if once or end is not None:
            _print(snapshot(), opened.name, format, first=True)
        elif format is Format.TABLE and console().is_terminal:
            _live(snapshot, opened.name, every)
        else:
            _lines(snapshot, opened.name, every, format)


def _live(snapshot: Callable[[], Snapshot], name: str, every: float) -> None:
    """Redraw the screen until Ctrl-C."""
    with Live(console=console(), screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(render(snapshot(), name=name), refresh=True)
                time.sleep(every)
        except KeyboardInterrupt:
            return


def _lines(snapshot: Callable[[], Snapshot], name: str, every: float, format: Format) -> None:
    """Print snapshots one after the other until Ctrl-C."""
    first = True
    try:
        while True:
            _print(snapshot(), name, format, first=first)
            sys.stdout.flush()
            first = False
            time.sleep(every)
    except KeyboardInterrupt:
        return


def _print(snapshot: Snapshot, name: str, format: Format, *, first: bool) -> None:
    """Print one snapshot.

    CSV has its header before the first.
    """
    if format is Format.TABLE:
        console().print(render(snapshot, name=name))
        return
    document = _document(snapshot)
    if format is Format.JSON:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        return
    counts = {
        "running": len(snapshot.running),
        "failures": len(snapshot.failures),
        "exceeded": sum(each.exceeded for each in snapshot.budgets),
    }
    if first:
        sys.stdout.write(csv_line(_CSV))
    sys.stdout.write(csv_line((document | counts)[column] for column in _CSV))


def _document(snapshot: Snapshot) -> dict[str, object]:
    """Return a snapshot as JSON."""
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
        "budgets": [_budget_document(each) for each in snapshot.budgets],
    }


def _budget_document(each: BudgetStatus) -> dict[str, object]:
    return {
        "budget": each.budget.label,
        "spent_usd": exact_usd(each.spent_pusd),
        "amount_usd": exact_usd(each.budget.amount_pusd),
        "percent": round(each.percent, 2),
        "exceeded": each.exceeded,
    }


def render(snapshot: Snapshot, *, name: str) -> RenderableType:
    """Return a snapshot as something Rich can print.

    Markup in names is printed, not interpreted.
    """
    now = snapshot.at
    title = Text(f"crewmeter  {now.astimezone(zone()):%Y-%m-%d %H:%M:%S} {zone_name(zone())}")
    summary = Panel(
        _rates(snapshot),
        title=title,
        subtitle=Text(name),
        title_align="left",
    )
    parts: list[RenderableType] = [summary]
    parts.append(
        _runs(
            "active runs",
            snapshot.running,
            now,
            empty="no active runs",
        )
    )
    parts.append(
        _runs(
            "finished runs",
            snapshot.finished,
            now,
            empty=_NO_RUN,
        )
    )
    if snapshot.budgets:
        parts.append(_budgets(snapshot.budgets))
    if snapshot.failures:
        parts.append(_failures(snapshot))
    return Group(*parts)


def _rates(snapshot: Snapshot) -> Text:
    """Return the spend of the window and the hour, and the rates of the last minute."""
    midnight = snapshot.at.replace(hour=0, minute=0, second=0, microsecond=0)
    since = f"since {snapshot.since.astimezone(zone()):%Y-%m-%d %H:%M}"
    if snapshot.since == midnight:
        since = "today"
    calls = counted(snapshot.calls_per_minute, "call")
    tokens = counted(snapshot.tokens_per_minute, "token")
    rates = Text.assemble(
        (f"{since} ", "dim"),
        (usd(snapshot.spent_pusd), "bold"),
        ("   this hour ", "dim"),
        (usd(snapshot.hour_pusd), "bold"),
        ("   last minute ", "dim"),
        (f"{calls}, {tokens}", "bold"),
    )
    if snapshot.unpriced_calls:
        unpriced = counted(snapshot.unpriced_calls, "call")
        rates.append(f"\n{unpriced} without a price, not included in totals", style="yellow")
    return rates


def _failures(snapshot: Snapshot) -> Table:
    """Return the latest failures, their day only where it is not today."""
    now = snapshot.at.astimezone(zone())
    table = _table("recent failures", ("time", "operation", "error", "agent"))
    for failure in snapshot.failures:
        at = datetime.fromtimestamp(failure.time, zone())
        form = "%H:%M:%S" if at.date() == now.date() else "%d %b %H:%M"
        error = Text(failure.error_type, style="red")
        table.add_row(
            f"{at:{form}}",
            Text(failure.what),
            error,
            Text(failure.where),
        )
    return table


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
            no_wrap=heading in right or heading.strip() in _MONEY,
            overflow="ellipsis",
        )
    return table


def _runs(title: str, lines: Sequence[Run], now: datetime, *, empty: str) -> RenderableType:
    """Return runs as a table.

    On a narrow terminal without their calls and tools.
    """
    if not lines:
        return Text(empty, style="dim")
    narrow = console().width < 70
    cost, *costs = money_column("cost", [_cost(run) for run in lines])
    amounts = ("time",) if narrow else ("time", "calls", "tools")
    table = _table(
        title,
        ("", "run", "name", *amounts, cost),
        right=("run", *amounts),
    )
    if any("*" in text for text in costs):
        table.caption = Text(UNPRICED_LEGEND)
        table.caption_justify = "left"
    active = title == "active runs"
    for run, spent in zip(lines, costs, strict=True):
        mark, style = _MARK.get(
            "running" if active else run.status,
            ("?", ""),
        )
        seconds = now.timestamp() - run.started_ns / 1e9
        if not active and run.duration_ns is not None:
            seconds = run.duration_ns / 1e9
        cells = [
            f"{seconds:,.1f} s",
            f"{run.calls:,}",
            f"{run.tool_calls:,}",
        ]
        if narrow:
            del cells[1:3]
        name = Text(
            shortened(
                run.name or "(unnamed)",
                24 if narrow else 60,
            )
        )
        table.add_row(
            Text(mark, style=style),
            run.run_id[:8],
            name,
            *cells,
            spent,
        )
    return table


def _cost(run: Run) -> Cell:
    return cost_amount(run.cost_pusd, priced=run.priced_calls, unpriced=run.unpriced_calls)


def _budgets(found: Sequence[BudgetStatus]) -> Table:
    """Return budgets with a bar each.

    On a narrow terminal the bar goes.
    """
    narrow = console().width < 80
    spent = money_column("spent", [Amount(each.spent_pusd) for each in found])
    limits = money_column("limit", [Amount(each.budget.amount_pusd) for each in found])
    bar = () if narrow else ("",)
    table = _table("budgets", ("budget", *bar, spent[0], limits[0]))
    for each, *amounts in zip(found, spent[1:], limits[1:], strict=True):
        if narrow:
            table.add_row(
                Text(shortened(each.budget.label, 32)),
                *amounts,
            )
        else:
            table.add_row(
                Text(each.budget.label),
                _bar(each),
                *amounts,
            )
    return table


def _bar(each: BudgetStatus) -> ProgressBar:
    """Return how much of a budget is spent as a bar in a warning's colour."""
    colour = "green"
    if each.exceeded:
        colour = "red"
    elif each.percent >= 80:
        colour = "yellow"
    return ProgressBar(
        total=100,
        completed=min(100.0, each.percent),
        width=24,
        complete_style=colour,
        finished_style=colour,
    )
