"""``crewmeter statement``: a month per team (or user, crew), as a page to print, JSON or CSV."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from crewmeter_cost.chargeback.html import render
from crewmeter_cost.chargeback.statement import BY, Account, Statement, build
from crewmeter_cost.cli.options import Format, FormatOption, LedgerOption
from crewmeter_cost.cli.output import exact_usd, print_csv, print_json, print_table, usd
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.store import Ledger

__all__ = ["register"]

_COLUMNS = ("name", "calls", "failed_calls", "unpriced_calls", "input_tokens", "output_tokens", "direct_usd", "shared_usd", "total_usd")


def register(app: typer.Typer, line: str) -> None:
    """Add the command to the command line."""
    app.command("statement", help=line)(_statement)


def _statement(
    month: Annotated[str | None, typer.Option("--month", help="The month, as 2026-11. Default: this month.")] = None,
    by: Annotated[str, typer.Option("--by", help=f"Who is charged: {', '.join(BY)}.")] = "team",
    allocate: Annotated[str, typer.Option(help="Share what has no owner: none, proportional, even, or weights growth=2,core=1.")] = "none",
    html: Annotated[Path | None, typer.Option("--html", help="Write a page to print here.")] = None,
    ledger: LedgerOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    with Ledger.open(ledger) as book:
        statement = build(book.engine, month=month or f"{datetime.now(UTC):%Y-%m}", by=by, rule=allocate)
    rows = [_row(account) for account in _everyone(statement)]
    if html is not None:
        _write(html, render(statement))
    elif format is Format.JSON:
        print_json(
            {
                "month": f"{statement.month:%Y-%m}",
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


def _everyone(statement: Statement) -> tuple[Account, ...]:
    return (*statement.accounts, statement.unassigned) if statement.unassigned else statement.accounts


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
    headings = [
        (statement.by, "left"),
        ("calls", "right"),
        ("unpriced", "right"),
        ("direct", "right"),
        ("shared", "right"),
        ("total", "right"),
    ]
    cells = [
        (
            account.name or "(unassigned)",
            f"{account.calls:,}",
            f"{account.unpriced_calls:,}",
            usd(account.direct_pusd),
            usd(account.shared_pusd),
            usd(account.total_pusd),
        )
        for account in _everyone(statement)
    ]
    footer = ("total", "", f"{statement.unpriced_calls:,}", "", "", usd(statement.total_pusd))
    print_table(f"Statement for {statement.month:%B %Y}", headings, cells, footer=footer)
    sys.stdout.write("a page to print: crewmeter statement --html statement.html\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CrewMeterError(f"can't write {str(path)!r} ({error.strerror})", hint="give --html a file in a folder that exists") from error
    sys.stdout.write(f"written: {path} (open it in a browser; print it for a PDF)\n")
