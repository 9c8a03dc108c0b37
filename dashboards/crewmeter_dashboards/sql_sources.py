"""The SQL of the panels, written once with `@tokens`.

It is rendered for Grafana (SQLite, PostgreSQL, ClickHouse) and for the local page.

Tokens: ``@from @to @now`` (unix seconds), ``@bucket`` (seconds), ``@day_start @month_start
@month_end`` (of ``@to``), ``@offset`` (seconds east of UTC at ``@to``), ``@budget`` (USD a month)
and one per filter (``@crew`` …), a list of names in which ``'*'`` stands for "all".

Long ranges read the hourly roll-ups. Ranges up to `DETAIL_SECONDS`, and filters a roll-up has no
key for, read the single calls: each source below is a UNION of both, of which exactly one side is
switched on by constants the database folds away before it reads a row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "BUCKET",
    "BUCKET_CHOICES",
    "BUCKET_STEPS",
    "DAILY_SECONDS",
    "DAY",
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

BUCKET_STEPS = (
    (3600, 60),
    (DETAIL_SECONDS, 300),
    (4 * 86400, 3600),
    (14 * 86400, 21600),
    (None, 86400),
)
"""The automatic bucket: (longest range, bucket), both in seconds. It gives 25 to 100 points."""
BUCKET_CHOICES = (
    ("auto", 0),
    ("1 minute", 60),
    ("5 minutes", 300),
    ("1 hour", 3600),
    ("6 hours", 21600),
    ("1 day", 86400),
)
"""The buckets that a reader of a board may choose: (label, seconds)."""

BUCKET = "(time + @offset) / @bucket * @bucket - @offset"
"""The start of a row's bucket. Buckets of a day begin at midnight of the zone."""
DAY = "(time + @offset) / 86400 * 86400 - @offset"
"""The start of a row's day."""

_SPAN = "@to - @from"
_BY_DAY = f"({_SPAN} > {DAILY_SECONDS} AND @bucket >= 86400)"

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
    """The SQL dialect of the database a query runs in."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    CLICKHOUSE = "clickhouse"
    """A mirror of a ledger: Grafana reads it, the local page does not."""


_TOKEN = re.compile(r"@([a-z_]+)")


def tokens_of(sql: str) -> frozenset[str]:
    """Return the `@tokens` a query uses, without the at sign."""
    return frozenset(_TOKEN.findall(sql))


def render(sql: str, values: Mapping[str, str]) -> str:
    """Return `sql` with every token replaced. Values may hold tokens themselves.

    Raises:
        KeyError: A token has no value.
    """
    while "@" in sql:
        sql = _TOKEN.sub(lambda match: values[match[1]], sql)
    return sql


def where(columns: Mapping[str, str], *, prefix: str = " AND ") -> str:
    """Return conditions that hold a filter to a column, for every filter → column.

    The choice "all" lets every row through, unnamed ones too.
    """
    return "".join(
        f"{prefix}('*' IN @{name} OR {column} IN @{name})" for name, column in columns.items()
    )


def _all_of(names: Sequence[str]) -> str:
    """Return a condition that is true where none of these filters is set.

    It is constant for the database.
    """
    return " AND ".join(f"'*' IN @{name}" for name in names) or "1 = 1"


_CALL_AMOUNTS: Mapping[str, str] = {
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
_RUN_AMOUNTS: Mapping[str, str] = {
    "calls": "1",
    "cost_usd": "cost_usd",
    "duration_seconds": "duration_seconds",
}
_TOOL_AMOUNTS: Mapping[str, str] = {
    "calls": "1",
    "failed_calls": "CASE WHEN status = 'error' THEN 1 ELSE 0 END",
    "duration_seconds": "duration_seconds",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A roll-up view and the detail view that agrees with it to the second.

    `keys`: column of both sides → its SQL in the detail view. `filters`: what the detail can be
    filtered by (filter → column).
    """

    rollup: str
    detail: str
    keys: Mapping[str, str]
    filters: Mapping[str, str]
    amounts: Mapping[str, str]
    only: str = "1 = 1"
    """Which rows of the detail view belong here."""

    def rows(self, *amounts: str, since: str = "@from", until: str = "@to") -> str:
        """Return a SELECT of (time, keys, columns) in [since, until), for a CTE."""
        own = {name: column for name, column in self.filters.items() if column in self.keys}
        foreign = [name for name in self.filters if name not in own]
        long = f"({until} - {since} > {DETAIL_SECONDS} AND {_all_of(foreign)})"
        rolled_up = [f'"{key}"' for key in self.keys]
        rolled_up.extend(amounts)
        detailed = []
        for key, expression in self.keys.items():
            same = expression == key
            detailed.append(f'"{key}"' if same else f"{expression} AS {key}")
        detailed.extend(f"{self.amounts[name]} AS {name}" for name in amounts)
        hours = f"time >= {since} / 3600 * 3600 AND time < {until}"
        seconds = f"time >= {since} AND time < {until}"
        return (
            f"SELECT time, {', '.join(rolled_up)} FROM {self.rollup}\n"
            f"  WHERE {hours} AND {long}{where(own)}\n"
            f"  UNION ALL\n"
            f"  SELECT time, {', '.join(detailed)} FROM {self.detail}\n"
            f"  WHERE {seconds} AND NOT {long} AND {self.only}{where(self.filters)}"
        )


def calls_by(rollup: str, *keys: str, only: str = "1 = 1") -> Source:
    """Return billed calls, rolled up by one or two columns of the view `calls`."""
    return Source(
        rollup,
        "calls",
        {key: key for key in keys},
        {name: name for name in FILTERS},
        _CALL_AMOUNTS,
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
    _RUN_AMOUNTS,
    "status <> 'running'",
)
TOOL = Source(
    "tool_hourly",
    "steps",
    {"tool": "name", "agent": "agent"},
    _TOOL_FILTERS,
    _TOOL_AMOUNTS,
    "kind = 'tool'",
)


