"""Boards as Grafana dashboards (v1 JSON)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crewmeter_dashboards.boards import BOARDS, VARIABLE_SQL
from crewmeter_dashboards.grafana_sdk import (
    Builder,
    Dataquery,
    JSONEncoder,
    PromQueryFormat,
    build,
    common,
    dashboard,
    prometheus,
)
from crewmeter_dashboards.grafana_style import styled
from crewmeter_dashboards.panels import CATALOGUE
from crewmeter_dashboards.panels.grafana_text import described, heading, query_text, titled
from crewmeter_dashboards.panels.panel import Kind, Unit
from crewmeter_dashboards.provisioning import CLICKHOUSE_PLUGIN
from crewmeter_dashboards.sql_dialects import for_grafana
from crewmeter_dashboards.sql_sources import BUCKET_CHOICES, FILTERS, Dialect
from crewmeter_dashboards.time_zones.sql import UTC

if TYPE_CHECKING:
    from crewmeter_dashboards.boards import Board, Cell
    from crewmeter_dashboards.panels.panel import Panel

__all__ = ["PLUGIN", "panel_ids", "render_board"]

PLUGIN = {
    Dialect.SQLITE: "frser-sqlite-datasource",
    Dialect.POSTGRESQL: "grafana-postgresql-datasource",
    Dialect.CLICKHOUSE: "grafana-clickhouse-datasource",
}
"""Dialect → Grafana's data source type."""

_INTERVAL_ONLY = ("auto", "auto_count", "auto_min")
"""Keys of interval variables, which the SDK writes into every variable; Grafana's own types know
them nowhere.
"""

_LEDGER_REF = "${ledger}"
_PROMETHEUS_REF = common.DataSourceRef(type_val="prometheus", uid="${prometheus}")


class _SQLQuery(Dataquery):
    """A target of the SQLite, ClickHouse or PostgreSQL data source.

    The SDK has a class for none of them.
    """

    def __init__(self, panel: Panel, dialect: Dialect) -> None:
        self._sql, self._dialect = query_text(panel, dialect), dialect
        self._series = panel.kind in (Kind.LINES, Kind.STACK)
        dates = [heading(column) for column in panel.columns.values() if column.unit is Unit.TIME]
        self._times = ["time"] if self._series else dates

    def to_json(self) -> dict[str, object]:
        """Return the target's JSON."""
        common_keys = {
            "datasource": {"type": PLUGIN[self._dialect], "uid": _LEDGER_REF},
            "refId": "A",
        }
        return common_keys | _TARGETS[self._dialect](self)

    def _sqlite(self) -> dict[str, object]:
        return {
            "queryType": "time series" if self._series else "table",
            "queryText": self._sql,
            "rawQueryText": self._sql,
            "timeColumns": self._times,
        }

    def _clickhouse(self) -> dict[str, object]:
        # The plugin's own key wants sqlds' codes (0 time series, 1 table), its editor the words.
        code, words = (0, "timeseries") if self._series else (1, "table")
        return {
            "editorType": "sql",
            "format": code,
            "queryType": words,
            "pluginVersion": CLICKHOUSE_PLUGIN,
            "rawSql": self._sql,
        }

    def _postgresql(self) -> dict[str, object]:
        return {
            "format": "time_series" if self._series else "table",
            "editorMode": "code",
            "rawQuery": True,
            "rawSql": self._sql,
        }


_TARGETS = {
    Dialect.SQLITE: _SQLQuery._sqlite,
    Dialect.CLICKHOUSE: _SQLQuery._clickhouse,
    Dialect.POSTGRESQL: _SQLQuery._postgresql,
}


class _SQLTarget(Builder[_SQLQuery]):
    """An SQL query as the object with ``build`` that the SDK's panels expect."""

    def __init__(self, query: _SQLQuery) -> None:
        self._query = query

    def build(self) -> _SQLQuery:
        """Return the query."""
        return self._query


def panel_ids(board: Board) -> dict[str, int]:
    """Return panel → its number on the board. Alert rules point at it."""
    return {panel.id: number for number, panel in enumerate(board.panels, start=1)}


def _prometheus_targets(panel: Panel) -> list[prometheus.Dataquery]:
    targets = []
    for ref, (legend, expression) in zip("ABCDEF", panel.promql.items(), strict=False):
        target = (
            prometheus.Dataquery()
            .expr(expression)
            .legend_format(legend)
            .ref_id(ref)
            .datasource(_PROMETHEUS_REF)
        )
        if panel.kind is Kind.HEATMAP:
            target = target.format(PromQueryFormat.HEATMAP)
        targets.append(target.instant() if panel.kind is Kind.STAT else target.range())
    return targets


