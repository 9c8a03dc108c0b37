"""The demo's closing summary: cost, time, and commands to try next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.text import Text

from crewmeter_cost.cli.output import (
    Amount,
    Cell,
    amount_texts,
    cost_amount,
    print_table,
    without_price,
)
from crewmeter_cost.formatting import counted, short_count
from crewmeter_cost.ledger.read.report import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from crewmeter_cost.demo.fake_provider import BillingLog
    from crewmeter_cost.ledger.read.report import Report, ReportRow
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["agrees", "billed_text", "money", "next_steps", "spend_by_day"]

_HEADINGS = ("calls", "failed", "input", "cached", "output", "p95", "cost")
_DROPPED_WHEN_NARROW = ("cached", "p95", "failed", "input", "output")
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
    found = report(
        ledger,
        by=by,
        since=since,
        until=until,
    )
    listed = found.rows[:top]
    columns = [(group, "name") for group in by]
    columns += [(heading, "right") for heading in _HEADINGS[:-1]]
    columns.append(("cost", "point"))
    rows = [
        [
            *(key or "–" for key in row.keys),
            *_cells(row),
        ]
        for row in listed
    ]
    footer = [
        "total",
        *[""] * (len(by) - 1),
        *_cells(found.total),
    ]
    print_table(title, columns, rows, footer=footer, drop=_DROPPED_WHEN_NARROW)
    if len(found.rows) > top:
        console.print(
            Text(
                f"… {len(found.rows) - top} more",
                style="dim",
            )
        )
    unpriced = found.total.sums["unpriced_calls"]
    if unpriced:
        console.print(f"[yellow]{without_price(unpriced)}, and not counted as $0.[/]")
    return found


def _cells(row: ReportRow) -> list[Cell]:
    sums = row.sums
    failed = f"{sums['failed_calls']:,}" if sums["failed_calls"] else ""
    p95 = "" if row.p95_seconds is None else f"{row.p95_seconds:.1f}s"
    counts = [_short(sums[name]) for name in ("input_tokens", "cache_read_tokens", "output_tokens")]
    cost = cost_amount(
        row.cost_pusd,
        priced=sums["priced_calls"],
        unpriced=sums["unpriced_calls"],
    )
    return [
        f"{sums['calls']:,}",
        failed,
        *counts,
        p95,
        cost,
    ]


def _short(tokens: int) -> str:
    """Return a token count in at most six characters, exact below 100,000."""
    if tokens < 100_000:
        return f"{tokens:,}"
    return short_count(tokens)


def agrees(console: Console, found: Report, billing_log: BillingLog) -> bool:
    """Print the ledger's totals and the fake provider's. Return whether they agree."""
    sums = found.total.sums
    ours = _Billed(
        calls=sums["calls"] - sums["failed_calls"],
        input_tokens=sums["input_tokens"],
        output_tokens=sums["output_tokens"],
        refused=sums["failed_calls"],
    )
    theirs = _billed(billing_log)
    console.print(f"The fake provider's billing log: {theirs.text}.")
    if ours == theirs:
        console.print("[green]The ledger has the same.[/]")
        return True
    console.print(f"[red]The ledger has something else: {ours.text}.[/]")
    return False


def billed_text(billing_log: BillingLog) -> str:
    """Return what the fake provider billed and refused, in words."""
    return _billed(billing_log).text


@dataclass(frozen=True, slots=True)
class _Billed:
    """Calls and tokens that were billed, and calls that were refused."""

    calls: int
    input_tokens: int
    output_tokens: int
    refused: int

    @property
    def text(self) -> str:
        """The figures in words."""
        return (
            f"{counted(self.calls, 'call')} billed, {counted(self.input_tokens, 'token')} in, "
            f"{self.output_tokens:,} out; {counted(self.refused, 'call')} refused"
        )


def _billed(billing_log: BillingLog) -> _Billed:
    return _Billed(
        calls=billing_log.calls,
        input_tokens=billing_log.input_tokens,
        output_tokens=billing_log.output_tokens,
        refused=len(billing_log.refused),
    )


def spend_by_day(console: Console, ledger: Ledger, *, since: datetime, until: datetime) -> None:
    """Print one bar a day, highlighting days above twice the median."""
    rows = report(
        ledger,
        by=["day"],
        since=since,
        until=until,
    ).rows
    costs = [row.cost_pusd or 0 for row in rows]
    usual = sorted(costs)[len(costs) // 2]
    highest = max(costs)
    console.print("[bold]Spend by day[/]")
    texts = amount_texts([Amount(cost) for cost in costs])
    for row, cost, text in zip(rows, costs, texts, strict=True):
        day = datetime.fromisoformat(str(row.keys[0])[:10]).replace(tzinfo=UTC)
        loud = cost > 2 * usual
        bar = Text(
            "█" * max(1, round(_BAR * cost / highest)),
            style="red" if loud else "cyan",
        )
        line = Text.assemble(
            (f"{day:%a %d %b} ", "dim"),
            f"{text} ",
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
            console.print(
                Text.assemble("  ", (f"# {word}", "dim")),
                soft_wrap=True,
            )
            console.print(
                Text.assemble("  ", (command, "green")),
                soft_wrap=True,
            )
