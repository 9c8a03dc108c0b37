"""The type of a panel, from which Grafana and the local page draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from crewmeter_dashboards.sql_sources import FILTERS, tokens_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EMPTY_CALLS", "EMPTY_LIVE", "Column", "Kind", "Panel", "Step", "Unit"]


class Kind(StrEnum):
    """Kind of chart."""

    STAT = "stat"
    """One number, or a few side by side."""
    LINES = "lines"
    """Curves over time."""
    STACK = "stack"
    """Stacked columns over time: parts of a whole."""
    BARS = "bars"
    """One horizontal bar a name, longest first."""
    TABLE = "table"
    HEATMAP = "heatmap"


class Unit(StrEnum):
    """Grafana's unit ids, which the page formats too."""

    COUNT = "short"
    USD = "currencyUSD"
    SECONDS = "s"
    SHARE = "percentunit"
    TOKENS = "locale"
    PER_MINUTE = "cpm"
    PER_SECOND = "ops"
    TIME = "dateTimeAsIso"
    TEXT = "string"


@dataclass(frozen=True, slots=True)
class Step:
    """A colour from a value on."""

    value: float
    color: str


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of a panel's rows is displayed.

    It has a heading, a unit, and what clicking it opens (``trace``, ``run`` or a board's id).
    """

    title: str
    unit: Unit | None = None
    link: str | None = None
    bar: bool = False
    """Drawn as a bar in its cell, for comparing down the column."""
    steps: tuple[Step, ...] = ()


EMPTY_CALLS = (
    "No calls in this range yet. Add crewmeter.instrument() to your app and run a crew, "
    "or try: crewmeter demo --days 30"
)
EMPTY_LIVE = "No data yet. Let Prometheus scrape the sidecar's /metrics (see docs/dashboards.md)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One question and its answer.

    `tells` says what it shows, `act` what to do about it, `source` which view or metric it reads.
    Exactly one of `sql` and `promql` is set; `promql` maps a legend to an expression. `series` is
    the text column that names the curves, `columns` the value columns.
    """

    id: str
    title: str
    tells: str
    act: str
    source: str
    kind: Kind
    unit: Unit
    sql: str | None = None
    promql: Mapping[str, str] = field(default_factory=dict)
    series: str | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    empty: str = EMPTY_CALLS
    decimals: int | None = None
    maximum: float | None = None
    month: bool = False
    """The time axis is the month of the range's end, not the range."""

    @property
    def filters(self) -> tuple[str, ...]:
        """Return the filters this panel obeys, in the order of `FILTERS`."""
        if not self.sql:
            return ()
        used = tokens_of(self.sql)
        return tuple(name for name in FILTERS if name in used)

    @property
    def description(self) -> str:
        """Return the text behind the panel's info sign."""
        text = f"{self.tells}\n\nWhat to do: {self.act}\n\nSource: {self.source}."
        if not self.filters:
            return text
        labels = [FILTERS[name].lower() for name in self.filters]
        return f"{text} Filters: {', '.join(labels)}."
