"""The values of a query's tokens for Grafana, its alert rules and the local page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crewmeter_dashboards.sql_sources import BUCKET_STEPS, FILTERS, Dialect, render
from crewmeter_dashboards.time_zones.sql import UTC, ZONED, without_offset, zone_values

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["for_alert", "for_grafana", "for_page"]

UNPRICED = "unpriced = 1"
_SQLITE: Mapping[str, str] = {
    "now": "CAST(strftime('%s', 'now') AS INTEGER)",
    "detail_cached": "CAST(COALESCE(json_extract(details, '$.cached'), 0) AS TEXT)",
    "detail_attempts": "COALESCE(json_extract(details, '$.attempts'), 1)",
}
_POSTGRESQL: Mapping[str, str] = {
    "now": "CAST(EXTRACT(EPOCH FROM now()) AS BIGINT)",
    "detail_cached": "COALESCE(CAST(details AS JSON) ->> 'cached', '0')",
    "detail_attempts": "COALESCE(CAST(details AS JSON) ->> 'attempts', '1')",
}
_CLICKHOUSE: Mapping[str, str] = {
    "now": "toInt64(toUnixTimestamp(now()))",
    "detail_cached": "JSONExtractRaw(COALESCE(details, '{}'), 'cached')",
    "detail_attempts": "JSONExtractInt(COALESCE(details, '{}'), 'attempts')",
}
_COMMON = {
    Dialect.SQLITE: _SQLITE,
    Dialect.POSTGRESQL: _POSTGRESQL,
    Dialect.CLICKHOUSE: _CLICKHOUSE,
}

_ROUNDED = re.compile(r"(\([^()]*\)|[@\w]+) / ([@\w]+) \* \2\b")
"""``time / 3600 * 3600``: down to the hour where ``/`` divides integers. In ClickHouse it does not.
"""
_STANDARD = (
    "join_use_nulls = 1, aggregate_functions_null_for_empty = 1, "
    "prefer_column_name_to_alias = 1, union_default_mode = 'ALL'"
)
"""ClickHouse's settings for what the other two do: NULL where a join or an empty sum has nothing,
columns before aliases of one name.
"""


def _spoken(sql: str, dialect: Dialect) -> str:
    """Return `sql` in the dialect, where a token's value alone cannot express it."""
    if dialect is not Dialect.CLICKHOUSE:
        return sql
    # A rounding may hold another one, so what a pass leaves the next one finds.
    while _ROUNDED.search(sql):
        sql = _ROUNDED.sub(_rounded, sql)
    return f"{sql}\nSETTINGS {_STANDARD}"


def _offset_free(sql: str, zone: str) -> str:
    """Return `sql` without offsets in UTC, where there are none."""
    return without_offset(sql) if zone == UTC else sql


def _rounded(match: re.Match[str]) -> str:
    return f"intDiv({match[1]}, {match[2]}) * {match[2]}"


def _milliseconds(name: str, dialect: Dialect) -> str:
    """Return Grafana's variable `name` (unix milliseconds) in seconds."""
    return f"intDiv({name}, 1000)" if dialect is Dialect.CLICKHOUSE else f"({name} / 1000)"


def _auto_bucket() -> str:
    """Return the SQL of Grafana's bucket: the reader's choice, else that of the range."""
    *steps, (_, widest) = BUCKET_STEPS
    cases = " ".join(f"WHEN @to - @from <= {longest} THEN {bucket}" for longest, bucket in steps)
    return f"(CASE WHEN $bucket > 0 THEN $bucket {cases} ELSE {widest} END)"


def for_grafana(sql: str, dialect: Dialect, zone: str = UTC) -> str:
    """Return `sql` for a Grafana panel, with the dashboard's range and variables.

    Days and months are those of `zone`.
    """
    values = {
        **_COMMON[dialect],
        **zone_values(dialect, zone),
        "from": _milliseconds("$__from", dialect),
        "to": _milliseconds("$__to", dialect),
        "bucket": _auto_bucket(),
        "budget": "$budget",
        "unpriced": UNPRICED,
        **{name: f"(${{{name}:sqlstring}})" for name in FILTERS},
    }
    return render(_spoken(_offset_free(sql, zone), dialect), values)


def for_alert(sql: str, dialect: Dialect, *, budget_usd: float, zone: str = UTC) -> str:
    """Return `sql` for a Grafana-managed rule.

    A rule has no dashboard, so its range ends now and every filter is "all". Days and months are
    those of `zone`.
    """
    values = {
        **_COMMON[dialect],
        **zone_values(dialect, zone),
        "from": "(@now - 3600)",
        "to": "@now",
        "budget": f"{budget_usd:g}",
        "unpriced": UNPRICED,
        **dict.fromkeys(FILTERS, "('*')"),
    }
    return render(_spoken(_offset_free(sql, zone), dialect), values)


def for_page(sql: str, dialect: Dialect) -> str:
    """Return `sql` with bound parameters.

    They are ``:from_ :to :bucket :budget``, the bounds in `ZONED`, and one list a filter.

    PostgreSQL needs their types. SQLite must not have them: beside a cast it does not use the
    index on the seconds of a call's start.
    """
    number = "CAST(:{} AS BIGINT)" if dialect is Dialect.POSTGRESQL else ":{}"
    values = {
        **_COMMON[dialect],
        "from": number.format("from_"),
        "to": number.format("to"),
        "bucket": number.format("bucket"),
        **{name: number.format(name) for name in ZONED},
        "budget": "CAST(:budget AS DOUBLE PRECISION)",
        "unpriced": UNPRICED,
        **{name: f":{name}" for name in FILTERS},
    }
    return render(sql, values)
