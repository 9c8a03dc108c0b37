"""The boards as grafana.com takes them, with inputs for their data sources.

Whoever imports a board from there is prompted for each input, see
https://grafana.com/docs/grafana/latest/dashboards/share-dashboards-panels/.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crewmeter_dashboards.sql_sources import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["shared_board", "shared_files"]

_GRAFANA = "13.0.0"
"""The oldest Grafana whose schema the boards have."""
_PLUGINS = {
    Dialect.SQLITE: ("frser-sqlite-datasource", "SQLite", "4.0.0"),
    Dialect.POSTGRESQL: ("grafana-postgresql-datasource", "PostgreSQL", "1.0.0"),
    Dialect.CLICKHOUSE: ("grafana-clickhouse-datasource", "ClickHouse", "4.0.0"),
}
"""Dialect → plugin id, its name, the oldest version."""
_PROMETHEUS = ("prometheus", "Prometheus", "1.0.0")
_INPUTS = {"ledger": "DS_LEDGER", "prometheus": "DS_PROMETHEUS"}
"""Variable of a data source in our boards → input of a shared one.

Tempo stays a variable: a board must be imported where there is none.
"""
_PANELS = {
    "barchart": "Bar chart",
    "bargauge": "Bar gauge",
    "gauge": "Gauge",
    "heatmap": "Heatmap",
    "piechart": "Pie chart",
    "stat": "Stat",
    "table": "Table",
    "text": "Text",
    "timeseries": "Time series",
}
_IMAGES = "https://crewmeter.readthedocs.io/en/stable/images"
_PICTURES = {
    "overview": f"{_IMAGES}/page-overview-light.png",
    **{
        name: f"{_IMAGES}/board-{name}-light.png"
        for name in ("crews", "models", "spend", "pipeline")
    },
}
"""Board → a picture of the same panels on the local page."""


def shared_board(text: str, dialect: Dialect) -> dict[str, Any]:
    """Return a shipped board with ``__inputs`` and ``__requires``, from its text.

    Its data sources are inputs, and the variables that chose them are gone.
    """
    for variable, name in _INPUTS.items():
        text = text.replace(f"${{{variable}}}", f"${{{name}}}")
    board: dict[str, Any] = json.loads(text)
    variables = board["templating"]["list"]
    board["templating"]["list"] = [
        variable for variable in variables if variable["name"] not in _INPUTS
    ]
    uses_prometheus = f"${{{_INPUTS['prometheus']}}}" in text
    sources = [("DS_LEDGER", "The ledger", _PLUGINS[dialect])]
    if uses_prometheus:
        sources.append(("DS_PROMETHEUS", "Prometheus of the sidecar", _PROMETHEUS))
    inputs = [_input(name, what, plugin) for name, what, plugin in sources]
    kinds = sorted(set(_panel_kinds(board["panels"])) - {"row"})
    requires = [
        _required("grafana", "grafana", "Grafana", _GRAFANA),
        *(_required("datasource", *plugin) for _, _, plugin in sources),
        *(_required("panel", kind, _PANELS.get(kind, kind), "") for kind in kinds),
    ]
    # What stands first is what a reader of the file sees first.
    head: dict[str, Any] = {"__inputs": inputs, "__elements": {}, "__requires": requires}
    return head | {"id": None} | board | {"editable": True}


def shared_files(shipped: Mapping[str, str], dialect: Dialect, folder: str) -> dict[str, str]:
    """Return one dialect's files by path: the boards, and a text for each."""
    files: dict[str, str] = {}
    for name, text in shipped.items():
        board = shared_board(text, dialect)
        stem = name.removesuffix(".json")
        files[f"{folder}/{name}"] = json.dumps(board, indent=2) + "\n"
        files[f"{folder}/{stem}.md"] = _page(board, dialect, stem)
    return files


def _picture(title: str, stem: str) -> list[str]:
    picture = _PICTURES.get(stem)
    if picture is None:
        return []
    return [f"![{title}]({picture})", ""]


def _input(name: str, what: str, plugin: tuple[str, str, str]) -> dict[str, str]:
    plugin_id, plugin_name, _ = plugin
    return {
        "name": name,
        "label": what,
        "description": "",
        "type": "datasource",
        "pluginId": plugin_id,
        "pluginName": plugin_name,
    }


def _required(kind: str, identity: str, name: str, version: str) -> dict[str, str]:
    return {"type": kind, "id": identity, "name": name, "version": version}


def _panel_kinds(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        yield panel["type"]
        yield from _panel_kinds(panel.get("panels", []))


def _page(board: Mapping[str, Any], dialect: Dialect, stem: str) -> str:
    """Return the text of a board's page on grafana.com."""
    _, plugin, _ = _PLUGINS[dialect]
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    lines = [
        f"# {board['title']}",
        "",
        f"{board['description']}",
        "",
        *_picture(board["title"], stem),
        "For [crewmeter](https://crewmeter.readthedocs.io), the meter for CrewAI: every token a",
        "crew is billed for, priced exactly or marked as unpriced.",
        "",
        f"It reads crewmeter's ledger in {plugin}, and its metrics in Prometheus. Install",
        "crewmeter, run `crewmeter serve`, and choose both data sources at import.",
    ]
    if rows:
        lines += ["", "What is on it:", "", *(f"- {row}" for row in rows)]
    return "\n".join(lines) + "\n"
