"""``crewmeter watch``: the ledger, live in a terminal."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crewmeter_cost.cli.options import LedgerOption
from crewmeter_cost.cli.output import console, usd
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.watch import RunLine, Snapshot, look

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from crewmeter_cost.budgets.store import Status

__all__ = ["register", "render"]

_MARK = {"ok": ("✓", "green"), "error": ("✗", "red"), "abandoned": ("◌", "yellow"), "running": ("●", "cyan")}


def register(app: typer.Typer, line: str) -> None:
    """Add the command to the command line."""
    app.command("watch", help=line)(_watch)


def _watch(
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and exit.")] = False,
    ledger: LedgerOption = None,
) -> None:
    out = console()
    with Ledger.open(ledger, read_only=True) as book:
        if once:
            out.print(render(look(book.engine, now=datetime.now(UTC)), name=book.name, now=datetime.now(UTC)))
            return
        with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
            try:
                while True:
                    now = datetime.now(UTC)
                    live.update(render(look(book.engine, now=now), name=book.name, now=now), refresh=True)
                    time.sleep(every)
            except KeyboardInterrupt:
                return


def render(snapshot: Snapshot, *, name: str, now: datetime) -> RenderableType:
    """One look as something Rich can print. Names are shown as they are: no markup in them is obeyed."""
    rates = Text.assemble(
        ("today ", "dim"), (usd(snapshot.day_pusd), "bold"), ("   this hour ", "dim"), (usd(snapshot.hour_pusd), "bold"),
        ("   last minute ", "dim"), (f"{snapshot.calls_per_minute:,} calls, {snapshot.tokens_per_minute:,} tokens", "bold"),
    )  # fmt: skip
    parts: list[RenderableType] = [Panel(rates, title=Text(f"crewmeter  {now:%H:%M:%S} UTC"), subtitle=Text(name), title_align="left")]
    parts.append(_runs("in flight", snapshot.running, now, empty="nothing runs"))
    parts.append(_runs("finished", snapshot.finished, now, empty="no run yet: crewmeter demo, or an app with crewmeter.instrument()"))
    if snapshot.budgets:
        parts.append(_budgets(snapshot.budgets))
    if snapshot.failures:
        table = _table("recent failures", ("time", "what", "error", "where"))
        for failure in snapshot.failures:
            clock = f"{datetime.fromtimestamp(failure.time, UTC):%H:%M:%S}"
            table.add_row(clock, Text(failure.what), Text(failure.error_type, style="red"), Text(failure.where))
        parts.append(table)
    return Group(*parts)


def _table(title: str, headings: Sequence[str], right: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim", expand=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", no_wrap=heading in right, overflow="ellipsis")
    return table


def _runs(title: str, lines: Sequence[RunLine], now: datetime, *, empty: str) -> RenderableType:
    if not lines:
        return Text(f"{title}: {empty}", style="dim")
    table = _table(title, ("", "run", "name", "time", "calls", "tools", "cost"), right=("time", "calls", "tools", "cost"))
    for line in lines:
        mark, style = _MARK.get(line.status, ("?", ""))
        seconds = now.timestamp() - line.started if line.duration_seconds is None else line.duration_seconds
        cost = "–" if line.cost_usd is None else f"${line.cost_usd:,.4f}"
        unpriced = f" +{line.unpriced_calls} unpriced" if line.unpriced_calls else ""
        table.add_row(
            Text(mark, style=style), line.run_id[:8], Text(line.name or "(unnamed)"), f"{seconds:,.1f} s",
            f"{line.calls:,}", f"{line.tool_calls:,}", cost + unpriced,
        )  # fmt: skip
    return table


def _budgets(found: Sequence[Status]) -> Table:
    table = _table("budgets", ("budget", "", "spent", "limit"), right=("spent", "limit"))
    for each in found:
        colour = "red" if each.exceeded else "yellow" if each.percent >= 80 else "green"
        bar = ProgressBar(total=100, completed=min(100.0, each.percent), width=24, complete_style=colour, finished_style=colour)
        table.add_row(Text(each.budget.label), bar, usd(each.spent_pusd), usd(each.budget.amount_pusd))
    return table
