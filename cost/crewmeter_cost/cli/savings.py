"""``crewmeter report --savings``.

The largest avoidable costs, with the calls behind each.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sqlalchemy import text

from crewmeter_cost.analysis.savings import Saving, savings
from crewmeter_cost.cli.options import Format
from crewmeter_cost.cli.output import exact_usd, print_csv, print_json, print_table, usd
from crewmeter_cost.ledger.read.calls import billed
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["print_savings"]

_COLUMNS = ("kind", "subject", "calls", "cost_usd", "advice", "examples")


def print_savings(
    ledger: str | None, since: datetime | None, until: datetime | None, format: Format
) -> None:
    """Find them and print them."""
    with Ledger.open(ledger, read_only=True) as book:
        with book.engine.connect() as connection:
            failed = set(
                connection.scalars(
                    text("SELECT run_id FROM runs WHERE status IN ('error', 'abandoned')")
                )
            )
        found = savings(
            lambda: billed(book, since=since, until=until),
            failed_runs=failed,
            book=PriceBook.load(),
        )
    rows = [_row(saving) for saving in found]
    if format is Format.JSON:
        print_json({"currency": "USD", "rows": rows})
    elif format is Format.CSV:
        print_csv(
            _COLUMNS,
            (
                {**row, "examples": " ".join(saving.examples)}
                for row, saving in zip(rows, found, strict=True)
            ),
        )
    elif not found:
        sys.stdout.write("nothing avoidable found in this time\n")
    else:
        headings = [
            ("what", "left"),
            ("whose", "left"),
            ("calls", "right"),
            ("at most", "right"),
            ("look at", "left"),
        ]
        cells = [
            (s.kind.replace("_", " "), s.subject, f"{s.calls:,}", usd(s.pusd), s.examples[0])
            for s in found
        ]
        print_table("Avoidable costs (each at most; they overlap)", headings, cells)
        for kind in dict.fromkeys(saving.kind for saving in found):
            advice = next(saving.advice for saving in found if saving.kind == kind)
            sys.stdout.write(f"{kind.replace('_', ' ')}: {advice}\n")


def _row(saving: Saving) -> dict[str, object]:
    return {
        "kind": saving.kind,
        "subject": saving.subject,
        "calls": saving.calls,
        "cost_usd": exact_usd(saving.pusd),
        "advice": saving.advice,
        "examples": saving.examples,
    }