@dataclass(frozen=True, slots=True)
class _Latency:
    """The rows behind the latency counts of one dimension.

    `own_filter` is the filter that the counts have as their key.
    """

    view: str
    key: str
    own_filter: str | None = None
    seconds: str = "duration_seconds"
    filters: Mapping[str, str] = field(default_factory=lambda: {name: name for name in FILTERS})
    only: str = "1 = 1"


_LATENCY: Mapping[str, _Latency] = {
    "total": _Latency("calls", "NULL"),
    "model": _Latency("calls", "model", "model"),
    "crew": _Latency("calls", "crew", "crew"),
    "agent": _Latency("calls", "agent", "agent"),
    "ttft": _Latency(
        "calls", "model", "model", seconds="ttft_seconds", only="ttft_seconds IS NOT NULL"
    ),
    "tool": _Latency("steps", "name", filters=_TOOL_FILTERS, only="kind = 'tool'"),
    "run": _Latency("runs", "name", "crew", filters=_RUN_FILTERS, only="status <> 'running'"),
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
"""What the latency tables count by → its seconds. The table is ``latency_{unit}``, its time the
column of the unit's name.
"""


def _counted(dimension: str) -> str:
    """Return a condition that is true where the latency counts can answer.

    They can for a long range without a filter they have no key for.
    """
    rows = _LATENCY[dimension]
    foreign = [name for name in rows.filters if name != rows.own_filter]
    return f"({_SPAN} > {DETAIL_SECONDS} AND {_all_of(foreign)})"


def latency_of_calls(dimension: str) -> str:
    """Return a SELECT of (time, key, le_seconds, count) with one row a call.

    It serves tool calls and runs too, for what the counts cannot answer.
    """
    rows = _LATENCY[dimension]
    uncounted = f"NOT {_counted(dimension)}"
    return (
        f"SELECT time, {rows.key} AS key, {rows.seconds} AS le_seconds, 1 AS count\n"
        f"  FROM {rows.view}\n"
        f"  WHERE time >= @from AND time < @to AND {uncounted}\n"
        f"  AND {rows.only}{where(rows.filters)}"
    )


def latency_slots(dimension: str, unit: str) -> str:
    """Return a SELECT of (slot, key, total) per hour or day and label id.

    Rows come in the order they lie on disk. Days answer where the range is above `DAILY_SECONDS`
    and ``@bucket`` no shorter than a day, hours otherwise. Both are whole.
    """
    own = _LATENCY[dimension].own_filter
    kind = "model" if dimension == "ttft" else dimension
    held = ""
    if own:
        chosen = f"SELECT id FROM label WHERE kind = '{kind}' AND value IN @{own}"
        held = f" AND ('*' IN @{own} OR key IN ({chosen}))"
    switch = _BY_DAY if unit == "day" else f"NOT {_BY_DAY}"
    width = UNITS[unit]
    return (
        f"SELECT {unit} AS slot, key, SUM(count) AS total FROM latency_{unit}\n"
        f"  WHERE dimension = {LATENCY_CODES[dimension]}\n"
        f"  AND {unit} >= @from / {width} * {width} AND {unit} < @to AND key <> 0\n"
        f"  AND {_counted(dimension)} AND {switch}{held}\n"
        f"  GROUP BY {unit}, key"
    )


def latency_whole(dimension: str) -> str:
    """Return a SELECT of (time, key, le_seconds, count) to group by ``@bucket``.

    It reads whole days or hours as in `latency_slots`, or one row a call.
    """
    days = _counts("latency_daily", dimension, "@from / 86400 * 86400", "@to", _BY_DAY)
    hours = _counts("latency_hourly", dimension, "@from / 3600 * 3600", "@to", f"NOT {_BY_DAY}")
    return days + hours + latency_of_calls(dimension)


def latency(dimension: str, *, per_bucket: bool = False) -> str:
    """Return a SELECT of (time, key, le_seconds, count): a latency histogram.

    It reads the roll-ups, or one row a call for short ranges. Ranges above `DAILY_SECONDS` read
    whole days from the daily counts and only their ragged ends from the hourly ones. `per_bucket`
    says that the reader groups by ``@bucket``, so a bucket below a day needs the hours.
    """
    daily = _BY_DAY if per_bucket else f"({_SPAN} > {DAILY_SECONDS})"
    first_day = "(@from + 86399) / 86400 * 86400"
    last_day = "@to / 86400 * 86400"
    first_hour = "@from / 3600 * 3600"
    first_end = f"(CASE WHEN {daily} THEN {first_day} ELSE @to END)"
    return (
        _counts("latency_daily", dimension, first_day, last_day, daily)
        + _counts("latency_hourly", dimension, first_hour, first_end)
        + _counts("latency_hourly", dimension, last_day, "@to", daily)
        + latency_of_calls(dimension)
    )


def _counts(view: str, dimension: str, since: str, until: str, switch: str = "1 = 1") -> str:
    """Return one part of a UNION: the counts of a view in [since, until)."""
    own = _LATENCY[dimension].own_filter
    held = where({own: "key"}) if own else ""
    return (
        f"SELECT time, key, le_seconds, count FROM {view}\n"
        f"  WHERE dimension = '{dimension}' AND time >= {since} AND time < {until}\n"
        f"  AND {_counted(dimension)} AND {switch}{held}\n"
        f"  UNION ALL\n  "
    )
