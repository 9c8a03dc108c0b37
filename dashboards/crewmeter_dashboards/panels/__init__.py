"""The catalogue: every panel once, by id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_dashboards.panels import conversations, crews, models, overview, pipeline, spend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_dashboards.panels.panel import Panel

__all__ = ["CATALOGUE"]

CATALOGUE: Mapping[str, Panel] = {
    panel.id: panel
    for module in (overview, crews, conversations, models, spend, pipeline)
    for panel in module.PANELS
}
