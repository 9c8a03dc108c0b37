"""What a query's tokens become: Grafana's variables in its SQL panels, bound parameters on the local page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_dashboards.sql import DETAIL_SECONDS, FILTERS, Dialect, render

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["for_alert", "for_grafana", "for_page"]

UNPRICED = "unpriced = 1"

_SQLITE: Mapping[str, str] = {
    "now": "CAST(strftime('%s', 'now') AS INTEGER)",
    "day_start": "CAST(strftime('%s', @to, 'unixepoch', 'start of day') AS INTEGER)",
    "month_start": "CAST(strftime('%s', @to, 'unixepoch', 'start of month') AS INTEGER)",
    "month_end": "CAST(strftime('%s', @to, 'unixepoch', 'start of month', '+1 month') AS INTEGER)",
    "detail_cached": "CAST(COALESCE(json_extract(details, '$.cached'), 0) AS TEXT)",
    "detail_attempts": "COALESCE(json_extract(details, '$.attempts'), 1)",
}
_POSTGRESQL: Mapping[str, str] = {
    "now": "CAST(EXTRACT(EPOCH FROM now()) AS BIGINT)",
    "day_start": "CAST(EXTRACT(EPOCH FROM date_trunc('day', to_timestamp(@to) AT TIME ZONE 'UTC')) AS BIGINT)",
    "month_start": "CAST(EXTRACT(EPOCH FROM date_trunc('month', to_timestamp(@to) AT TIME ZONE 'UTC')) AS BIGINT)",
    "month_end": ("CAST(EXTRACT(EPOCH FROM date_trunc('month', to_timestamp(@to) AT TIME ZONE 'UTC') + INTERVAL '1 month') AS BIGINT)"),
    "detail_cached": "COALESCE(CAST(details AS JSON) ->> 'cached', '0')",
    "detail_attempts": "COALESCE(CAST(details AS JSON) ->> 'attempts', '1')",
}
_COMMON = {Dialect.SQLITE: _SQLITE, Dialect.POSTGRESQL: _POSTGRESQL}

_AUTO_BUCKET = (
    "(CASE WHEN $bucket > 0 THEN $bucket WHEN @to - @from <= 3600 THEN 60 "
    f"WHEN @to - @from <= {DETAIL_SECONDS} THEN 300 WHEN @to - @from <= 345600 THEN 3600 "
    "WHEN @to - @from <= 1209600 THEN 21600 ELSE 86400 END)"
)
"""About 25 to 100 points a panel; must say what the page's `ranges.auto_bucket` says."""


def for_grafana(sql: str, dialect: Dialect) -> str:
    """`sql` for a Grafana panel: the dashboard's range and variables stand where the tokens were."""
    values = {
        **_COMMON[dialect],
        "from": "($__from / 1000)",
        "to": "($__to / 1000)",
        "bucket": _AUTO_BUCKET,
        "budget": "$budget",
        "unpriced": UNPRICED,
        **{name: f"(${{{name}:sqlstring}})" for name in FILTERS},
    }
    return render(sql, values)


def for_alert(sql: str, dialect: Dialect, *, budget_usd: float) -> str:
    """`sql` for a Grafana-managed rule, which has no dashboard: it looks at the moment it runs, and at everything."""
    values = {
        **_COMMON[dialect],
        "from": "(@now - 3600)",
        "to": "@now",
        "budget": f"{budget_usd:g}",
        "unpriced": UNPRICED,
        **dict.fromkeys(FILTERS, "('*')"),
    }
    return render(sql, values)


def for_page(sql: str, dialect: Dialect) -> str:
    """`sql` with bound parameters: ``:from_ :to :bucket :budget`` and one list a filter.

    PostgreSQL must be told their types. SQLite must not: beside a cast it does not use the index on the seconds of a call's start.
    """
    number = "CAST(:{} AS BIGINT)" if dialect is Dialect.POSTGRESQL else ":{}"
    values = {
        **_COMMON[dialect],
        "from": number.format("from_"),
        "to": number.format("to"),
        "bucket": number.format("bucket"),
        "budget": "CAST(:budget AS DOUBLE PRECISION)",
        "unpriced": UNPRICED,
        **{name: f":{name}" for name in FILTERS},
    }
    return render(sql, values)
