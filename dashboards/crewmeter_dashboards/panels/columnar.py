"""Panels whose SQL differs for ClickHouse.

Percentile curves walk the latency counts through their primary key, point by point. A column store
has no such key and no tables but the views: there one pass over the range is the quick way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_dashboards import sql_sources
from crewmeter_dashboards.panels.queries import TOP
from crewmeter_dashboards.sql_sources import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_dashboards.panels.panel import Panel

__all__ = ["text_for"]


def _p95_by(dimension: str, name: str) -> str:
    """Return SQL for (time, name, p95) by running sums, as `queries.quantiles_by`."""
    return (
        f"WITH lat AS ({sql_sources.latency_whole(dimension)}),\n"
        "sums AS (SELECT time / @bucket * @bucket AS at, key, le_seconds, SUM(count) AS n FROM "
        "lat\n"
        "  WHERE key IS NOT NULL GROUP BY 1, 2, 3),\n"
        f"top AS (SELECT key FROM sums GROUP BY key ORDER BY SUM(n) DESC LIMIT {TOP}),\n"
        "cum AS (SELECT at, key, le_seconds, SUM(n) OVER (PARTITION BY at, key ORDER BY "
        "le_seconds) AS seen,\n"
        "  SUM(n) OVER (PARTITION BY at, key) AS total FROM sums WHERE key IN (SELECT key FROM "
        "top))\n"
        f"SELECT at AS time, key AS {name}, MIN(le_seconds) AS seconds\n"
        "FROM cum WHERE seen >= 0.95 * total GROUP BY at, key ORDER BY at, key"
    )


_CLICKHOUSE: Mapping[str, str] = {
    "model_p95": _p95_by("model", "model"),
    "ttft_by_model": _p95_by("ttft", "model"),
    "tool_p95": _p95_by("tool", "tool"),
    "run_p95_by_name": _p95_by("run", "name"),
    "agent_p95": _p95_by("agent", "agent"),
}
"""Panel → its text, with the same tokens and columns."""


def text_for(panel: Panel, dialect: Dialect) -> str:
    """Return the panel's SQL for a dialect with its tokens, or an empty text."""
    own = _CLICKHOUSE.get(panel.id) if dialect is Dialect.CLICKHOUSE else None
    return own or panel.sql or ""
