"""``crewmeter report --savings``.

The largest avoidable costs, with the calls behind each.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crewmeter_cost.analysis.savings import Saving, savings
from crewmeter_cost.cli.options import Format
from crewmeter_cost.cli.output import Amount, exact_usd, print_csv, print_json, print_table
from crewmeter_cost.ledger.read.calls import billed
from crewmeter_cost.ledger.sql import Sql
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["print_savings"]

_COLUMNS = ("kind", "subject", "calls", "cost_usd", "evidence", "advice", "examples")
_KIND = {
    "failed_runs": "cost of failed runs",
    "cache_misses": "cache misses",
    "repeated_calls": "identical calls",
    "oversized_contexts": "oversized contexts",
    "batchable": "batch tier",
}
_FAILED = Sql("SELECT run_id FROM runs WHERE status IN ('error', 'abandoned')")


def print_savings(
    ledger: str | None, since: datetime | None, until: datetime | None, format: Format
) -> None:
    """Find the avoidable costs of a window and print them."""
    with Ledger.open(ledger, read_only=True) as opened:
        with opened.read_session() as session:
            failed = {run_id for (run_id,) in session.rows(_FAILED)}
        found = savings(
            lambda: billed(opened, since=since, until=until),
            failed_runs=failed,
            book=PriceBook.load(),
        )
    rows = [_row(saving) for saving in found]
    if format is Format.JSON:
        print_json({"currency": "USD", "rows": rows})
    elif format is Format.CSV:
        flat = (
            {**row, "examples": " ".join(saving.examples)}
            for row, saving in zip(rows, found, strict=True)
        )
        print_csv(_COLUMNS, flat)
    elif found:
        _print(found)
    else:
        sys.stdout.write("no avoidable cost found in this window\n")


def _print(found: list[Saving]) -> None:
    columns = [
        ("kind", "left"),
        ("whose", "name"),
        ("at most", "point"),
        ("evidence", "left"),
        ("see", "left"),
    ]
    cells = [
        (_KIND[each.kind], each.subject, Amount(each.pusd), each.evidence, each.examples[0])
        for each in found
    ]
    title = "Avoidable costs (each an upper bound; they overlap)"
    print_table(title, columns, cells, drop=("see",))
    for kind in dict.fromkeys(each.kind for each in found):
        advice = next(each.advice for each in found if each.kind == kind)
        sys.stdout.write(f"{_KIND[kind]}: {advice}\n")


def _row(saving: Saving) -> dict[str, object]:
    return {
        "kind": saving.kind,
        "subject": saving.subject,
        "calls": saving.calls,
        "cost_usd": exact_usd(saving.pusd),
        "evidence": saving.evidence,
        "advice": saving.advice,
        "examples": saving.examples,
    }
