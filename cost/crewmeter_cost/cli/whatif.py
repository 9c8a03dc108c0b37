"""``crewmeter whatif``.

The history under other models, another tier, or a better cache.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from crewmeter_cost.analysis.whatif import Change, WhatIfLine, compare
from crewmeter_cost.cli.options import (
    Format,
    FormatOption,
    LedgerOption,
    SinceOption,
    UntilOption,
    ZoneOption,
    window,
    window_text,
)
from crewmeter_cost.cli.output import (
    Amount,
    Cell,
    exact_usd,
    print_csv,
    print_json,
    print_table,
)
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.read.calls import billed
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.price_book import PriceBook

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["register"]

_COLUMNS = (
    "model",
    "instead",
    "calls",
    "unknown_calls",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "whatif_usd",
    "difference_usd",
    "reason",
)
_NOT_MODELLED = (
    "the other model's tokenizer may count these texts differently",
    "it may answer longer or shorter, need more or fewer steps, and cache differently",
    "whether its answers would have been good enough",
)


def register(app: typer.Typer, help: str) -> None:
    """Add the command to the command line."""
    app.command("whatif", help=help)(_whatif)


def _whatif(
    model: Annotated[
        list[str] | None, typer.Option("--model", help="OLD=NEW or OLD=PROVIDER/NEW; repeatable.")
    ] = None,
    tier: Annotated[
        str | None,
        typer.Option("--tier", help="As if on this service tier: batch, flex, priority."),
    ] = None,
    cached: Annotated[
        float | None,
        typer.Option(
            "--cached",
            min=0,
            max=100,
            help="As if so many percent of the input came from the cache.",
        ),
    ] = None,
    ledger: LedgerOption = None,
    since: SinceOption = "30d",
    until: UntilOption = None,
    format: FormatOption = Format.TABLE,
    tz: ZoneOption = None,
) -> None:
    change = Change(
        models=_pairs(model or []), tier=tier, cached_share=None if cached is None else cached / 100
    )
    if not change.models and tier is None and cached is None:
        raise CrewMeterError(
            "nothing to change", hint="give --model gpt-4o=gpt-5-mini, --tier batch or --cached 60"
        )
    start, end = window(since, until)
    with Ledger.open(ledger, read_only=True) as book:
        lines = compare(
            billed(book, since=start, until=end),
            change,
            PriceBook.load(),
        )
    rows = [_row(line) for line in lines]
    if format is Format.JSON:
        total = {
            "cost_usd": exact_usd(sum(line.was_pusd for line in lines)),
            "whatif_usd": exact_usd(sum(line.would_pusd for line in lines)),
        }
        print_json(
            {"currency": "USD", "rows": rows, "total": total, "cannot_know": list(_NOT_MODELLED)}
        )
    elif format is Format.CSV:
        print_csv(_COLUMNS, rows)
    else:
        _print(lines, change, start, end)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        old, equals, new = (part.strip() for part in text.partition("="))
        if not (old and equals and new):
            raise CrewMeterError(
                f"--model {text!r} says no OLD=NEW", hint="write --model gpt-4o=gpt-5-mini"
            )
        pairs[old] = new
    return pairs


def _exact(line: WhatIfLine, pusd: int) -> str | None:
    """Return an amount, None where no call is in the sums."""
    if line.calls:
        return exact_usd(pusd)
    return None


def _row(line: WhatIfLine) -> dict[str, object]:
    return {
        "model": line.model,
        "instead": line.instead,
        "calls": line.calls,
        "unknown_calls": line.unknown_calls,
        "input_tokens": line.input_tokens,
        "output_tokens": line.output_tokens,
        "cost_usd": _exact(line, line.was_pusd),
        "whatif_usd": _exact(line, line.would_pusd),
        "difference_usd": _exact(line, line.difference_pusd),
        "reason": line.reason or None,
        "assumed": line.assumed or None,
    }


def _print(
    lines: list[WhatIfLine], change: Change, start: datetime | None, end: datetime | None
) -> None:
    if not lines:
        sys.stdout.write(
            f"no calls to {', '.join(change.models) or 'any model'} in {window_text(start, end)}\n"
        )
        return
    headings = [
        ("model", "left"),
        ("instead", "left"),
        ("calls", "right"),
        ("was", "right"),
        ("would be", "right"),
        ("difference", "right"),
    ]
    cells = [
        (line.model, _instead(line, change), f"{line.calls:,}", *_amounts(line)) for line in lines
    ]
    was = sum(line.was_pusd for line in lines)
    would = sum(line.would_pusd for line in lines)
    print_table(
        f"What if, {window_text(start, end)}",
        headings,
        cells,
        footer=("total", "", "", Amount(was), Amount(would), _signed(would - was)),
    )
    for line in lines:
        if line.unknown_calls:
            are = "is" if line.unknown_calls == 1 else "are"
            sys.stdout.write(
                f"{counted(line.unknown_calls, 'call')} to {line.model} {are} in neither sum: "
                f"{line.reason}\n"
            )
        if line.assumed:
            sys.stdout.write(f"{line.model}: {line.assumed}\n")
    if change.models:
        sys.stdout.write("not modelled: " + "; ".join(_NOT_MODELLED) + "\n")


def _instead(line: WhatIfLine, change: Change) -> str:
    how = [line.instead] if change.models else []
    how += [change.tier] if change.tier else []
    how += [f"{change.cached_share:.0%} cached"] if change.cached_share is not None else []
    return ", ".join(how)


def _amounts(line: WhatIfLine) -> tuple[Cell, Cell, Cell]:
    """Return what it cost, what it would, and the difference.

    Dashes where no call is in the sums.
    """
    if not line.calls:
        return ("–", "–", "–")
    was = Amount(line.was_pusd)
    would = Amount(line.would_pusd)
    return (was, would, _signed(line.difference_pusd))


def _signed(pusd: int) -> Cell:
    if not pusd:
        return "no change"
    return Amount(pusd, signed=True)
