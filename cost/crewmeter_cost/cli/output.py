"""How commands print.

Tables for people, JSON for scripts, CSV that a spreadsheet may open. Rich takes a tenth of a
second to import, so only what prints a table does.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from crewmeter_cost.csv_text import csv_line
from crewmeter_cost.formatting import COST_LEGEND, UNPRICED_LEGEND, counted, usd
from crewmeter_cost.money import PICO, exact_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

__all__ = [
    "COST_LEGEND",
    "UNPRICED_LEGEND",
    "Amount",
    "Cell",
    "aligned",
    "amount_texts",
    "console",
    "cost_amount",
    "exact_texts",
    "exact_usd",
    "inexact_text",
    "money_column",
    "print_csv",
    "print_json",
    "print_table",
    "shortened",
    "usd",
    "without_price",
]


_SHORTEST_NAME = 12
"""Characters that a name keeps, however narrow the terminal."""
_GAP = 2
"""Characters between two columns."""


def console() -> Console:
    """Return a console on stdout as it is now, which may have been redirected."""
    from rich.console import Console

    return Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Amount:
    """A sum of money in a table, in pico-USD.

    Its column decides how many decimals it has.

    `mark` is printed after it, where a legend says what it means. `signed` prints a plus too.
    """

    pusd: int | None
    mark: str = ""
    signed: bool = False


Cell = str | Amount


def amount_texts(cells: Sequence[Cell], *, cents: bool = False) -> list[str]:
    """Return a column of money with the same decimals and points below each other.

    The largest amount decides: cents from ten dollars up, four decimals from ten cents up, else
    six; cents too where all are zero, or where `cents` is set. What that would round to nothing is
    ``<$0.01``. Texts between amounts stay as they are.
    """
    known = [abs(cell.pusd) for cell in cells if isinstance(cell, Amount) and cell.pusd]
    most = max(known, default=0)
    decimals = 6
    if cents or not most or most >= 10 * PICO:
        decimals = 2
    elif most >= PICO // 10:
        decimals = 4
    texts = []
    for cell in cells:
        text = cell
        if isinstance(cell, Amount):
            text = _amount_text(cell, decimals)
        texts.append(str(text))
    return aligned(texts)


def money_column(heading: str, cells: Sequence[Cell]) -> list[str]:
    """Return a column of money, its heading first, with points below each other."""
    texts = amount_texts(cells)
    # Rich strips the padding of right-justified cells, so all of them get one width.
    width = max(len(heading), *(len(text) for text in texts))
    return [text.rjust(width) for text in (heading, *texts)]


def exact_texts(amounts: Sequence[str]) -> list[str]:
    """Return exact amounts with the same decimals, at least two.

    They are decimal strings of USD. None is rounded: zeros are added.
    """
    decimals = 2
    for amount in amounts:
        _, _, fraction = amount.partition(".")
        decimals = max(decimals, len(fraction))
    return [f"${Decimal(amount):,.{decimals}f}" for amount in amounts]


def _amount_text(amount: Amount, decimals: int) -> str:
    """Return an amount with so many decimals."""
    if amount.pusd is None:
        return "–"
    least = 10 ** (12 - decimals)
    size = Decimal(abs(amount.pusd)).scaleb(-12)
    text = f"${size:,.{decimals}f}"
    if 0 < abs(amount.pusd) < least:
        text = f"<${Decimal(1).scaleb(-decimals):f}"
    sign = ""
    if amount.pusd < 0:
        sign = "−"
    elif amount.signed and amount.pusd:
        sign = "+"
    return f"{sign}{text}{amount.mark}"


def cost_amount(pusd: int | None, *, priced: int, unpriced: int, inexact: int = 0) -> Cell:
    """Return a sum of calls' costs for a table's column.

    `priced` and `unpriced` are how many of the calls have a price and have none; a refused call is
    neither, nobody billed it. `inexact` is how many have a bound or an estimate. Where some have no
    price or an inexact one, the sum gets a star, which `COST_LEGEND` explains; where all were
    refused, it is a dash.
    """
    if not priced:
        return "unpriced" if unpriced else "–"
    return Amount(pusd, "*" if unpriced or inexact else "")


def aligned(cells: Sequence[str]) -> list[str]:
    """Return amounts of one width, with their decimal points in one column.

    What has no point stands at the right.
    """
    tails = {cell: len(cell) - cell.index(".") for cell in cells if "." in cell}
    longest = max(tails.values(), default=0)
    padded = []
    for cell in cells:
        missing = longest - tails.get(cell, longest)
        padded.append(cell + " " * missing)
    width = max((len(cell) for cell in padded), default=0)
    return [cell.rjust(width) for cell in padded]


def without_price(unpriced: int, calls: int | None = None) -> str:
    """Return what a sum leaves out.

    ``3 of 40 calls have no price and are not in the cost``.
    """
    left_out = counted(unpriced, "call")
    if calls is not None:
        left_out = f"{unpriced:,} of {counted(calls, 'call')}"
    if unpriced == 1:
        return f"{left_out} has no price and is not in the cost"
    return f"{left_out} have no price and are not in the cost"


def inexact_text(inexact: int) -> str:
    """Return how many calls are inexact, and where the reasons are found."""
    calls = counted(inexact, "call")
    return f"{calls} with a bound or an estimate: `crewmeter prices check` says what was unknown"


def print_json(document: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Print rows as CSV with a header, in the order of `columns`.

    None is an empty cell.
    """
    sys.stdout.write(csv_line(columns))
    sys.stdout.writelines(csv_line(row.get(column) for column in columns) for row in rows)


