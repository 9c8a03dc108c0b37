"""A panel's query, title and description in Grafana. It needs no Grafana SDK."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crewmeter_dashboards.panels.columnar import text_for
from crewmeter_dashboards.panels.panel import Kind, Unit
from crewmeter_dashboards.panels.words import WORDS, in_words
from crewmeter_dashboards.sql_dialects import for_grafana
from crewmeter_dashboards.sql_sources import Dialect, tokens_of
from crewmeter_dashboards.time_zones.sql import UTC

if TYPE_CHECKING:
    from crewmeter_dashboards.panels.panel import Column, Panel

__all__ = ["described", "heading", "query_text", "titled"]

_SERIES_VALUE = re.compile(r" AS (\w+)\nFROM facts")
"""The value column of `queries.over_time`."""
_SUFFIX = {Unit.USD: "USD", Unit.SHARE: "%", Unit.SECONDS: "s"}
_CALENDAR = {"day_start", "month_start", "month_end"}
"""Tokens of a query that begins at a local midnight."""


def heading(column: Column) -> str:
    """Return a table's heading in Grafana, with the unit: `Cost (USD)`.

    Units are in headings because one panel has one default unit, and the schema of v1 dashboards
    only takes overrides that are objects.
    """
    suffix = _SUFFIX.get(column.unit) if column.unit is not None else None
    return f"{column.title} ({suffix})" if suffix else column.title


def query_text(panel: Panel, dialect: Dialect, zone: str = UTC) -> str:
    """Return a panel's query as Grafana sends it, with the days of `zone`."""
    return for_grafana(_shaped(panel, dialect), dialect, zone)


def _of_calendar(panel: Panel) -> bool:
    return bool(tokens_of(panel.sql or "") & _CALENDAR)


def titled(panel: Panel, zone: str = UTC) -> str:
    """Return a panel's title: the zone stands beside amounts of a day or a month."""
    named = _of_calendar(panel) and panel.unit is Unit.USD
    return f"{panel.title} ({zone})" if named else panel.title


def described(panel: Panel, zone: str = UTC) -> str:
    """Return a panel's description, with the zone of its days and months."""
    if not _of_calendar(panel):
        return panel.description
    return f"{panel.description}\n\nDays and months are those of {zone}."


def _shaped(panel: Panel, dialect: Dialect) -> str:
    """Return a panel's query in the form its data source needs.

    Tables get headings. ClickHouse's curves need real times.
    """
    sql = text_for(panel, dialect)
    if panel.kind is Kind.TABLE:
        return _with_headings(panel, dialect)
    if panel.series in WORDS:
        sql = _series_in_words(panel, sql)
    if panel.kind in (Kind.LINES, Kind.STACK) and dialect is Dialect.CLICKHOUSE:
        return f"SELECT * REPLACE (toDateTime(time) AS time) FROM (\n{sql}\n) ORDER BY time"
    return sql


def _series_in_words(panel: Panel, sql: str) -> str:
    """Return a query of (time, name, value) whose curves are named in words."""
    series = str(panel.series)
    value = _SERIES_VALUE.search(sql)
    assert value is not None
    named = f'{in_words(series)} AS "{series}"'
    return f"SELECT time, {named}, {value[1]} FROM (\n{sql}\n) AS answer ORDER BY 1, 2"


def _with_headings(panel: Panel, dialect: Dialect) -> str:
    """Return a table's query with its columns under their headings.

    Units are in the headings, shares are in percent, times are times.
    """

    def renamed(name: str, column: Column) -> str:
        value = in_words(name)
        if column.unit is Unit.SHARE:
            value = f"100.0 * {value}"
        elif column.unit is Unit.TIME and dialect is Dialect.POSTGRESQL:
            value = f"to_timestamp({value})"
        elif column.unit is Unit.TIME and dialect is Dialect.CLICKHOUSE:
            value = f"toDateTime({value})"
        return f'{value} AS "{heading(column)}"'

    return (
        f"SELECT {', '.join(renamed(name, column) for name, column in panel.columns.items())} "
        f"FROM (\n{text_for(panel, dialect)}\n) AS answer"
    )