def _panel(panel: Panel, cell: Cell, number: int, dialect: Dialect) -> Any:
    ledger = common.DataSourceRef(type_val=PLUGIN[dialect], uid=_LEDGER_REF)
    drawn = (
        styled(panel)
        .id(number)
        .title(titled(panel))
        .description(described(panel))
        .no_value(panel.empty)
    )
    drawn = (
        drawn.span(cell.width)
        .height(cell.height)
        .datasource(ledger if panel.sql else _PROMETHEUS_REF)
    )
    if panel.sql:
        drawn = drawn.with_target(_SQLTarget(_SQLQuery(panel, dialect)))
    for target in _prometheus_targets(panel):
        drawn = drawn.with_target(target)
    return drawn


def _source_variables(dialect: Dialect) -> list[Any]:
    def source(name: str, label: str, plugin: str) -> Any:
        return build.DatasourceVariable(name).label(label).type(plugin)

    return [
        source("ledger", "Ledger", PLUGIN[dialect]),
        source("prometheus", "Prometheus", "prometheus"),
        source("tempo", "Traces", "tempo").hide(dashboard.VariableHide.HIDE_VARIABLE),
    ]


def _filter_variable(name: str, dialect: Dialect) -> Any:
    query = for_grafana(VARIABLE_SQL[name], dialect)
    return (
        build.QueryVariable(name)
        .label(FILTERS[name])
        .datasource(common.DataSourceRef(type_val=PLUGIN[dialect], uid=_LEDGER_REF))
        .query(query)
        .multi(True)
        .include_all(True)
        .all_value("'*'")  # Grafana puts it in as it stands, so it carries its own quotes
        .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _bucket_variable() -> Any:
    options = [
        dashboard.VariableOption(selected=value == 0, text=text, value=str(value))
        for text, value in BUCKET_CHOICES
    ]
    return (
        build.CustomVariable("bucket")
        .label("Bucket")
        .values(", ".join(f"{text} : {value}" for text, value in BUCKET_CHOICES))
        .options(options)
        .current(options[0])
    )


def _page_variable(address: str) -> Any:
    """Return where the browser reaches crewmeter's page, for links to runs."""
    option = dashboard.VariableOption(selected=True, text=address, value=address)
    return (
        build.TextBoxVariable("page")
        .label("crewmeter page")
        .default_value(address)
        .options([option])
        .current(option)
    )


def _alert_annotations() -> dict[str, object]:
    """Return the layers that mark alerts on every time series.

    Grafana's own rules come with its built-in layer, those of Prometheus with a query.
    """
    own = {
        "builtIn": 1,
        "name": "Annotations & Alerts",
        "type": "dashboard",
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
    }
    firing = {
        "name": "Alerts",
        "datasource": {"type": "prometheus", "uid": "${prometheus}"},
        "enable": True,
        "iconColor": "#D6455D",
        "expr": 'ALERTS{alertstate="firing", product="crewmeter"}',
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "tagKeys": "severity",
    }
    return {"list": [own, firing]}


def _budget_variable(budget_usd: float) -> Any:
    text = f"{budget_usd:g}"
    option = dashboard.VariableOption(selected=True, text=text, value=text)
    return (
        build.TextBoxVariable("budget")
        .label("Budget (USD a month)")
        .default_value(text)
        .options([option])
        .current(option)
    )


def render_board(
    board: Board, dialect: Dialect, *, budget_usd: float, page: str = "http://127.0.0.1:8318"
) -> str:
    """Return the board as JSON text for a Grafana whose ledger speaks `dialect`."""
    numbers = panel_ids(board)
    drawn = (
        build.Dashboard(f"crewmeter / {board.title}")
        .uid(board.uid)
        .description(board.description)
        .tags(["crewmeter"])
        .time(board.since, "now")
        .refresh("1m")
        .timezone(UTC.lower())
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .variables(
            [
                *_source_variables(dialect),
                *(_filter_variable(name, dialect) for name in board.filters),
                _bucket_variable(),
                _page_variable(page),
            ]
        )
        .links(_links(board))
    )
    if any(panel.sql and "@budget" in panel.sql for panel in board.panels):
        drawn = drawn.with_variable(_budget_variable(budget_usd))
    row_id = 100
    for row in board.rows:
        drawn = drawn.with_row(build.Row(row.title).id(row_id))
        row_id += 1
        for cell in row.cells:
            drawn = drawn.with_panel(
                _panel(CATALOGUE[cell.panel], cell, numbers[cell.panel], dialect)
            )
    document = json.loads(json.dumps(drawn.build(), cls=JSONEncoder))
    document["annotations"] = _alert_annotations()
    for variable in document["templating"]["list"]:
        for name in _INTERVAL_ONLY:
            variable.pop(name, None)
    return json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def _links(board: Board) -> list[Any]:
    return [
        build.DashboardLink(other.title)
        .type(dashboard.DashboardLinkType.LINK)
        .url(f"/d/{other.uid}")
        .icon("dashboard")
        .tooltip(other.description)
        .keep_time(True)
        .include_vars(True)
        for other in BOARDS
        if other is not board
    ]
