"""How commands print: Rich tables for people, JSON for scripts, CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crewmeter_cost.csv_text import csv_line
from crewmeter_cost.formatting import counted
from crewmeter_cost.money import exact_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "aligned",
    "console",
    "cost_cell",
    "exact_usd",
    "print_csv",
    "print_json",
    "print_table",
    "usd",
    "without_price",
]


def console() -> Console:
    """A console on stdout, made when asked so that a redirected stdout is the one used."""
    return Console(highlight=False)


def usd(pusd: int | None) -> str:
    """Pico-USD for a table: two decimals from a dollar up, four significant digits below; unknown is a dash."""
    if pusd is None:
        return "–"
    value = Decimal(pusd).scaleb(-12)
    if value == 0 or abs(value) >= 1:
        return f"${value:,.2f}"
    digits = max(2, 3 - value.adjusted())
    return f"${value:.{digits}f}"


def aligned(cells: Sequence[str]) -> list[str]:
    """Return amounts of one width, with their decimal points in one column."""
    tails = [len(cell) - cell.index(".") if "." in cell else 0 for cell in cells]
    longest = max(tails, default=0)
    padded = [cell + " " * (longest - tail) for cell, tail in zip(cells, tails, strict=True)]
    width = max((len(cell) for cell in padded), default=0)
    return [cell.rjust(width) for cell in padded]


def cost_cell(pusd: int | None, *, priced: int, unpriced: int) -> str:
    """A sum of calls' costs for a table. Calls without a price are "unpriced" or a star; where every call was refused, a dash.

    `priced` and `unpriced` are how many of the calls have a price and have none; a refused call is neither, nobody billed it.
    """
    if not priced:
        return "unpriced" if unpriced else "–"
    return usd(pusd) + ("*" if unpriced else "")


def without_price(unpriced: int, calls: int | None = None) -> str:
    """What a sum leaves out: ``3 of 40 calls have no price and are not in the cost``; without `calls`, ``3 calls have …``."""
    of = counted(unpriced, "call") if calls is None else f"{unpriced:,} of {counted(calls, 'call')}"
    return f"{of} {'has' if unpriced == 1 else 'have'} no price and {'is' if unpriced == 1 else 'are'} not in the cost"


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Rows as CSV with a header, in the order of `columns`; None is an empty cell."""
    sys.stdout.write(csv_line(columns))
    sys.stdout.writelines(csv_line(row.get(column) for column in columns) for row in rows)


def print_table(
    title: str,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[str]],
    *,
    footer: Sequence[str] | None = None,
) -> None:
    """Print a table; each column is (heading, ``left``, ``right`` or ``point``).

    Amounts in a ``point`` column stand with their decimal points below each other. Cells are plain
    text: markup in names is printed, not interpreted.
    """
    table = Table(show_footer=footer is not None, header_style="bold", box=None, pad_edge=False)
    body = [list(row) for row in rows]
    foot = list(footer or [""] * len(columns))
    for index, (heading, side) in enumerate(columns):
        title_cell = heading
        if side == "point":
            *cells, foot[index] = aligned([*(row[index] for row in body), foot[index]])
            for row, cell in zip(body, cells, strict=True):
                row[index] = cell
            # Rich strips the padding of right-justified cells, so all of them get one width.
            title_cell = heading.rjust(len(foot[index]))
        table.add_column(
            title_cell,
            justify="right" if side == "right" else "left",
            no_wrap=side != "left",
            overflow="fold",
            footer=Text(foot[index]) if footer is not None else "",
        )
    for row in body:
        table.add_row(*(Text(cell) for cell in row))
    out = console()
    if title:
        # Rich folds a table's own title at the table's width, which may be narrow.
        out.print(Text(title, style="italic"))
    out.print(table)
