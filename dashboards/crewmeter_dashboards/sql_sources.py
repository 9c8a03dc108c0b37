"""The SQL of the panels: written once with `@tokens`, rendered for Grafana (SQLite, PostgreSQL, ClickHouse) and for the local page.

Tokens: ``@from @to @now`` (unix seconds), ``@bucket`` (seconds), ``@day_start @month_start @month_end`` (of ``@to``, UTC),
``@budget`` (USD a month) and one per filter (``@crew`` …), a list of names in which ``'*'`` stands for "all".

Long ranges read the hourly roll-ups. Ranges up to `DETAIL_SECONDS`, and filters a roll-up has no key for, read the single calls: each
source below is a UNION of both, of which exactly one side is switched on by constants the database folds away before it reads a row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "DAILY_SECONDS",
    "DETAIL_SECONDS",
    "FILTERS",
    "LATENCY_CODES",
    "UNITS",
    "Dialect",
    "Source",
    "latency",
    "latency_of_calls",
    "latency_slots",
    "latency_whole",
    "render",
    "tokens_of",
    "where",
]

DETAIL_SECONDS = 3 * 3600
"""Up to this range panels read single calls, to the second; above it the roll-ups, to the hour."""

DAILY_SECONDS = 14 * 86400
"""Above this range percentiles come from the daily counts."""

_SPAN = "@to - @from"

FILTERS: Mapping[str, str] = {
    "crew": "Crew",
    "agent": "Agent",
    "provider": "Provider",
    "model": "Model",
    "team": "Team",
    "service": "Service",
    "environment": "Environment",
}
"""Filter → its label. The names are columns of the view `calls`."""


class Dialect(StrEnum):
    """Where a query will run."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    CLICKHOUSE = "clickhouse"
    """A mirror of a ledger: Grafana reads it, the local page does not."""


_TOKEN = re.compile(r"@([a-z_]+)")


def tokens_of(sql: str) -> frozenset[str]:
    """The `@tokens` a query uses, without the at sign."""
    return frozenset(_TOKEN.findall(sql))


def render(sql: str, values: Mapping[str, str]) -> str:
    """`sql` with every token replaced; a token without a value is a KeyError naming it. Values may hold tokens themselves."""
    while "@" in sql:
        sql = _TOKEN.sub(lambda match: values[match[1]], sql)
    return sql


def where(columns: Mapping[str, str], *, prefix: str = " AND ") -> str:
    """Conditions that hold a filter to a column, for every (filter → column); "all" lets every row through, unnamed ones too."""
    return "".join(
        f"{prefix}('*' IN @{name} OR {column} IN @{name})" for name, column in columns.items()
    )


def _all_of(names: Sequence[str]) -> str:
    """True where none of these filters is set; a constant for the database."""
    return " AND ".join(f"'*' IN @{name}" for name in names) or "1 = 1"


