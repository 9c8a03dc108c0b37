"""Shapes of queries that many panels share."""

from __future__ import annotations

from crewmeter_dashboards import sql_sources

__all__ = [
    "COST",
    "NEWEST",
    "QUANTILES",
    "RUN_COST",
    "TOP",
    "newest",
    "over_time",
    "quantiles",
    "quantiles_by",
    "quantiles_over_time",
]

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

NEWEST = 10_000
"""Lists of single runs and tool calls look at so many of the newest in the range: no roll-up can
name them, and this bounds their time.
"""

COST = "CASE WHEN SUM(cost_usd) = 0 AND SUM(unpriced_calls) > 0 THEN NULL ELSE SUM(cost_usd) END"
"""A sum of money that is unknown, not $0, where nothing under it has a price."""

RUN_COST = "CASE WHEN cost_usd = 0 AND unpriced_calls > 0 THEN NULL ELSE cost_usd END"
"""The same for one run."""

TOP = 7
"""Curves by name before the rest is called "(other)": nobody tells more colours apart."""


def newest(view: str, columns: str, condition: str, *, limit: int = NEWEST) -> str:
    """Return a SELECT of the newest rows of `view` in the range.

    The index on time gives them without sorting.
    """
    return (
        f"SELECT {columns} FROM {view} WHERE time >= @from AND time < @to AND {condition}\n  "
        f"ORDER BY time DESC LIMIT {limit}"
    )


def over_time(rows: str, name: str, value: str, title: str) -> str:
    """Return SQL for (time, name, value) per bucket for the top names by value.

    The names after the first `TOP` are "(other)", no name is "(none)".
    """
    label = f"COALESCE(\"{name}\", '(none)')"
    return (
        f"WITH facts AS ({rows}),\n"
        f"top AS (SELECT COALESCE(\"{name}\", '(none)') AS label FROM facts GROUP BY 1 ORDER BY "
        f"COALESCE({value}, 0) DESC LIMIT {TOP})\n"
        f"SELECT {sql_sources.BUCKET} AS time,\n"
        f"  CASE WHEN {label} IN (SELECT label FROM top) THEN {label}"
        f" ELSE '(other)' END AS {name},\n"
        f"  {value} AS {title}\n"
        "FROM facts GROUP BY 1, 2 ORDER BY 1, 2"
    )


def _quantile_columns() -> str:
    return ", ".join(
        f"MIN(CASE WHEN seen >= {q} * total THEN le_seconds END) AS {name}"
        for name, q in QUANTILES.items()
    )


def quantiles(dimension: str) -> str:
    """Return SQL for one row of p50, p95 and p99 (seconds).

    Each is the upper bound of its histogram bucket, at most 5 % too high.
    """
    return (
        f"WITH lat AS ({sql_sources.latency(dimension)}),\n"
        "cum AS (SELECT le_seconds, SUM(SUM(count)) OVER (ORDER BY le_seconds) AS seen, "
        "SUM(SUM(count)) OVER () AS total\n"
        "  FROM lat GROUP BY le_seconds)\n"
        f"SELECT {_quantile_columns()} FROM cum"
    )


def quantiles_over_time(dimension: str) -> str:
    """Return SQL for p50, p95 and p99 per bucket."""
    return (
        f"WITH lat AS ({sql_sources.latency(dimension, per_bucket=True)}),\n"
        "sums AS (SELECT time / @bucket * @bucket AS at, le_seconds, SUM(count) AS n FROM lat "
        "GROUP BY 1, 2),\n"
        "cum AS (SELECT at, le_seconds, SUM(n) OVER (PARTITION BY at ORDER BY le_seconds) AS "
        "seen,\n"
        "  SUM(n) OVER (PARTITION BY at) AS total FROM sums)\n"
        f"SELECT at AS time, {_quantile_columns()} FROM cum GROUP BY at ORDER BY at"
    )


def quantiles_by(dimension: str, name: str, *, quantile: float = 0.95) -> str:
    """Return SQL for one quantile per bucket and busiest key of the dimension.

    Of hours or days only the totals are read first, which lie in order; then each point of the
    busiest adds up its own counts. Sorting all counts for running sums took four times as long.
    Only one of the three parts below is switched on.
    """
    parts = [_quantile_points(dimension, unit, name, quantile) for unit in sql_sources.UNITS]
    points = "\nUNION ALL\n".join(select for _, select in parts)
    return (
        f"WITH RECURSIVE {', '.join(tables for tables, _ in parts)},\n"
        f"lat AS ({sql_sources.latency_of_calls(dimension)}),\n"
        "sums AS (SELECT time / @bucket * @bucket AS at, key, le_seconds, SUM(count) AS n FROM "
        "lat\n"
        "  WHERE key IS NOT NULL GROUP BY 1, 2, 3),\n"
        f"top AS (SELECT key FROM sums GROUP BY key ORDER BY SUM(n) DESC LIMIT {TOP}),\n"
        "cum AS (SELECT at, key, le_seconds, SUM(n) OVER (PARTITION BY at, key ORDER BY "
        "le_seconds) AS seen,\n"
        "  SUM(n) OVER (PARTITION BY at, key) AS total FROM sums WHERE key IN (SELECT key FROM "
        "top))\n"
        f"{points}\nUNION ALL\n"
        f"SELECT at AS time, key AS {name}, MIN(le_seconds) AS seconds FROM cum WHERE seen >= "
        f"{quantile} * total GROUP BY at, key\n"
        "ORDER BY 1, 2"
    )


def _quantile_points(dimension: str, unit: str, name: str, quantile: float) -> tuple[str, str]:
    """Return the CTEs that count by one unit of time, and the SELECT of the points.

    A point is (time, name, seconds).
    """
    width = sql_sources.UNITS[unit]
    slot = f"((p.at + {width - 1}) / {width} * {width} + s.i)"
    tables = (
        f"{unit}_steps(i) AS (SELECT 0 UNION ALL SELECT i + {width} FROM {unit}_steps WHERE i + "
        f"{width} < @bucket),\n"
        f"{unit}_slots AS ({sql_sources.latency_slots(dimension, unit)}),\n"
        f"{unit}_points AS (SELECT slot / @bucket * @bucket AS at, key, SUM(total) AS total FROM "
        f"{unit}_slots GROUP BY 1, 2),\n"
        f"{unit}_top AS (SELECT key FROM {unit}_points GROUP BY key ORDER BY SUM(total) DESC "
        f"LIMIT {TOP})"
    )
    walk = (
        "SELECT MAX(bucket) FROM (SELECT l.bucket, SUM(SUM(l.count)) OVER (ORDER BY l.bucket "
        "DESC) AS slower\n"
        f"    FROM {unit}_steps AS s CROSS JOIN latency_{unit} AS l\n"
        f"    WHERE l.dimension = {sql_sources.LATENCY_CODES[dimension]} AND l.{unit} = {slot} "
        f"AND l.key = p.key AND {slot} < p.at + @bucket\n"
        f"    AND {slot} >= @from / {width} * {width} AND {slot} < @to GROUP BY l.bucket) AS w\n"
        f"    WHERE p.total - w.slower < {quantile} * p.total"
    )
    points = (
        f"SELECT p.at AS time, (SELECT value FROM label WHERE id = p.key) AS {name},\n"
        f"  (SELECT le_seconds FROM latency_bucket WHERE bucket = ({walk})) AS seconds\n"
        f"FROM {unit}_points AS p WHERE p.key IN (SELECT key FROM {unit}_top)"
    )
    return tables, points