def shortened(name: str, width: int) -> str:
    """Return a name of at most `width` characters, cut in the middle.

    Both ends say which it is.
    """
    if len(name) <= width:
        return name
    if width < 3:
        return name[:width]
    head = (width - 1) // 2
    tail = width - 1 - head
    return f"{name[:head]}…{name[len(name) - tail :]}"


def print_table(
    title: str,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[Cell]],
    *,
    footer: Sequence[Cell] | None = None,
    drop: Sequence[str] = (),
    legend: str = COST_LEGEND,
    cents: bool = False,
) -> None:
    """Print a table that fits the terminal, with every amount whole.

    Each column is (heading, side). Side ``name`` is shortened in the middle where there is no room,
    ``left`` is folded, ``right`` and ``point`` (decimal points below each other) are never cut.
    A column with an `Amount` is of side ``point``, whatever it says.
    Where that is not enough, the columns headed `drop` go, in that order. Cells are plain text:
    markup in names is printed, not interpreted. `legend` explains the star of amounts. With
    `cents` every amount has two decimals.
    """
    from rich.text import Text

    cells = [list(row) for row in rows]
    if footer:
        cells.append(list(footer))
    sides = list(columns)
    body = [[str(cell) for cell in row] for row in cells]
    for index, (heading, _) in enumerate(columns):
        column = [row[index] for row in cells]
        if any(isinstance(cell, Amount) for cell in column):
            sides[index] = (heading, "point")
            for row, text in zip(body, amount_texts(column, cents=cents), strict=True):
                row[index] = text
    last = body.pop() if footer else None
    out = console()
    fitted = _Fitted(sides, body, last)
    fitted.align_points()
    fitted.drop_columns(drop, out.width)
    fitted.shorten_names(out.width)
    if title:
        # Rich folds a table's own title at the table's width, which may be narrow.
        out.print(Text(title, style="italic"))
    out.print(fitted.table())
    if any(isinstance(cell, Amount) and cell.mark == "*" for row in cells for cell in row):
        out.print(legend)


class _Fitted:
    """A table's columns and cells while they are made to fit."""

    def __init__(
        self,
        columns: list[tuple[str, str]],
        rows: list[list[str]],
        footer: list[str] | None,
    ) -> None:
        self._columns = columns
        self._rows = rows
        self._footer = footer

    def _cells(self, index: int) -> list[str]:
        """Return the cells of a column, the footer's included."""
        cells = [row[index] for row in self._rows]
        if self._footer is None:
            return cells
        return [*cells, self._footer[index]]

    def _put(self, index: int, cells: list[str]) -> None:
        """Replace the cells of a column."""
        for row, cell in zip(self._rows, cells, strict=False):
            row[index] = cell
        if self._footer is not None:
            self._footer[index] = cells[-1]

    def _width(self, index: int) -> int:
        """Return the width that a column takes with every cell whole."""
        heading = self._columns[index][0]
        return max(
            len(heading),
            *(len(cell) for cell in self._cells(index)),
            0,
        )

    def align_points(self) -> None:
        """Put the decimal points of each ``point`` column below each other."""
        for index, (heading, side) in enumerate(self._columns):
            if side == "point":
                cells = aligned(self._cells(index))
                # Rich strips the padding of right-justified cells, so all of them get one width.
                width = max(len(heading), *(len(cell) for cell in cells), 0)
                self._put(index, [cell.rjust(width) for cell in cells])
                self._columns[index] = (heading.rjust(width), side)

    def drop_columns(self, headings: Sequence[str], width: int) -> None:
        """Remove columns.

        In the order given, until the rest fits with names at their shortest.
        """
        for heading in headings:
            if self._narrowest() <= width:
                return
            found = [
                index for index, column in enumerate(self._columns) if column[0].strip() == heading
            ]
            for index in reversed(found):
                del self._columns[index]
                for row in self._rows:
                    del row[index]
                if self._footer is not None:
                    del self._footer[index]

    def _narrowest(self) -> int:
        """Return the width of the table with names and texts at their shortest."""
        widths = [
            min(self._width(index), _SHORTEST_NAME) if side in ("name", "left") else None
            for index, (_, side) in enumerate(self._columns)
        ]
        taken = [
            self._width(index) if width is None else width for index, width in enumerate(widths)
        ]
        return sum(taken) + _GAP * (len(taken) - 1)

    def shorten_names(self, width: int) -> None:
        """Shorten the longest names until the table fits."""
        widths = {index: self._width(index) for index, column in enumerate(self._columns)}
        names = [index for index, (_, side) in enumerate(self._columns) if side == "name"]
        over = sum(widths.values()) + _GAP * (len(widths) - 1) - width
        while over > 0 and names:
            longest = max(
                names,
                key=lambda index: widths[index],
            )
            if widths[longest] <= _SHORTEST_NAME:
                break
            widths[longest] -= 1
            over -= 1
        for index in names:
            heading, side = self._columns[index]
            self._columns[index] = (
                shortened(
                    heading,
                    widths[index],
                ),
                side,
            )
            self._put(
                index,
                [shortened(cell, widths[index]) for cell in self._cells(index)],
            )

    def table(self) -> Table:
        """Return the table as Rich prints it."""
        from rich.table import Table
        from rich.text import Text

        has_footer = self._footer is not None
        table = Table(
            show_footer=has_footer,
            header_style="bold",
            box=None,
            pad_edge=False,
        )
        footer = self._footer or [""] * len(self._columns)
        for (heading, side), foot in zip(self._columns, footer, strict=True):
            table.add_column(
                heading,
                justify="right" if side == "right" else "left",
                no_wrap=side != "left",
                overflow="fold",
                footer=Text(foot),
            )
        for row in self._rows:
            table.add_row(*(Text(cell) for cell in row))
        return table
