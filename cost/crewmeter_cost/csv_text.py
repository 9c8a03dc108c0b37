"""CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["csv_line", "safe_cell"]


def safe_cell(value: object) -> object:
    """Return a cell no spreadsheet will run.

    Text that starts like a formula gets a leading apostrophe (OWASP, CSV injection).
    """
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + value
    return value


def csv_line(cells: Iterable[object]) -> str:
    """One line of CSV, quoted as need be.

    None is an empty cell.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([safe_cell(cell) for cell in cells])
    return buffer.getvalue()
