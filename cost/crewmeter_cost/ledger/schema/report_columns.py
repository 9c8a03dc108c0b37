"""Each column of a report, declared once: name, unit, SQL and roll-up.

Roll-ups, run totals, reports, JSON, CSV, OpenAPI and table headings follow from the two tuples
below. A further column needs a line here, its columns in `tables.py` (with a migration), and where
it is new on calls, its value in `write/rows.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "AMOUNTS",
    "COLUMNS",
    "COLUMN_NAMES",
    "HEADINGS",
    "SUMS",
    "SUM_NAMES",
    "ReportColumn",
    "Sum",
    "Unit",
    "named_sums",
    "sums_of_calls",
    "sums_of_models_in_tools",
    "sums_of_tool_steps",
]

Unit = Literal["calls", "tokens", "usd", "ratio", "seconds"]
REJECTED = 2
"""`call.state` of a call that the provider refused before it billed anything."""


@dataclass(frozen=True, slots=True)
class Sum:
    """An amount that is added up: per hour in `rollup_hour`, per group in a report."""

    name: str
    call_sql: str
    """The sum over rows of `call`; an empty group gives NULL or 0."""
    step_sql: str = "0"
    """The sum over rows of `step` that are tool calls."""
    tokens: tuple[str, ...] = ()
    """Columns of `call` that are added together, where this is a sum of tokens."""
    own_of_tools: bool = False
    """Whether a tool's row takes it from its own steps, not from the model calls inside."""


def _tokens(name: str, *columns: str) -> Sum:
    total = " + ".join(f"call.{column}" for column in columns)
    return Sum(name, f"sum({total})", tokens=columns)


SUMS = (
    Sum("calls", "count(*)", "count(*)", own_of_tools=True),
    Sum(
        "failed_calls",
        "sum(CASE WHEN call.state > 0 THEN 1 ELSE 0 END)",
        "sum(CASE WHEN step.state > 0 THEN 1 ELSE 0 END)",
        own_of_tools=True,
    ),
    Sum(
        "unpriced_calls",
        f"sum(CASE WHEN call.cost_pusd IS NULL AND call.state <> {REJECTED} THEN 1 ELSE 0 END)",
    ),
    Sum("priced_calls", "count(call.cost_pusd)"),
    _tokens("input_tokens", "input_tokens"),
    _tokens("cache_read_tokens", "cache_read_tokens"),
    _tokens("cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    _tokens("output_tokens", "output_tokens"),
    _tokens("reasoning_tokens", "reasoning_tokens"),
    # A cost is stored in two columns: pico-USD alone overflow 64 bits at 9.2 million dollars.
    Sum("cost_whole_usd", f"sum(call.cost_pusd / {PICO})"),
    Sum("cost_pusd", f"sum(call.cost_pusd % {PICO})"),
    Sum("duration_ns", "sum(call.duration_ns)", "sum(step.duration_ns)", own_of_tools=True),
)
"""In the order of the columns of `rollup_hour`."""

SUM_NAMES = tuple(each.name for each in SUMS)
AMOUNTS: Mapping[str, int] = {name: index for index, name in enumerate(SUM_NAMES)}
"""Name of a sum → its position in `SUMS`."""


def sums_of_calls() -> list[str]:
    """Return the SQL of every sum over `call`, in the order of `SUMS`."""
    return [each.call_sql for each in SUMS]


def sums_of_models_in_tools() -> list[str]:
    """Return what model calls made inside a tool add to the tool's row.

    Tokens and cost.
    """
    return ["0" if each.own_of_tools else each.call_sql for each in SUMS]


def sums_of_tool_steps() -> list[str]:
    """Return the SQL of every sum over tool steps, in the order of `SUMS`."""
    return [each.step_sql for each in SUMS]


@dataclass(frozen=True, slots=True)
class ReportColumn:
    """A figure of a report's row, as JSON, CSV, the API and tables have it."""

    name: str
    unit: Unit
    heading: str
    """What a table prints above it."""
    description: str
    nullable: bool = False
    summed: bool = True
    """Whether it is one of `SUMS`, and not computed from them."""


COLUMNS = (
    ReportColumn("calls", "calls", "calls", "Billed calls; tool calls where grouped by tool"),
    ReportColumn("failed_calls", "calls", "failed", "Calls that ended in an error"),
    ReportColumn("unpriced_calls", "calls", "unpriced", "Calls whose cost is not known"),
    ReportColumn("input_tokens", "tokens", "in", "Input tokens, cached ones included"),
    ReportColumn("cache_read_tokens", "tokens", "cached", "Input tokens read from a cache"),
    ReportColumn("cache_write_tokens", "tokens", "cache written", "Input tokens put into a cache"),
    ReportColumn("output_tokens", "tokens", "out", "Output tokens, reasoning included"),
    ReportColumn("reasoning_tokens", "tokens", "reasoning", "Output tokens spent on reasoning"),
    ReportColumn(
        "cost_usd", "usd", "cost", "Exact decimal; null where no call has a price", True, False
    ),
    ReportColumn("success_rate", "ratio", "ok", "Share of calls that did not fail", True, False),
    ReportColumn("p50_seconds", "seconds", "p50", "Median duration", True, False),
    ReportColumn("p95_seconds", "seconds", "p95", "95th percentile of durations", True, False),
)
"""Columns of a report's row after its group keys, in the contract's order."""

COLUMN_NAMES = tuple(column.name for column in COLUMNS)
HEADINGS: Mapping[str, str] = {column.name: column.heading for column in COLUMNS}


def named_sums(amounts: Sequence[int]) -> dict[str, int]:
    """Return amounts in the order of `SUMS` by name, the cost as one unbounded number."""
    sums = dict(zip(SUM_NAMES, amounts, strict=True))
    sums["cost_pusd"] += sums.pop("cost_whole_usd") * PICO
    return sums
