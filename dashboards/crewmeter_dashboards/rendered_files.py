"""The rendered files: rendering, comparison with the committed ones, and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter_dashboards import prometheus, provisioning
from crewmeter_dashboards.boards import BOARDS
from crewmeter_dashboards.grafana_com import shared_files
from crewmeter_dashboards.local_page import render_catalogue
from crewmeter_dashboards.provisioning import Sources
from crewmeter_dashboards.sql_sources import Dialect
from crewmeter_dashboards.time_zones.rezoned_boards import in_zone
from crewmeter_dashboards.time_zones.sql import UTC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_dashboards.thresholds import Thresholds

__all__ = [
    "FOLDER",
    "PAGE",
    "boards_rendered",
    "committed",
    "drift",
    "for_grafana_com",
    "in_zone_of",
    "page_rendered",
    "rendered",
    "runbooks",
    "shipped",
    "text_files",
]

FOLDER = {
    Dialect.SQLITE: "sqlite",
    Dialect.POSTGRESQL: "postgres",
    Dialect.CLICKHOUSE: "clickhouse",
}
"""Dialect → the folder of its boards."""

PAGE = "panels.json"
"""The local page's catalogue; it lives in the package of the page."""

_PACKAGE = Path(__file__).parent


def committed() -> Path:
    """Return the folder that holds ``grafana/`` and ``prometheus/``.

    It is inside the package when installed from a wheel, beside the package in the source tree.
    """
    inside = _PACKAGE / "rendered"
    return inside if inside.is_dir() else _PACKAGE.parent


def _provisioning_folder(dialect: Dialect) -> str:
    return (
        "grafana/provisioning"
        if dialect is Dialect.SQLITE
        else f"grafana/provisioning-{FOLDER[dialect]}"
    )


def text_files(
    thresholds: Thresholds, sources: Sources, *, folder: str | None = None
) -> dict[str, str]:
    """Return rules and provisioning for one kind of ledger. Needs no Grafana SDK."""
    base = folder or _provisioning_folder(sources.dialect)
    return {
        "prometheus/recording.yml": prometheus.render_recordings(),
        "prometheus/alerts.yml": prometheus.render_alerts(thresholds),
        "prometheus/alertmanager.yml": prometheus.render_alertmanager(),
        f"{base}/datasources/crewmeter.yml": provisioning.render_sources(sources),
        f"{base}/dashboards/crewmeter.yml": provisioning.render_folders(sources),
        f"{base}/alerting/rules.yml": provisioning.render_alerting(thresholds, sources.dialect),
        f"{base}/alerting/contacts.yml": provisioning.render_contacts(sources),
    }


def boards_rendered(thresholds: Thresholds) -> dict[str, str]:
    """Return every board for every dialect.

    It needs grafana-foundation-sdk (the extra ``crewmeter[dashboards]``).
    """
    from crewmeter_dashboards.grafana import render_board

    budget = thresholds("spend", "month_budget_usd")
    return {
        f"grafana/{FOLDER[dialect]}/{board.id}.json": render_board(
            board, dialect, budget_usd=budget, page=thresholds.page
        )
        for dialect in Dialect
        for board in BOARDS
    }


def rendered(thresholds: Thresholds) -> dict[str, str]:
    """Return everything that is committed under ``dashboards/``, by path."""
    files = boards_rendered(thresholds)
    for dialect in Dialect:
        files |= text_files(thresholds, Sources(dialect=dialect))
    return files


def page_rendered() -> str:
    """Return the local page's catalogue as JSON text."""
    return render_catalogue()


def runbooks() -> dict[str, str]:
    """Return the runbooks by file name."""
    inside = _PACKAGE / "rendered" / "runbooks"
    folder = inside if inside.is_dir() else _PACKAGE.parents[1] / "docs/runbooks"
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}


def shipped(dialect: Dialect, zone: str = UTC) -> dict[str, str]:
    """Return the boards as they were shipped, by file name, with the days of `zone`."""
    folder = committed() / "grafana" / FOLDER[dialect]
    boards = sorted(folder.glob("*.json"))
    return {path.name: in_zone(path.read_text("utf-8"), dialect, zone) for path in boards}


def in_zone_of(thresholds: Thresholds) -> dict[str, str]:
    """Return the committed files that say a time zone, in the zone of `thresholds`.

    They are the boards of every dialect and the rules on their ledgers, by path under
    ``dashboards/``.
    """
    files: dict[str, str] = {}
    for dialect in Dialect:
        rules = f"{_provisioning_folder(dialect)}/alerting/rules.yml"
        files[rules] = provisioning.render_alerting(thresholds, dialect)
        for name, text in shipped(dialect, thresholds.zone).items():
            files[f"grafana/{FOLDER[dialect]}/{name}"] = text
    return files


def for_grafana_com() -> dict[str, str]:
    """Return the boards of every dialect as grafana.com takes them, by path."""
    files: dict[str, str] = {}
    for dialect in Dialect:
        files |= shared_files(shipped(dialect), dialect, FOLDER[dialect])
    return files


def drift(wanted: Mapping[str, str], root: Path) -> list[str]:
    """Return the paths under `root` that differ from what the code renders.

    A missing file differs too.
    """
    return [
        path
        for path, text in wanted.items()
        if not (root / path).is_file() or (root / path).read_text("utf-8") != text
    ]
