"""Grafana's provisioning files.

Data sources, folders, alert rules, contact points and policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crewmeter_dashboards.boards import BOARDS
from crewmeter_dashboards.grafana_alerts import ledger_alerts
from crewmeter_dashboards.prometheus import HEADER, to_yaml
from crewmeter_dashboards.sql_dialects import for_alert
from crewmeter_dashboards.sql_sources import Dialect

if TYPE_CHECKING:
    from crewmeter_dashboards.grafana_alerts import LedgerAlert
    from crewmeter_dashboards.thresholds import Thresholds

__all__ = [
    "CLICKHOUSE_PLUGIN",
    "Sources",
    "render_alerting",
    "render_contacts",
    "render_folders",
    "render_sources",
]

_PLUGIN = {
    Dialect.SQLITE: "frser-sqlite-datasource",
    Dialect.POSTGRESQL: "grafana-postgresql-datasource",
    Dialect.CLICKHOUSE: "grafana-clickhouse-datasource",
}
CLICKHOUSE_PLUGIN = "4.15.0"
"""The version of Grafana's ClickHouse plugin whose query format the boards have; 4.x reads it."""
_LEDGER = "crewmeter-ledger"
_PROMETHEUS = "crewmeter-prometheus"
_TEMPO = "crewmeter-tempo"
_FOLDER = "crewmeter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The addresses of the data sources, as Grafana sees them.

    `path` is the SQLite file. `host` and what follows are PostgreSQL's or ClickHouse's.

    The password comes from the environment.
    """

    dialect: Dialect
    path: str = "/var/lib/crewmeter/ledger.db"
    host: str = ""
    """``host:port``; empty stands for the usual name and port of the dialect's server."""
    database: str = "crewmeter"
    user: str = "grafana_reader"
    tls: str = "disable"
    """PostgreSQL's ``sslmode``; for ClickHouse anything but "disable" means TLS."""
    prometheus: str = "http://prometheus:9090"
    tempo: str = "http://tempo:3200"
    alertmanager: str = "http://alertmanager:9093"
    boards: str = "/etc/grafana/dashboards/crewmeter"
    """Folder in Grafana's container with the boards' JSON."""


def render_sources(sources: Sources) -> str:
    """Return ``datasources/crewmeter.yml``.

    The ledger is read-only for Grafana, because Grafana sends SQL that a browser wrote.
    """
    header = (
        HEADER
        + "# Give Grafana a reader's login, or (SQLite) a file it may not write: its SQL comes "
        "from browsers.\n"
    )
    prometheus = {
        "name": "crewmeter Prometheus",
        "uid": _PROMETHEUS,
        "type": "prometheus",
        "access": "proxy",
        "url": sources.prometheus,
        "jsonData": {
            "exemplarTraceIdDestinations": [{"name": "trace_id", "datasourceUid": _TEMPO}],
            "timeInterval": "15s",
        },
    }
    tempo = {
        "name": "crewmeter Tempo",
        "uid": _TEMPO,
        "type": "tempo",
        "access": "proxy",
        "url": sources.tempo,
    }
    return to_yaml(
        {"apiVersion": 1, "datasources": [_ledger(sources), prometheus, tempo]}, header=header
    )


def _ledger(sources: Sources) -> dict[str, object]:
    base = {
        "name": "crewmeter ledger",
        "uid": _LEDGER,
        "type": _PLUGIN[sources.dialect],
        "access": "proxy",
        "isDefault": False,
    }
    if sources.dialect is Dialect.SQLITE:
        options = "mode=ro&_pragma=query_only(1)&_pragma=busy_timeout(5000)"
        return {
            **base,
            "jsonData": {"path": sources.path, "pathPrefix": "file:", "pathOptions": options},
        }
    if sources.dialect is Dialect.CLICKHOUSE:
        host, _, port = (sources.host or "clickhouse:8123").rpartition(":")
        where = {
            "host": host,
            "port": int(port),
            "protocol": "http",
            "secure": sources.tls != "disable",
        }
        return {
            **base,
            "jsonData": {
                **where,
                "username": sources.user,
                "defaultDatabase": sources.database,
                "version": CLICKHOUSE_PLUGIN,
            },
            "secureJsonData": {"password": "$CREWMETER_GRAFANA_PASSWORD"},
        }
    return {
        **base,
        "url": sources.host or "postgres:5432",
        "user": sources.user,
        "jsonData": {
            "database": sources.database,
            "sslmode": sources.tls,
            "postgresVersion": 1500,
            "timescaledb": False,
        },
        "secureJsonData": {"password": "$CREWMETER_GRAFANA_PASSWORD"},
    }