_CALL_MEASURES: Mapping[str, str] = {
    "calls": "1",
    "failed_calls": "CASE WHEN status = 'error' THEN 1 ELSE 0 END",
    "unpriced_calls": "CASE WHEN @unpriced THEN 1 ELSE 0 END",
    "input_tokens": "COALESCE(input_tokens, 0)",
    "cache_read_tokens": "COALESCE(cache_read_tokens, 0)",
    "cache_write_tokens": "COALESCE(cache_write_tokens, 0)",
    "output_tokens": "COALESCE(output_tokens, 0)",
    "reasoning_tokens": "COALESCE(reasoning_tokens, 0)",
    "cost_usd": "COALESCE(cost_usd, 0)",
    "duration_seconds": "duration_seconds",
}
_RUN_MEASURES: Mapping[str, str] = {
    "calls": "1",
    "cost_usd": "cost_usd",
    "duration_seconds": "duration_seconds",
}
_TOOL_MEASURES: Mapping[str, str] = {
    "calls": "1",
    "failed_calls": "CASE WHEN status = 'error' THEN 1 ELSE 0 END",
    "duration_seconds": "duration_seconds",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A roll-up view and the detail view that says the same to the second.

    `keys`: column of both sides → its SQL in the detail view. `filters`: what the detail can be filtered by (filter → column).
    """

    rollup: str
    detail: str
    keys: Mapping[str, str]
    filters: Mapping[str, str]
    measures: Mapping[str, str]
    only: str = "1 = 1"
    """Which rows of the detail view belong here."""

    def rows(self, *measures: str, since: str = "@from", until: str = "@to") -> str:
        """SELECT of (time, keys, measures) in [since, until), as the body of a CTE."""
        own = {name: column for name, column in self.filters.items() if column in self.keys}
        foreign = [name for name in self.filters if name not in own]
        long = f"({until} - {since} > {DETAIL_SECONDS} AND {_all_of(foreign)})"
        names = ", ".join(f'"{key}"' for key in self.keys)
        comma = ", " if names else ""
        picked = ", ".join(
            f"{expression} AS {key}" if expression != key else f'"{key}"'
            for key, expression in self.keys.items()
        )
        sums = ", ".join(f"{self.measures[name]} AS {name}" for name in measures)
        return (
            f"SELECT time, {names}{comma}{', '.join(measures)} FROM {self.rollup}\n"
            f"  WHERE time >= {since} / 3600 * 3600 AND time < {until} AND {long}{where(own)}\n"
            f"  UNION ALL\n"
            f"  SELECT time, {picked}{comma}{sums} FROM {self.detail}\n"
            f"  WHERE time >= {since} AND time < {until} AND NOT {long} AND {self.only}{where(self.filters)}"
        )


def calls_by(rollup: str, *keys: str, only: str = "1 = 1") -> Source:
    """Billed calls, rolled up by one or two columns of the view `calls`."""
    return Source(
        rollup,
        "calls",
        {key: key for key in keys},
        {name: name for name in FILTERS},
        _CALL_MEASURES,
        only,
    )


_RUN_FILTERS = {"crew": "name", "team": "team", "service": "service", "environment": "environment"}
_TOOL_FILTERS = {"crew": "crew", "agent": "agent"}

TOTAL = calls_by("total_hourly")
MODEL = calls_by("model_hourly", "provider", "model")
CREW = calls_by("crew_hourly", "crew", "agent")
CREW_MODEL = calls_by("crew_model_hourly", "crew", "model")
TASK = calls_by("task_hourly", "crew", "task")
TEAM = calls_by("team_hourly", "team", "user")
TEAM_MODEL = calls_by("team_model_hourly", "team", "model")
SERVICE = calls_by("service_hourly", "service", "environment")
ERROR = calls_by("error_hourly", "error_type", "model", only="status = 'error'")
FINISH = calls_by("finish_hourly", "finish_reason", "model")
COST_STATUS = calls_by("cost_status_hourly", "cost_status", "model")
RUN = Source(
    "run_hourly",
    "runs",
    {"name": "name", "status": "status"},
    _RUN_FILTERS,
    _RUN_MEASURES,
    "status <> 'running'",
)
TOOL = Source(
    "tool_hourly",
    "steps",
    {"tool": "name", "agent": "agent"},
    _TOOL_FILTERS,
    _TOOL_MEASURES,
    "kind = 'tool'",
)

_LATENCY: Mapping[str, tuple[str, str, str, Mapping[str, str], str, str | None]] = {
    # dimension: (detail view, its key, its seconds, its filters, which rows, the filter that is the roll-up's key)
    "total": ("calls", "NULL", "duration_seconds", {name: name for name in FILTERS}, "1 = 1", None),
    "model": (
        "calls",
        "model",
        "duration_seconds",
        {name: name for name in FILTERS},
        "1 = 1",
        "model",
    ),
    "crew": (
        "calls",
        "crew",
        "duration_seconds",
        {name: name for name in FILTERS},
        "1 = 1",
        "crew",
    ),
    "agent": (
        "calls",
        "agent",
        "duration_seconds",
        {name: name for name in FILTERS},
        "1 = 1",
        "agent",
    ),
    "ttft": (
        "calls",
        "model",
        "ttft_seconds",
        {name: name for name in FILTERS},
        "ttft_seconds IS NOT NULL",
        "model",
    ),
    "tool": ("steps", "name", "duration_seconds", _TOOL_FILTERS, "kind = 'tool'", None),
    "run": ("runs", "name", "duration_seconds", _RUN_FILTERS, "status <> 'running'", "crew"),
}


LATENCY_CODES: Mapping[str, int] = {
    "total": 0,
    "model": 1,
    "crew": 2,
    "agent": 3,
    "tool": 4,
    "run": 5,
    "ttft": 6,
}
"""Dimension → its code in the tables `latency_hour` and `latency_day`."""

UNITS: Mapping[str, int] = {"hour": 3600, "day": 86400}
"""What the latency tables count by → its seconds. The table is ``latency_{unit}``, its time the column of the unit's name."""


def _counted(dimension: str) -> str:
    """True where the latency counts can answer: a long range, and no filter they have no key for."""
    *_, filters, _only, own = _LATENCY[dimension]
    return f"({_SPAN} > {DETAIL_SECONDS} AND {_all_of([name for name in filters if name != own])})"


def latency_of_calls(dimension: str) -> str:
    """SELECT of (time, key, le_seconds, count) with one row a call (tool call, run), for what the counts cannot answer."""
    view, key, seconds, filters, only, _ = _LATENCY[dimension]
    return (
        f"SELECT time, {key} AS key, {seconds} AS le_seconds, 1 AS count FROM {view}\n"
        f"  WHERE time >= @from AND time < @to AND NOT {_counted(dimension)} AND {only}{where(filters)}"
    )


def latency_slots(dimension: str, unit: str) -> str:
    """SELECT of (slot, key, total): how many were counted per hour or day and label id, in the order they lie on disk.

    Days answer where the range is above `DAILY_SECONDS` and ``@bucket`` no shorter than a day, hours else; both whole.
    """
    own = _LATENCY[dimension][-1]
    kind = "model" if dimension == "ttft" else dimension
    held = (
        f" AND ('*' IN @{own} OR key IN (SELECT id FROM label WHERE kind = '{kind}' AND value IN @{own}))"
        if own
        else ""
    )
    daily = f"({_SPAN} > {DAILY_SECONDS} AND @bucket >= 86400)"
    width = UNITS[unit]
    return (
        f"SELECT {unit} AS slot, key, SUM(count) AS total FROM latency_{unit}\n"
        f"  WHERE dimension = {LATENCY_CODES[dimension]} AND {unit} >= @from / {width} * {width} AND {unit} < @to AND key <> 0\n"
        f"  AND {_counted(dimension)} AND {'' if unit == 'day' else 'NOT '}{daily}{held} GROUP BY {unit}, key"
    )


def latency_whole(dimension: str) -> str:
    """SELECT of (time, key, le_seconds, count) to group by ``@bucket``: whole days or hours as in `latency_slots`, or one row a call."""
    own, counted = _LATENCY[dimension][-1], _counted(dimension)
    held = where({own: "key"}) if own else ""
    daily = f"({_SPAN} > {DAILY_SECONDS} AND @bucket >= 86400)"
    parts = [
        f"SELECT time, key, le_seconds, count FROM latency_{view} WHERE dimension = '{dimension}'\n"
        f"  AND time >= @from / {width} * {width} AND time < @to AND {counted} AND {switch}{held}\n  UNION ALL\n  "
        for view, width, switch in (("daily", 86400, daily), ("hourly", 3600, f"NOT {daily}"))
    ]
    return "".join(parts) + latency_of_calls(dimension)


def latency(dimension: str, *, per_bucket: bool = False) -> str:
    """SELECT of (time, key, le_seconds, count): a latency histogram from the roll-ups, or one row a call for short ranges.

    Ranges above `DAILY_SECONDS` read whole days from the daily counts and only their ragged ends from the hourly ones. `per_bucket`
    says that the reader groups by ``@bucket``, so a bucket below a day needs the hours.
    """
    own, long = _LATENCY[dimension][-1], _counted(dimension)
    daily = f"({_SPAN} > {DAILY_SECONDS}{' AND @bucket >= 86400' if per_bucket else ''})"
    first_day, last_day = "(@from + 86399) / 86400 * 86400", "@to / 86400 * 86400"
    held = where({own: "key"}) if own else ""

    def counts(table: str, since: str, until: str, switch: str) -> str:
        return (
            f"SELECT time, key, le_seconds, count FROM {table}\n"
            f"  WHERE dimension = '{dimension}' AND time >= {since} AND time < {until} AND {long}{switch}{held}\n  UNION ALL\n  "
        )

    return (
        counts("latency_daily", first_day, last_day, f" AND {daily}")
        + counts(
            "latency_hourly",
            "@from / 3600 * 3600",
            f"(CASE WHEN {daily} THEN {first_day} ELSE @to END)",
            "",
        )
        + counts("latency_hourly", last_day, "@to", f" AND {daily}")
        + latency_of_calls(dimension)
    )
