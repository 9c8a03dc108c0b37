"""``crewmeter report``: calls, tokens, cost and latency by any group."""

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
    zone,
)
from crewmeter_cost.cli.output import (
    Amount,
    Cell,
    cost_amount,
    inexact_text,
    print_csv,
    print_json,
    print_table,
    usd,
    without_price,
)
from crewmeter_cost.filters import parse_filter
from crewmeter_cost.formatting import provider_text, short_count
from crewmeter_cost.ledger.read.query import GROUPS, TIMES, report_query
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.unknown_usage import with_inexact_calls
from crewmeter_cost.ledger.schema.report_columns import COLUMN_NAMES, HEADINGS
from crewmeter_cost.ledger.store import Ledger

if TYPE_CHECKING:
    from crewmeter_cost.ledger.read.report import Report, ReportRow

__all__ = ["register"]

ByOption = Annotated[
    list[str] | None,
    typer.Option(
        "--by", metavar="GROUP", help=f"One of {', '.join(GROUPS)}; repeatable. Default: model."
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        metavar="N",
        help="At most so many rows: the most expensive, or the earliest by time. "
        "The total is over all.",
    ),
]
SavingsOption = Annotated[
    bool,
    typer.Option("--savings", help="The largest avoidable costs, with the calls behind each."),
]

_ENOUGH_DAYS = 7
"""Days of history before a report projects the month: a week has every weekday once."""
_OF_MODELS = ("input_tokens", "cache_read_tokens", "output_tokens", "cost_usd")
"""Columns that a tool call has none of."""
_PRINTED = (
    "calls",
    "success_rate",
    "input_tokens",
    "cache_read_tokens",
    "output_tokens",
    "p50_seconds",
    "p95_seconds",
    "cost_usd",
)
_DROPPED_WHEN_NARROW = ("cached", "p50", "p95", "out", "in", "ok")


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("report", help=help)(_report)


def _report(
    by: ByOption = None,
    where: WhereOption = None,
    ledger: LedgerOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    format: FormatOption = Format.TABLE,
    limit: LimitOption = None,
    savings: SavingsOption = False,
    tz: ZoneOption = None,
) -> None:
    start, end = window(since, until)
    if savings:
        # Needs the price book, which no other report reads.
        from crewmeter_cost.cli.savings import print_savings

        print_savings(ledger, start, end, format)
        return
    groups = [word for words in by or ["model"] for word in words.split(",")]
    wanted = parse_filter(where)
    # A mistyped word is named even where there is no ledger yet.
    report_query(groups, wanted)
    with Ledger.open(ledger, read_only=True) as opened:
        made = report(
            opened, by=groups, since=start, until=end, where=wanted, limit=limit, zone=zone()
        )
        if format is not Format.CSV:
            made = with_inexact_calls(opened, made, wanted, zone())
        projected = ""
        if format is Format.TABLE and end is None and not where and "tool" not in groups:
            projected = _month_end(opened)
    if format is Format.JSON:
        print_json(made.document())
    elif format is Format.CSV:
        rows = (row.document(made.group_by) for row in made.rows)
        print_csv(
            [*made.group_by, *COLUMN_NAMES],
            rows,
        )
    else:
        _print(made)
        sys.stdout.write(projected)
    if made.limit is not None and made.truncated:
        printed = f"{len(made.rows):,} of {made.groups:,} rows"
        sys.stderr.write(f"note: {printed}; the total is over all of them\n")
    for note in made.notes:
        sys.stderr.write(f"note: {note}\n")


def _month_end(ledger: Ledger) -> str:
    """Return a line on this month's end.

    Nothing where too little is known to project it.
    """
    now = datetime.now(UTC)
    with ledger.read_session() as session:
        ahead = outlook(session, now=now, zone=zone())
    if ahead.days_of_history < _ENOUGH_DAYS or not ahead.spent_pusd:
        return ""
    expected = usd(ahead.expected_pusd)
    spent = usd(ahead.spent_pusd)
    month = f"{now.astimezone(zone()):%B}"
    pace = f"at this pace, {expected} by the end of {month} ({spent} so far)"
    return f"{pace}: `crewmeter forecast`\n"


def _print(made: Report) -> None:
    of_tools = "tool" in made.group_by
    columns = [(group, _side(group)) for group in made.group_by]
    for name in _PRINTED:
        heading = HEADINGS[name]
        if not of_tools:
            columns.append((heading, "right"))
        elif name == "calls":
            columns.append(("tool calls", "right"))
        elif name not in _OF_MODELS:
            columns.append((heading, "right"))
    rows = [
        [
            *_key_texts(made, row),
            *_cells(row, of_tools=of_tools),
        ]
        for row in made.rows
    ]
    footer = None
    if made.group_by:
        blanks = [""] * (len(made.group_by) - 1)
        footer = [
            "total",
            *blanks,
            *_cells(made.total, of_tools=of_tools),
        ]
    title = f"By {', '.join(made.group_by)}, {window_text(made.since, made.until)}"
    print_table(title, columns, rows, footer=footer, drop=_DROPPED_WHEN_NARROW)
    unpriced = made.total.sums["unpriced_calls"]
    inexact = made.total.inexact_calls
    if inexact:
        sys.stdout.write(f"{inexact_text(inexact)}\n")
    if unpriced:
        calls = None if of_tools else made.total.sums["calls"]
        whose = "its model" if unpriced == 1 else "their models"
        left_out = without_price(unpriced, calls)
        sys.stdout.write(f"{left_out}: `crewmeter prices check` names {whose}\n")


def _key_texts(made: Report, row: ReportRow) -> list[str]:
    """Return a row's keys as people read them: providers by their own names."""
    texts = []
    for group, key in zip(made.group_by, row.keys, strict=True):
        if key is None:
            texts.append("–")
        else:
            texts.append(provider_text(key) if group == "provider" else key)
    return texts


def _side(group: str) -> str:
    """Return how the keys of a group are printed: whole, or as far as they fit."""
    if group in TIMES or group == "run":
        return "right"
    return "name"


def _cells(row: ReportRow, *, of_tools: bool) -> list[Cell]:
    sums = row.sums
    rate = row.success_rate
    cells: list[Cell] = [
        f"{sums['calls']:,}",
        "–" if rate is None else f"{rate:.1%}",
    ]
    if not of_tools:
        cells += [
            short_count(sums[name])
            for name in ("input_tokens", "cache_read_tokens", "output_tokens")
        ]
    cells += [
        _seconds(row.p50_seconds),
        _seconds(row.p95_seconds),
    ]
    if of_tools:
        return cells
    cost: Cell = Amount(0)
    if sums["calls"]:
        cost = cost_amount(
            row.cost_pusd,
            priced=sums["priced_calls"],
            unpriced=sums["unpriced_calls"],
            inexact=row.inexact_calls or 0,
        )
    return [*cells, cost]


def _seconds(seconds: float | None) -> str:
    """Return a duration in at most six characters."""
    if seconds is None:
        return "–"
    if seconds >= 100:
        return f"{seconds:.0f}s"
    if seconds >= 1:
        return f"{seconds:.1f}s"
    return f"{seconds * 1000:.0f}ms"