def render_folders(sources: Sources) -> str:
    """Return ``dashboards/crewmeter.yml``, which names the folder of the boards."""
    provider = {
        "name": _FOLDER,
        "orgId": 1,
        "folder": _FOLDER,
        "folderUid": _FOLDER,
        "type": "file",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "updateIntervalSeconds": 30,
        "options": {"path": sources.boards, "foldersFromFilesStructure": False},
    }
    return to_yaml({"apiVersion": 1, "providers": [provider]})


def render_alerting(thresholds: Thresholds, dialect: Dialect) -> str:
    """Return ``alerting/rules.yml``: the rules that query the ledger."""
    rules = [_rule(alert, thresholds, dialect) for alert in ledger_alerts(thresholds)]
    group = {
        "orgId": 1,
        "name": "crewmeter ledger",
        "folder": _FOLDER,
        "interval": "1m",
        "rules": rules,
    }
    return to_yaml({"apiVersion": 1, "groups": [group]})


def _rule(alert: LedgerAlert, thresholds: Thresholds, dialect: Dialect) -> dict[str, object]:
    board = next(board for board in BOARDS if board.id == alert.board)
    number = {panel.id: at for at, panel in enumerate(board.panels, start=1)}[alert.panel]
    budget = thresholds("spend", "month_budget_usd")
    query = for_alert(alert.sql, dialect, budget_usd=budget, zone=thresholds.zone)
    return {
        "uid": alert.uid,
        "title": alert.title,
        "condition": "B",
        "data": [_question(query, dialect), _condition(alert)],
        "noDataState": "OK",
        "execErrState": "Error",
        "for": alert.lasting,
        "dashboardUid": board.uid,
        "panelId": number,
        "labels": {"severity": alert.severity, "product": "crewmeter"},
        "annotations": {
            "summary": alert.summary,
            "runbook_url": thresholds.runbook_url(alert.runbook),
            "__dashboardUid__": board.uid,
            "__panelId__": str(number),
        },
    }


def _question(query: str, dialect: Dialect) -> dict[str, object]:
    model: dict[str, Any] = {"refId": "A", "datasource": {"type": _PLUGIN[dialect], "uid": _LEDGER}}
    if dialect is Dialect.SQLITE:
        model |= {
            "queryType": "table",
            "queryText": query,
            "rawQueryText": query,
            "timeColumns": [],
        }
    elif dialect is Dialect.CLICKHOUSE:
        model |= {
            "editorType": "sql",
            "format": 1,
            "queryType": "table",
            "pluginVersion": CLICKHOUSE_PLUGIN,
            "rawSql": query,
        }
    else:
        model |= {"format": "table", "rawQuery": True, "rawSql": query}
    return {
        "refId": "A",
        "relativeTimeRange": {"from": 3600, "to": 0},
        "datasourceUid": _LEDGER,
        "model": model,
    }


def _condition(alert: LedgerAlert) -> dict[str, object]:
    if alert.below is None:
        evaluator: dict[str, object] = {"type": "gt", "params": [alert.above]}
    else:
        evaluator = {"type": "within_range", "params": [alert.above, alert.below]}
    model = {
        "refId": "B",
        "type": "threshold",
        "expression": "A",
        "datasource": {"type": "__expr__", "uid": "__expr__"},
        "conditions": [{"evaluator": evaluator}],
    }
    return {
        "refId": "B",
        "relativeTimeRange": {"from": 3600, "to": 0},
        "datasourceUid": "__expr__",
        "model": model,
    }


def render_contacts(sources: Sources) -> str:
    """Return ``alerting/contacts.yml``.

    It names Alertmanager as the one receiver, and has the policy.

    Alertmanager tells pages from tickets, so receivers are configured once for both kinds of rule.
    """
    header = HEADER + (
        "# Provisioned policies replace Grafana's whole notification tree: merge them with "
        "yours where you already have one.\n"
    )
    name = "crewmeter Alertmanager"
    receiver = {
        "uid": "crewmeter-alertmanager",
        "type": "prometheus-alertmanager",
        "settings": {"url": sources.alertmanager},
    }
    policy = {
        "orgId": 1,
        "receiver": name,
        "group_by": ["grafana_folder", "alertname"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "4h",
    }
    return to_yaml(
        {
            "apiVersion": 1,
            "contactPoints": [{"orgId": 1, "name": name, "receivers": [receiver]}],
            "policies": [policy],
        },
        header=header,
    )
