"""Readers of provider exports (CSV): amounts by day and model.

OpenAI and Anthropic consoles, usage or cost, and FOCUS.

The columns were read from exports people published in 2025 and 2026; a file with other columns is
refused, never guessed at.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.number_text import exact_decimal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ExportLine", "ProviderExport", "model_key", "read_export"]

_DATE = re.compile(r"-20\d\d-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])$")
_AGAIN = "export the file again, without editing it"
_EXACT = -2
"""Amounts with no more decimals than this may have been rounded to cents."""


@dataclass(frozen=True, slots=True)
class ExportLine:
    """An export's amounts for a day and model, None where it has no such column."""

    day: str
    model: str
    cost_usd: Decimal | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    requests: int | None = None
    slack_usd: Decimal = Decimal(0)
    """By how much the cost may be off because the export rounds to cents."""


@dataclass(frozen=True, slots=True)
class ProviderExport:
    """A file's lines, its format, and the provider whose export it is.

    The provider is None for FOCUS, which may hold several.
    """

    format: str
    provider: str | None
    lines: tuple[ExportLine, ...]


def model_key(name: str) -> str:
    """Return one spelling of a model for ledger and invoice.

    ``Claude Sonnet 4.5`` and ``claude-sonnet-4-5-20250929`` are the same.
    """
    key = re.sub(
        r"[\s._]+",
        "-",
        name.strip().lower().rpartition("/")[2],
    )
    return _DATE.sub("", key.removesuffix("-latest")).removesuffix("-latest")


Row = Mapping[str, str]


class _Cells:
    """One row's cells by column, with its position in the file for messages."""

    def __init__(self, row: Row, context: str) -> None:
        self._row = row
        self._position = context

    def text(self, *columns: str) -> str:
        """Return the first column that is filled."""
        return next(
            (
                value.strip()
                for column in columns
                if (value := self._row.get(column)) and value.strip()
            ),
            "",
        )

    def amount(self, column: str) -> Decimal:
        """Return a cell as a number, 0 if it is empty."""
        text = self.text(column).removeprefix("$")
        if not text:
            return Decimal(0)
        try:
            return exact_decimal(text)
        except CrewMeterError as error:
            problem = f"{self._position}: {column}: {text!r} is no number"
            raise CrewMeterError(problem, hint=_AGAIN) from error

    def count(self, *columns: str) -> int:
        """Return the sum of some columns, whole numbers."""
        return int(
            sum(
                (self.amount(column) for column in columns),
                Decimal(0),
            )
        )

    def day(self, *columns: str) -> str:
        """Return the UTC day of a date, a time or unix seconds."""
        text = self.text(*columns)
        try:
            moment = (
                datetime.fromtimestamp(int(text), UTC)
                if text.isdigit()
                else datetime.fromisoformat(text)
            )
        except (ValueError, OverflowError, OSError) as error:
            raise CrewMeterError(
                f"{self._position}: {columns[0]}: {text!r} is no date", hint=_AGAIN
            ) from error
        return f"{moment.astimezone(UTC) if moment.tzinfo else moment:%Y-%m-%d}"

    def dollars(self, column: str, *currencies: str) -> tuple[Decimal, Decimal]:
        """Return an amount in USD and how far rounding to cents may have moved it.

        Another currency is refused.
        """
        currency = self.text(*currencies).upper() if currencies else "USD"
        if currency not in ("USD", ""):
            raise CrewMeterError(
                f"{self._position}: the amounts are in {currency}, the ledger's in USD",
                hint="export in USD, or convert the column",
            )
        amount = self.amount(column)
        exponent = amount.as_tuple().exponent
        return amount, Decimal("0.005") if isinstance(
            exponent, int
        ) and exponent >= _EXACT and amount else Decimal(0)


def _openai_cost(cells: _Cells) -> ExportLine:
    cost, slack = cells.dollars("amount_value", "amount_currency")
    model = cells.text("line_item").partition(",")[0]
    return ExportLine(
        cells.day("start_time_iso", "start_time"), model or "(not named)", cost, slack_usd=slack
    )


def _openai_usage(cells: _Cells) -> ExportLine:
    day = cells.day("start_time_iso", "start_time")
    model = cells.text("model") or "(not named)"
    return ExportLine(
        day,
        model,
        None,
        cells.count("input_tokens"),
        cells.count("output_tokens"),
        cells.count("num_model_requests"),
    )


