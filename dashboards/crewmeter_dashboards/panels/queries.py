"""Shapes of queries that many panels share."""

from __future__ import annotations

from crewmeter_dashboards import sql

__all__ = ["COST", "NEWEST", "QUANTILES", "RUN_COST", "newest", "over_time", "quantiles", "quantiles_by", "quantiles_over_time"]

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

NEWEST = 10_000
"""Lists of single runs and tool calls look at so many of the newest in the range: no roll-up can name them, and this bounds their time."""

COST = "CASE WHEN SUM(cost_usd) = 0 AND SUM(unpriced_calls) > 0 THEN NULL ELSE SUM(cost_usd) END"
"""A sum of money that is unknown, not $0, where nothing under it has a price."""

RUN_COST = "CASE WHEN cost_usd = 0 AND unpriced_calls > 0 THEN NULL ELSE cost_usd END"
"""The same for one run."""

TOP = 7
"""Curves by name before the rest is called "other"; more colours than that nobody tells apart."""


def newest(view: str, columns: str, condition: str, *, limit: int = NEWEST) -> str:
    """SELECT of the newest rows of `view` in the range; the index on time gives them without sorting."""
    return f"SELECT {columns} FROM {view} WHERE time >= @from AND time < @to AND {condition}\n  ORDER BY time DESC LIMIT {limit}"


def over_time(rows: str, name: str, value: str, title: str) -> str:
    """(time, name, value) per bucket for the `TOP` names by value; the rest is "other", no name is "(none)"."""
    label = f"COALESCE(\"{name}\", '(none)')"
    return (
        f"WITH facts AS ({rows}),\n"
        f"top AS (SELECT COALESCE(\"{name}\", '(none)') AS label FROM facts GROUP BY 1 ORDER BY COALESCE({value}, 0) DESC LIMIT {TOP})\n"
        f"SELECT time / @bucket * @bucket AS time,\n"
        f"  CASE WHEN {label} IN (SELECT label FROM top) THEN {label} ELSE 'other' END AS {name},\n"
        f"  {value} AS {title}\n"
        "FROM facts GROUP BY 1, 2 ORDER BY 1, 2"
    )


def _quantile_columns() -> str:
    return ", ".join(f"MIN(CASE WHEN seen >= {q} * total THEN le_seconds END) AS {name}" for name, q in QUANTILES.items())


def quantiles(dimension: str) -> str:
    """One row of p50, p95 and p99 (seconds, upper bound of the histogram bucket: at most 5 % too high)."""
    return (
        f"WITH lat AS ({sql.latency(dimension)}),\n"
        "cum AS (SELECT le_seconds, SUM(SUM(count)) OVER (ORDER BY le_seconds) AS seen, SUM(SUM(count)) OVER () AS total\n"
        "  FROM lat GROUP BY le_seconds)\n"
        f"SELECT {_quantile_columns()} FROM cum"
    )


def quantiles_over_time(dimension: str) -> str:
    """p50, p95 and p99 per bucket."""
    return (
        f"WITH lat AS ({sql.latency(dimension, per_bucket=True)}),\n"
        "sums AS (SELECT time / @bucket * @bucket AS at, le_seconds, SUM(count) AS n FROM lat GROUP BY 1, 2),\n"
        "cum AS (SELECT at, le_seconds, SUM(n) OVER (PARTITION BY at ORDER BY le_seconds) AS seen,\n"
        "  SUM(n) OVER (PARTITION BY at) AS total FROM sums)\n"
        f"SELECT at AS time, {_quantile_columns()} FROM cum GROUP BY at ORDER BY at"
    )


def quantiles_by(dimension: str, name: str, *, quantile: float = 0.95) -> str:
    """(time, name, value): one quantile per bucket for each of the busiest keys of the dimension."""
    return (
        f"WITH lat AS ({sql.latency(dimension, per_bucket=True)}),\n"
        "sums AS (SELECT time / @bucket * @bucket AS at, key, le_seconds, SUM(count) AS n FROM lat\n"
        "  WHERE key IS NOT NULL GROUP BY 1, 2, 3),\n"
        f"top AS (SELECT key FROM sums GROUP BY key ORDER BY SUM(n) DESC LIMIT {TOP}),\n"
        "cum AS (SELECT at, key, le_seconds, SUM(n) OVER (PARTITION BY at, key ORDER BY le_seconds) AS seen,\n"
        "  SUM(n) OVER (PARTITION BY at, key) AS total FROM sums WHERE key IN (SELECT key FROM top))\n"
        f"SELECT at AS time, key AS {name}, MIN(le_seconds) AS seconds\n"
        f"FROM cum WHERE seen >= {quantile} * total GROUP BY at, key ORDER BY at, key"
    )
