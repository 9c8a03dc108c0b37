"""How commands print: Rich tables for people, JSON for scripts, CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import json
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["console", "exact_usd", "print_csv", "print_json", "print_table", "safe_cell", "usd"]


def console() -> Console:
    """A console on stdout, made when asked so that a redirected stdout is the one used."""
    return Console(highlight=False)


def exact_usd(pusd: int) -> str:
    """Pico-USD as an exact decimal string of USD, without trailing zeros: ``450000000`` → ``"0.00045"``."""
    text = format(Decimal(pusd).scaleb(-12), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def usd(pusd: int | None) -> str:
    """Pico-USD for a table: two decimals from a dollar up, four significant digits below; unknown is a dash."""
    if pusd is None:
        return "–"
    value = Decimal(pusd).scaleb(-12)
    if value == 0 or abs(value) >= 1:
        return f"${value:,.2f}"
    digits = max(2, 3 - value.adjusted())
    return f"${value:.{digits}f}"


def safe_cell(value: object) -> object:
    """A CSV cell a spreadsheet will not run: text that starts like a formula gets a leading apostrophe (OWASP, CSV injection)."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Rows as CSV with a header, in the order of `columns`; None is an empty cell."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([safe_cell(row.get(column)) for column in columns])


def print_table(
    title: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], *, footer: Sequence[str] | None = None
) -> None:
    """A table; each column is (heading, ``left`` or ``right``). Cells are plain text: markup in names is shown, not obeyed."""
    table = Table(title=title, title_justify="left", show_footer=footer is not None, header_style="bold", box=None, pad_edge=False)
    for index, (heading, side) in enumerate(columns):
        table.add_column(
            heading,
            justify="right" if side == "right" else "left",
            no_wrap=side == "right",
            overflow="fold",
            footer=Text(footer[index]) if footer is not None else "",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)