def _anthropic_cost(cells: _Cells) -> ExportLine:
    cost, slack = cells.dollars("cost_usd")
    return ExportLine(
        cells.day("usage_date_utc"), cells.text("model") or "(not named)", cost, slack_usd=slack
    )


def _anthropic_usage(cells: _Cells) -> ExportLine:
    of_input = ("no_cache", "cache_write_5m", "cache_write_1h", "cache_write", "cache_read")
    counted = cells.count(*(f"usage_input_tokens_{kind}" for kind in of_input))
    return ExportLine(
        cells.day("usage_date_utc"),
        cells.text("model_version") or "(not named)",
        None,
        counted,
        cells.count("usage_output_tokens"),
    )


def _focus(cells: _Cells) -> ExportLine | None:
    if cells.text("ServiceCategory") not in ("", "AI and Machine Learning"):
        return None
    cost, slack = cells.dollars("BilledCost", "BillingCurrency")
    sku = cells.text("SkuId").split("/")
    resource = cells.text("ResourceName", "ResourceId").rpartition("/")[2]
    model = (
        "/".join(sku[1:-1])
        if len(sku) > 2
        else resource or cells.text("ChargeDescription") or sku[0]
    )
    return ExportLine(
        cells.day("ChargePeriodStart"),
        model or "(not named)",
        cost,
        slack_usd=slack,
    )


_FORMATS: dict[str, tuple[frozenset[str], str | None, Callable[[_Cells], ExportLine | None]]] = {
    "openai-cost": (frozenset({"start_time", "amount_value", "line_item"}), "openai", _openai_cost),
    "openai-usage": (
        frozenset({"start_time", "num_model_requests", "input_tokens", "output_tokens", "model"}),
        "openai",
        _openai_usage,
    ),
    "anthropic-usage": (
        frozenset({"usage_date_utc", "model_version", "usage_input_tokens_no_cache"}),
        "anthropic",
        _anthropic_usage,
    ),
    "anthropic-cost": (
        frozenset({"usage_date_utc", "model", "token_type", "cost_usd"}),
        "anthropic",
        _anthropic_cost,
    ),
    "focus": (frozenset({"ChargePeriodStart", "BilledCost", "ChargeCategory"}), None, _focus),
}
"""Format → the columns that tell it, whose export it is, and how a row is read."""


def read_export(path: Path) -> ProviderExport:
    """Read an export whose format is recognised by its columns.

    Raises `CrewMeterError` for anything that is not understood.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CrewMeterError(
            f"{path} can't be read: {getattr(error, 'strerror', None) or error}",
            hint="give the provider's CSV export",
        ) from error
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        columns = frozenset(reader.fieldnames or ())
        name = next(
            (name for name, (needed, _, _) in _FORMATS.items() if needed <= columns),
            None,
        )
        if name is None:
            raise _unknown(path, columns)
        _, provider, read = _FORMATS[name]
        lines = tuple(_lines(reader, path, read))
    except csv.Error as error:
        raise CrewMeterError(
            f"{path} line {reader.line_num}: is not CSV: {error}",
            hint="give the provider's CSV export",
        ) from error
    if not lines:
        raise CrewMeterError(
            f"{path} has no rows", hint="export a period in which there were calls"
        )
    return ProviderExport(name, provider, lines)


def _lines(
    reader: csv.DictReader[str], path: Path, read: Callable[[_Cells], ExportLine | None]
) -> Iterator[ExportLine]:
    for row in reader:
        if None in row or None in row.values():
            raise CrewMeterError(
                f"{path} line {reader.line_num}: has not as many cells as the header",
                hint="export the file again",
            )
        line = read(
            _Cells(
                row,
                f"{path} line {reader.line_num}",
            )
        )
        if line is not None:
            yield line


def _unknown(path: Path, columns: frozenset[str]) -> CrewMeterError:
    nearest = max(
        _FORMATS,
        key=lambda name: len(_FORMATS[name][0] & columns),
    )
    missing = ", ".join(sorted(_FORMATS[nearest][0] - columns))
    found = ", ".join(sorted(columns))[:200] or "none"
    return CrewMeterError(
        f"{path} has columns of no export known here: {found}",
        hint=f"known: {', '.join(_FORMATS)}; nearest is {nearest}, which also has {missing}",
    )
