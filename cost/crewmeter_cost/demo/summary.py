"""The demo's closing summary: cost, time, and commands to try next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from crewmeter_cost.cli.output import cost_cell, usd, without_price
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.read.report import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from crewmeter_cost.demo.fake_provider import BillingLog
    from crewmeter_cost.ledger.read.report import Report, ReportRow
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["money", "next_steps", "settle", "spend_by_day"]

_HEADINGS = ("calls", "failed", "input", "cached", "output", "p95", "cost")
_BAR = 28
"""Characters of the longest bar."""


def money(
    console: Console,
    ledger: Ledger,
    title: str,
    by: Sequence[str],
    *,
    since: datetime,
    until: datetime | None,
    top: int = 12,
) -> Report:
    """Print calls, tokens and cost by `by`, and return the report.

    The most expensive comes first.
    """
    found = report(ledger, by=by, since=since, until=until)
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        show_footer=True,
        header_style="dim",
    )
    shown = [(row, _cells(row)) for row in found.rows[:top]]
    columns = list(zip(_HEADINGS, _cells(found.total), *(cells for _, cells in shown), strict=True))
    widths = [max(map(len, column)) for column in columns]
    room = (
        max(12, console.width - sum(width + 2 for width in widths)) // len(by) - 1
    )  # figures whole, names as far as they fit
    for index, group in enumerate(by):
        table.add_column(
            group,
            footer="total" if index == 0 else "",
            overflow="ellipsis",
            no_wrap=True,
            max_width=room,
        )
    for (heading, total, *_), width in zip(columns, widths, strict=True):
        table.add_column(heading, justify="right", no_wrap=True, min_width=width, footer=total)
    for row, cells in shown:
        table.add_row(*(Text(key or "–") for key in row.keys), *cells)
    if len(found.rows) > top:
        table.add_row(Text(f"… {len(found.rows) - top} more", style="dim"))
    console.print(table)
    if found.total.sums["unpriced_calls"]:
        console.print(
            f"[yellow]* {without_price(found.total.sums['unpriced_calls'])}, and not counted as $0.[/]"
        )
    return found


def _cells(row: ReportRow) -> list[str]:
    sums = row.sums
    failed = f"{sums['failed_calls']:,}" if sums["failed_calls"] else ""
    p95 = "" if row.p95_seconds is None else f"{row.p95_seconds:.1f}s"
    counts = [_short(sums[name]) for name in ("input_tokens", "cache_read_tokens", "output_tokens")]
    cost = cost_cell(row.cost_pusd, priced=sums["priced_calls"], unpriced=sums["unpriced_calls"])
    return [f"{sums['calls']:,}", failed, *counts, p95, cost]


def _short(tokens: int) -> str:
    """Return a token count in at most six characters.

    Exact below 100,000, then in thousands or millions.
    """
    if tokens < 100_000:
        return f"{tokens:,}"
    return f"{tokens / 1e3:,.0f}k" if tokens < 999_500 else f"{tokens / 1e6:,.1f}M"


def settle(console: Console, found: Report, books: BillingLog) -> bool:
    """Compare the ledger with the provider's record, and return whether they agree."""
    sums = found.total.sums
    kept = (
        sums["calls"] - sums["failed_calls"],
        sums["input_tokens"],
        sums["output_tokens"],
        sums["failed_calls"],
    )
    billed = (books.calls, books.input_tokens, books.output_tokens, len(books.refused))
    console.print(f"The stand-in's own books: {_account(billed)}.")
    if kept == billed:
        console.print("[green]The ledger says the same.[/]")
        return True
    console.print(f"[red]The ledger says otherwise: {_account(kept)}.[/]")
    return False


def _account(figures: tuple[int, int, int, int]) -> str:
    calls, tokens_in, tokens_out, refused = figures
    return f"{counted(calls, 'call')} billed, {counted(tokens_in, 'token')} in, {tokens_out:,} out; {counted(refused, 'call')} refused"


def spend_by_day(console: Console, ledger: Ledger, *, since: datetime, until: datetime) -> None:
    """Print one bar a day, highlighting days above twice the median."""
    rows = report(ledger, by=["day"], since=since, until=until).rows
    costs = [row.cost_pusd or 0 for row in rows]
    usual, highest = sorted(costs)[len(costs) // 2], max(costs)
    console.print("[bold]Spend by day[/]")
    for row, cost in zip(rows, costs, strict=True):
        day = datetime.fromisoformat(str(row.keys[0])[:10]).replace(tzinfo=UTC)
        loud = cost > 2 * usual
        bar = Text("█" * max(1, round(_BAR * cost / highest)), style="red" if loud else "cyan")
        line = Text.assemble(
            (f"{day:%a %d %b} ", "dim"),
            f"{usd(cost):>9} ",
            bar,
            "  ← well above the usual day" if loud else "",
        )
        console.print(line)


def next_steps(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """Print commands to try, each whole so that it can be copied."""
    console.print("[bold]Next[/]")
    width = max(len(command) for command, _ in lines)
    beside = width + 2 + max(len(word) for _, word in lines) + 2 <= console.width
    for command, word in lines:
        if beside:
            console.print(
                Text.assemble("  ", (command.ljust(width), "green"), "  ", (word, "dim")),
                soft_wrap=True,
            )
        else:
            console.print(Text.assemble("  ", (f"# {word}", "dim")), soft_wrap=True)
            console.print(Text.assemble("  ", (command, "green")), soft_wrap=True)
