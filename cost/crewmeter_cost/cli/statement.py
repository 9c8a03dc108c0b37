"""``crewmeter statement``.

A month per team (or user, crew), as a page to print, JSON or CSV.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from crewmeter_cost.cli.options import Format, FormatOption, LedgerOption, window
from crewmeter_cost.cli.output import (
    exact_usd,
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
    month_bounds,
    whole_hours,
)
from crewmeter_cost.finance.statement_html import render
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
)


def register(app: typer.Typer, line: str) -> None:
    """Add the command to the command line."""
    app.command("statement", help=line)(_statement)


def _statement(
    month: Annotated[
        str | None, typer.Option("--month", help="The month, as 2026-11. Default: this month.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help=f"Who is charged: {', '.join(BY)}.")] = "team",
    allocate: Annotated[
        str,
        typer.Option(
            help="Share what has no owner: none, proportional, even, or weights growth=2,core=1."
        ),
    ] = "none",
    html: Annotated[Path | None, typer.Option("--html", help="Write a page to print here.")] = None,
    ledger: LedgerOption = None,
    since: FromOption = None,
    until: ToOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    first, last = _window(month, since, until)
    with Ledger.open(ledger, read_only=True) as book:
        statement = build(book.engine, since=first, until=last, by=by, rule=allocate)
    rows = [_row(account) for account in _everyone(statement)]
    if html is not None:
        _write(html, render(statement))
    elif format is Format.JSON:
        print_json(
            {
                "month": statement.month and f"{statement.month:%Y-%m}",
                "since": utc_text(statement.since),
                "until": utc_text(statement.until),
                "by": by,
                "allocate": allocate,
                "currency": "USD",
                "rows": rows,
                "total_usd": exact_usd(statement.total_pusd),
                "unpriced_calls": statement.unpriced_calls,
            }
        )
    elif format is Format.CSV:
        print_csv(_COLUMNS, rows)
    else:
        _print(statement)


def _window(month: str | None, since: str | None, until: str | None) -> tuple[datetime, datetime]:
    """Return the month, or the hours between --since and --until.

    Defaults are this month's first and now.
    """
    now = datetime.now(UTC)
    if since is None and until is None:
        return month_bounds(month or f"{now:%Y-%m}")
    if month is not None:
        raise CrewMeterError(
            "--month stands beside --since or --until", hint="give the month, or the window"
        )
    start, end = window(since, until)
    end = end or now
    start = start or (end - timedelta(microseconds=1)).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    if start >= end:
        raise CrewMeterError(
            f"--since {since} is in the future", hint="give a time in the past, or --until"
        )
    return whole_hours(start, end)


def _everyone(statement: Statement) -> tuple[Account, ...]:
    return (
        (*statement.accounts, statement.unassigned) if statement.unassigned else statement.accounts
    )


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
    }


def _print(statement: Statement) -> None:
    if not _everyone(statement):
        sys.stdout.write(f"{statement.title}: nothing was called\n")
        return
    shared = statement.rule != "none"
    headings = [
        (statement.by, "left"),
        ("calls", "right"),
        ("unpriced", "right"),
        ("direct", "right"),
        *([("shared", "right")] if shared else []),
        ("total", "right"),
    ]
    cells = [
        (
            account.name or "(unassigned)",
            f"{account.calls:,}",
            f"{account.unpriced_calls:,}",
            "unpriced" if account.unknown else usd(account.direct_pusd),
            *([usd(account.shared_pusd)] if shared else []),
            "unpriced" if account.unknown else usd(account.total_pusd),
        )
        for account in _everyone(statement)
    ]
    calls = sum(account.calls for account in _everyone(statement))
    footer = (
        "total",
        f"{calls:,}",
        f"{statement.unpriced_calls:,}",
        *[""] * (len(headings) - 4),
        usd(statement.total_pusd),
    )
    print_table(statement.title, headings, cells, footer=footer)
    if statement.unpriced_calls:
        sys.stdout.write(
            f"{without_price(statement.unpriced_calls)}: `crewmeter prices check` says why\n"
        )
    sys.stdout.write("a page to print: crewmeter statement --html statement.html\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CrewMeterError(
            f"can't write {str(path)!r} ({error.strerror})",
            hint="give --html a file in a folder that exists",
        ) from error
    sys.stdout.write(f"written: {path} (open it in a browser; print it for a PDF)\n")
