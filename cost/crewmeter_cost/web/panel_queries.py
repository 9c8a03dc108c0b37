"""Queries of the panel catalogue, run on a ledger.

The SQL comes from the catalogue alone. What a browser sends is only ever bound.
"""

from __future__ import annotations

import json
import math
import time
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text

from crewmeter_cost.errors import NotInCatalogueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import TextClause
    from sqlalchemy.engine import Engine

    from crewmeter_cost.web.params import PanelParameters

__all__ = [
    "ask",
    "ask_panel",
    "catalogue",
    "choices",
    "public_catalogue",
]


_DAY = 86400


@cache
def catalogue() -> dict[str, Any]:
    """Return the committed catalogue (`crewmeter_dashboards.local_page` writes it)."""
    document: dict[str, Any] = json.loads(
        resources.files("crewmeter_cost.web").joinpath("panels.json").read_text("utf-8")
    )
    return document


@cache
def public_catalogue() -> dict[str, object]:
    """Return the catalogue as the browser gets it: without SQL."""
    document = catalogue()
    panels = {}
    for name, panel in document["panels"].items():
        panels[name] = {key: value for key, value in panel.items() if key != "sql"}
    filters = {}
    for name, entry in document["filters"].items():
        filters[name] = {"label": entry["label"]}
    return {**document, "panels": panels, "filters": filters}


@cache
def _statement(sql: str, lists: tuple[str, ...]) -> TextClause:
    used = [name for name in lists if f":{name}" in sql]
    return text(sql).bindparams(*(bindparam(name, expanding=True) for name in used))


def ask(
    engine: Engine, sql: str, parameters: Mapping[str, object], *, lists: Iterable[str] = ()
) -> dict[str, object]:
    """Return columns and rows of a query, as JSON can hold them, and its milliseconds.

    `lists` names the parameters that are lists.
    """
    statement = _statement(sql, tuple(lists))
    used = statement.compile().params
    bound = {name: value for name, value in parameters.items() if name in used}
    started = time.perf_counter()
    with engine.connect() as connection:
        result = connection.execute(statement, bound)
        columns = list(result.keys())
        rows = [[_plain(value) for value in row] for row in result]
    milliseconds = (time.perf_counter() - started) * 1000
    return {"columns": columns, "rows": rows, "milliseconds": round(milliseconds, 1)}


def _plain(value: object) -> object:
    """Return a value that JSON and JavaScript hold exactly, where there is one."""
    if isinstance(value, Decimal):
        is_whole = value == value.to_integral_value()
        if is_whole and abs(value) < 2**53:
            return int(value)
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def ask_panel(engine: Engine, panel: str, parameters: PanelParameters) -> dict[str, object]:
    """Return the rows of one panel, its time axis and its bucket.

    Raises `NotInCatalogueError` for an unknown panel.
    """
    entry = catalogue()["panels"].get(panel)
    if entry is None:
        raise NotInCatalogueError(f"there is no panel {panel!r}")
    sql = entry["sql"][engine.dialect.name]
    found = ask(
        engine,
        sql,
        parameters.parameters(),
        lists=parameters.filters,
    )
    since = parameters.runs_since(entry["runs"]["since"])
    if since is not None:
        found["runs"] = (since, parameters.until)
    if entry["range"] == "month":
        return {**found, "range": parameters.month, "bucket": _DAY}
    return {**found, "range": (parameters.since, parameters.until), "bucket": parameters.bucket}


def choices(engine: Engine, name: str, parameters: PanelParameters) -> list[object]:
    """Return the names a filter can be set to: those seen in the range.

    Raises `NotInCatalogueError` for an unknown filter.
    """
    entry = catalogue()["filters"].get(name)
    if entry is None:
        raise NotInCatalogueError(f"there is no filter {name!r}")
    sql = entry["sql"][engine.dialect.name]
    found: Any = ask(
        engine,
        sql,
        parameters.parameters(),
        lists=parameters.filters,
    )["rows"]
    return [row[0] for row in found]
