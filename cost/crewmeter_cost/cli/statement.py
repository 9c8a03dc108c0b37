"""``crewmeter statement``.

A month per team (or user, crew), as a page to print, JSON or CSV.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from crewmeter_cost.cli.options import Format, FormatOption, LedgerOption, ZoneOption, window
from crewmeter_cost.cli.output import (
    COST_LEGEND,
    UNPRICED_LEGEND,
    Amount,
    Cell,
    exact_usd,
    inexact_text,
    print_csv,
    print_json,
    print_table,
    usd,
    without_price,
)
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.finance.statement import (
    BY,
    Account,
    Statement,
    build,
    count_inexact_calls,
    month_bounds,
    whole_hours,
)
from crewmeter_cost.finance.statement_context import StatementContext, read_context
from crewmeter_cost.finance.statement_html import render
from crewmeter_cost.finance.statement_pdf import write_pdf
from crewmeter_cost.formatting import signed_percent
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.money import utc_text

__all__ = ["register"]

FromOption = Annotated[
    str | None,
    typer.Option(
        "--since", help="Instead of a month, from here on (to the hour): 2026-10-15, 90d, month."
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--until", help="Up to here (exclusive, to the hour); same forms as --since."),
]

_COLUMNS = (
    "name",
    "calls",
    "failed_calls",
    "unpriced_calls",
    "input_tokens",
    "output_tokens",
    "direct_usd",
    "shared_usd",
    "total_usd",
    "inexact_calls",
)


HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page to print here.")
]
PdfOption = Annotated[
    Path | None,
    typer.Option("--pdf", metavar="FILE", help="Write it as PDF here, a page for each payer."),
]
OrganisationOption = Annotated[
    str | None,
    typer.Option("--organisation", metavar="NAME", help="Whose statement it is, for its head."),
]
AllocateOption = Annotated[
    str,
    typer.Option(
        "--allocate",
        metavar="RULE",
        help="Share what has no owner: none, proportional, even, or weights growth=2,core=1.",
    ),
]


def register(app: typer.Typer, line: str) -> None:
    """Add the command to the command line."""
    app.command("statement", help=line)(_statement)


def _statement(
    month: Annotated[
        str | None,
        typer.Option(
            "--month",
            metavar="MONTH",
            help="As 2026-11. Default: this month.",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="GROUP",
            help=f"Who is charged: {', '.join(BY)}.",
        ),
    ] = "team",
    allocate: AllocateOption = "none",
    html: HtmlOption = None,
    pdf: PdfOption = None,
    organisation: OrganisationOption = None,
    ledger: LedgerOption = None,
    since: FromOption = None,
    until: ToOption = None,
    format: FormatOption = Format.TABLE,
    tz: ZoneOption = None,
) -> None:
    now = datetime.now(UTC)
    first, last = _window(
        month,
        since,
        until,
        now,
    )
    with Ledger.open(ledger, read_only=True) as opened:
        statement = build(
            opened.engine,
            since=first,
            until=last,
            by=by,
            rule=allocate,
        )
        count_inexact_calls(opened, statement)
        context = read_context(
            opened.engine,
            statement,
            now=now,
            organisation=organisation,
        )
    if html is not None:
        _write(html, render(statement, context))
    if pdf is not None:
        write_pdf(render(statement, context), pdf)
        sys.stdout.write(f"written: {pdf}\n")
    if html is not None or pdf is not None:
        return
    if format is Format.JSON:
        print_json(_document(statement))
    elif format is Format.CSV:
        print_csv(
            _COLUMNS,
            [_row(account) for account in statement.everyone],
        )
    else:
        _print(statement, context)


def _window(
    month: str | None, since: str | None, until: str | None, now: datetime
) -> tuple[datetime, datetime]:
    """Return the month, or the hours between --since and --until.

    Without --since they begin with the month.
    """
    if since is None and until is None:
        return month_bounds(month or f"{now:%Y-%m}")
    if month is not None:
        raise CrewMeterError(
            "--month stands beside --since or --until", hint="give the month, or the window"
        )
    start, end = window(since, until)
    end = end or now
    if start is None:
        last_moment = end - timedelta(microseconds=1)
        start = last_moment.replace(
            day=1,
            hour=0,
            minute=0,
            second=0,
            microsecond=0,
        )
    return whole_hours(start, end)


def _document(statement: Statement) -> dict[str, object]:
    """Return the statement as JSON, amounts as exact decimal strings."""
    document: dict[str, object] = {
        "month": statement.month and f"{statement.month:%Y-%m}",
        "since": utc_text(statement.since),
        "until": utc_text(statement.until),
        "by": statement.by,
        "allocate": statement.rule,
        "currency": "USD",
        "rows": [_row_document(account) for account in statement.everyone],
        "total_usd": exact_usd(statement.total_pusd),
        "unpriced_calls": statement.unpriced_calls,
    }
    if statement.inexact_calls:
        document["inexact_calls"] = statement.inexact_calls
    return document


def _row_document(account: Account) -> dict[str, object]:
    """Return an account as JSON, where ``inexact_calls`` is only if there are some."""
    row = _row(account)
    if not account.inexact_calls:
        del row["inexact_calls"]
    return row


def _row(account: Account) -> dict[str, object]:
    return {
        "name": account.name or None,
        "calls": account.calls,
        "failed_calls": account.failed_calls,
        "unpriced_calls": account.unpriced_calls,
        "input_tokens": account.input_tokens,
        "output_tokens": account.output_tokens,
        "direct_usd": exact_usd(account.direct_pusd),
        "shared_usd": exact_usd(account.shared_pusd),
        "total_usd": exact_usd(account.total_pusd),
        "inexact_calls": account.inexact_calls,
    }


def _print(statement: Statement, context: StatementContext) -> None:
    payers = statement.everyone
    title = f"{statement.title}: {statement.period(context.drawn_up)}"
    if statement.month is None:
        title = statement.title
    if not payers:
        sys.stdout.write(f"{statement.title}: nothing was called\n")
        return
    shared = statement.rule != "none"
    columns = [
        (statement.by, "name"),
        ("calls", "right"),
        ("unpriced", "right"),
    ]
    if shared:
        columns += [("direct", "right"), ("shared", "right")]
    columns += [
        ("total", "right"),
        ("last month", "right"),
        ("budget", "right"),
    ]
    rows = [_cells(account, context, shared=shared) for account in payers]
    calls = sum(account.calls for account in payers)
    footer: list[Cell] = [
        "total",
        f"{calls:,}",
        f"{statement.unpriced_calls:,}",
    ]
    legend = COST_LEGEND if statement.inexact_calls else UNPRICED_LEGEND
    exact = not statement.unpriced_calls and not statement.inexact_calls
    if shared:
        footer.append(Amount(sum(account.direct_pusd for account in payers)))
        footer.append(Amount(sum(account.shared_pusd for account in payers)))
    footer += [Amount(statement.total_pusd, _mark(exact=exact)), "", ""]
    dropped = ("budget", "last month", "unpriced", "calls", "direct", "shared")
    print_table(title, columns, rows, footer=footer, drop=dropped, legend=legend, cents=True)
    if statement.inexact_calls:
        sys.stdout.write(f"{inexact_text(statement.inexact_calls)}\n")
    if statement.unpriced_calls:
        left_out = without_price(statement.unpriced_calls)
        sys.stdout.write(f"{left_out}: `crewmeter prices check` says why\n")
    ahead = context.forecast
    if ahead is not None and ahead.days_of_history:
        sys.stdout.write(
            f"forecast for the month: {usd(ahead.expected_pusd)} "
            f"(80 % interval {usd(ahead.low_pusd)} to {usd(ahead.high_pusd)})\n"
        )
    sys.stdout.write("to hand on: crewmeter statement --pdf statement.pdf (or --html)\n")


def _mark(*, exact: bool) -> str:
    """Return the star of an amount that is not exact."""
    return "" if exact else "*"


def _cells(account: Account, context: StatementContext, *, shared: bool) -> list[Cell]:
    mark = _mark(exact=account.exact)
    direct: Cell = Amount(account.direct_pusd)
    total: Cell = Amount(account.total_pusd, mark)
    if account.unknown:
        direct = total = "unpriced"
    cells: list[Cell] = [
        account.name or "(unassigned)",
        f"{account.calls:,}",
    ]
    cells.append(f"{account.unpriced_calls:,}")
    if shared:
        cells += [direct, Amount(account.shared_pusd)]
    change = context.change(account.name, account.total_pusd)
    budget = context.budgets.get(account.name)
    cells += [
        total,
        "–" if change is None else signed_percent(change),
        Amount(budget),
    ]
    return cells


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CrewMeterError(
            f"cannot write {str(path)!r} ({error.strerror})",
            hint="give --html a file in a folder that exists",
        ) from error
    sys.stdout.write(f"written: {path} (open it in a browser)\n")
