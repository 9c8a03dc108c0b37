"""Shipped boards moved to another time zone, without the Grafana SDK."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crewmeter_dashboards.panels import CATALOGUE
from crewmeter_dashboards.panels.grafana_text import described, query_text, titled
from crewmeter_dashboards.time_zones.sql import UTC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_dashboards.sql_sources import Dialect

__all__ = ["in_zone"]


def in_zone(board: str, dialect: Dialect, zone: str) -> str:
    """Return a shipped board with the days, months and axes of `zone`.

    `board` is JSON text with those of UTC.
    """
    if zone == UTC:
        return board
    texts: dict[str, str] = {}
    for panel in CATALOGUE.values():
        texts[titled(panel)] = titled(panel, zone)
        texts[described(panel)] = described(panel, zone)
        if panel.sql:
            texts[query_text(panel, dialect)] = query_text(panel, dialect, zone)
    document: dict[str, Any] = _replaced(json.loads(board), texts)
    document["timezone"] = zone
    return json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def _replaced(value: Any, texts: Mapping[str, str]) -> Any:
    """Return JSON with each text that `texts` names replaced."""
    if isinstance(value, dict):
        return {key: _replaced(inner, texts) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, texts) for inner in value]
    return texts.get(value, value) if isinstance(value, str) else value
