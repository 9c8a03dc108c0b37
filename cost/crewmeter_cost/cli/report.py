"""``crewmeter report``: calls, tokens, cost and latency by whatever one asks."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.analysis.budget_forecast import outlook
from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    SinceOption,
    UntilOption,
    WhereOption,
    ZoneOption,
    window,
    window_text,
)
from crewmeter_cost.cli.output import (
    console,
    cost_cell,
    print_csv,
    print_json,
    print_table,
    usd,
    without_price,
)
from crewmeter_cost.cli.savings import print_savings
from crewmeter_cost.ledger.read.query import GROUPS, TIMES
from crewmeter_cost.ledger.read.report import COLUMN_NAMES, report
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from crewmeter_cost.ledger.read.report import Report, ReportRow

__all__ = ["register"]

ByOption = Annotated[
    list[str] | None,
    typer.Option("--by", help=f"One of {', '.join(GROUPS)}; repeatable."),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        help="Only so many rows: the dearest, or the earliest by time. The total is over all.",
    ),
]

_ENOUGH_DAYS = 7
"""Days of history below which a report says nothing of the month's end: a week has every weekday once."""


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""

    @app.command("report", help=help)
    def command(
        by: ByOption = None,
        where: WhereOption = None,
        ledger: LedgerOption = None,
        since: SinceOption = None,
        until: UntilOption = None,
        format: FormatOption = Format.TABLE,
        limit: LimitOption = None,
        tz: ZoneOption = None,
        savings: Annotated[
            bool,
            typer.Option(
                "--savings", help="The largest avoidable costs instead, with the calls behind each."
            ),
        ] = False,
    ) -> None:
        start, end = window(since, until)
        if savings:
            return print_savings(ledger, start, end, format)
        groups = [word for words in by or ["model"] for word in words.split(",")]
        with Ledger.open(ledger, read_only=True) as book:
            made = report(book, by=groups, since=start, until=end, where=where, limit=limit)
            pace = (
                _pace(book)
                if format is Format.TABLE and end is None and not where and "tool" not in groups
                else ""
            )
        if format is Format.JSON:
            print_json(made.document())
        elif format is Format.CSV:
            print_csv(
                [*made.group_by, *COLUMN_NAMES], (row.document(made.group_by) for row in made.rows)
            )
        else:
            _table(made)
            sys.stdout.write(pace)
        if made.limit is not None and made.truncated:
            sys.stderr.write(
                f"note: {len(made.rows):,} of {made.groups:,} rows; the total is over all of them\n"
            )
        for note in made.notes:
            sys.stderr.write(f"note: {note}\n")


def _pace(book: Ledger) -> str:
    """Where the whole ledger's month is heading, in a line.

    Nothing where too little is known to say.
    """
    now = datetime.now(UTC)
    ahead = outlook(book.engine, now=now)
    if ahead.days_of_history < _ENOUGH_DAYS or not ahead.spent_pusd:
        return ""
    return f"at this pace, {usd(ahead.expected_pusd)} by the end of {now:%B} ({usd(ahead.spent_pusd)} so far): `crewmeter forecast`\n"


def _table(made: Report) -> None:
    groups = [
        (group, "right" if group in TIMES or group == "run" else "left") for group in made.group_by
    ]  # right: never folded
    of_tools = "tool" in made.group_by
    headings = [
        "tool calls" if of_tools else "calls",
        "ok",
        "in",
        "cached",
        "out",
        "p50",
        "p95",
        "cost",
    ]
    tools = {2, 3, 4, 7} if of_tools else set()  # a tool call has no tokens and no price of its own
    dropped = tools | (
        {3, 5} if console().width < 100 and len(groups) > 1 else set()
    )  # names matter more than cached tokens and medians
    amounts = [(heading, "right") for index, heading in enumerate(headings) if index not in dropped]

    def cells(row: ReportRow) -> list[str]:
        return [cell for index, cell in enumerate(_cells(row)) if index not in dropped]

    body = [
        [*(key if key is not None else "–" for key in row.keys), *cells(row)] for row in made.rows
    ]
    footer = ["total", *[""] * (len(groups) - 1), *cells(made.total)] if groups else None
    print_table(
        f"By {', '.join(made.group_by)}, {window_text(made.since, made.until)}",
        [*groups, *amounts],
        body,
        footer=footer,
    )
    unpriced, calls = made.total.sums["unpriced_calls"], made.total.sums["calls"]
    if unpriced:
        left_out = without_price(unpriced, None if of_tools else calls)
        sys.stdout.write(
            f"{left_out}: `crewmeter prices check` names {'its model' if unpriced == 1 else 'their models'}\n"
        )


def _cells(row: ReportRow) -> list[str]:
    sums, rate = row.sums, row.success_rate
    cost = (
        cost_cell(row.cost_pusd, priced=sums["priced_calls"], unpriced=sums["unpriced_calls"])
        if sums["calls"]
        else usd(0)
    )
    return [
        f"{sums['calls']:,}",
        "–" if rate is None else f"{rate:.1%}",
        _short(sums["input_tokens"]),
        _short(sums["cache_read_tokens"]),
        _short(sums["output_tokens"]),
        _seconds(row.p50_seconds),
        _seconds(row.p95_seconds),
        cost,
    ]


def _short(amount: int) -> str:
    """A token count in at most five characters."""
    for unit, name in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if amount >= 10 * unit:
            return f"{amount // unit:,}{name}"
        if amount >= unit:
            return f"{amount / unit:.1f}{name}"
    return str(amount)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return (
        f"{seconds:.0f}s"
        if seconds >= 100
        else f"{seconds:.1f}s"
        if seconds >= 1
        else f"{seconds * 1000:.0f}ms"
    )
