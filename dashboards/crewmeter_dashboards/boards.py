"""The boards: which panels stand on which page, row by row.

The grid has 24 columns, as in Grafana. The local page uses the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_dashboards.panels import CATALOGUE
from crewmeter_dashboards.sql_sources import FILTERS

if TYPE_CHECKING:
    from crewmeter_dashboards.panels.panel import Panel

__all__ = ["BOARDS", "VARIABLE_SQL", "Board", "Cell", "Row"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A panel and its size on the board.

    `width` is in columns of the grid (24), `height` in Grafana's units of 38 px.
    """

    panel: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Row:
    """A titled band of panels."""

    title: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """One page of panels.

    `since` is the range it opens with.
    """

    id: str
    title: str
    description: str
    since: str
    rows: tuple[Row, ...]

    @property
    def uid(self) -> str:
        """Return Grafana's id of the board. It is stable, so links and bookmarks hold."""
        return f"crewmeter-{self.id}"

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Return every panel on the board, in reading order."""
        cells = [cell for row in self.rows for cell in row.cells]
        return tuple(CATALOGUE[cell.panel] for cell in cells)

    @property
    def filters(self) -> tuple[str, ...]:
        """Return the filters that at least one of its panels obeys."""
        used: set[str] = set()
        for panel in self.panels:
            used.update(panel.filters)
        return tuple(name for name in FILTERS if name in used)


def _row(title: str, height: int, *cells: tuple[str, int]) -> Row:
    sized = []
    for panel, width in cells:
        sized.append(Cell(panel, width, height))
    return Row(title, tuple(sized))


BOARDS: tuple[Board, ...] = (
    Board(
        "overview",
        "Overview",
        "Is all well, and what does it cost?",
        "now-24h",
        (
            _row("Now", 4, ("runs", 4), ("success_rate", 4), ("run_latency", 8), ("tokens", 8)),
            _row(
                "Money and telemetry",
                4,
                ("spend_today", 6),
                ("spend_month", 6),
                ("unpriced_calls", 6),
                ("telemetry_age", 6),
            ),
            _row(
                "Over time",
                8,
                ("runs_by_status", 12),
                ("spend_by_crew", 12),
                ("call_rate", 12),
                ("call_latency", 12),
            ),
            _row("By crew", 9, ("crews_red", 24)),
            _row(
                "Live, from Prometheus",
                8,
                ("live_calls", 12),
                ("live_latency", 12),
                ("live_spend", 12),
                ("live_heatmap", 12),
            ),
        ),
    ),
    Board(
        "crews",
        "Crews and agents",
        "Which crew, agent or task is slow, failing, looping or expensive?",
        "now-24h",
        (
            _row(
                "Per run",
                4,
                ("cost_per_run", 4),
                ("cost_per_success", 4),
                ("calls_per_run", 8),
                ("tools_per_run", 8),
            ),
            _row(
                "Over time",
                8,
                ("runs_by_name", 12),
                ("run_p95_by_name", 12),
                ("cost_per_run_by_name", 12),
                ("agent_p95", 12),
            ),
            _row("Crews, agents, tasks", 9, ("run_names", 24), ("agents", 24), ("tasks", 24)),
            _row("Per conversation", 4, ("conversation_turns", 12), ("conversation_cost", 12)),
            _row("Conversations", 9, ("conversations", 24)),
            _row(
                "Runs to look at",
                9,
                ("most_expensive_runs", 24),
                ("slowest_runs", 24),
                ("failed_runs", 24),
            ),
            _row("Live, from Prometheus", 8, ("live_runs", 12), ("live_run_calls", 12)),
        ),
    ),
    Board(
        "models",
        "Models and tools",
        "How do models and tools behave, and is the cache used?",
        "now-24h",
        (
            _row(
                "Now",
                4,
                ("failed_call_share", 4),
                ("ttft_p95", 6),
                ("cache_hit", 4),
                ("truncated_share", 5),
                ("price_per_1m", 5),
            ),
            _row(
                "Models over time",
                8,
                ("model_p95", 12),
                ("ttft_by_model", 12),
                ("calls_by_model", 12),
                ("errors_by_type", 12),
            ),
            _row(
                "Tokens",
                8,
                ("tokens_by_kind", 12),
                ("cache_hit_by_model", 12),
                ("price_per_1m_by_model", 12),
                ("finish_reasons", 12),
            ),
            _row("Models", 9, ("models", 24)),
            _row("Tools", 8, ("tool_calls", 8), ("tool_errors", 8), ("tool_p95", 8), ("tools", 24)),
            _row(
                "Live, from Prometheus", 8, ("live_ttft", 8), ("live_tools", 8), ("live_tokens", 8)
            ),
        ),
    ),
    Board(
        "spend",
        "Spend",
        "Who spends what, on what, and where is it heading?",
        "now-30d",
        (
            _row(
                "This month",
                4,
                ("month_to_date", 4),
                ("forecast", 4),
                ("budget_used", 3),
                ("forecast_share", 3),
                ("waste", 4),
                ("waste_share", 3),
                ("coverage", 3),
            ),
            _row("Month", 8, ("month_curve", 12), ("spend_by_model", 12)),
            _row(
                "By whom",
                8,
                ("spend_by_provider", 12),
                ("spend_by_team", 12),
                ("spend_by_user", 12),
                ("spend_by_tag", 12),
            ),
            _row("What changed, what is missing", 9, ("movers", 12), ("unpriced_models", 12)),
            _row("Chargeback", 10, ("chargeback", 24), ("reported", 24)),
        ),
    ),
    Board(
        "pipeline",
        "Pipeline health",
        "Does every span arrive, and is every price fresh?",
        "now-6h",
        (
            _row(
                "Ledger",
                4,
                ("ledger_hour", 3),
                ("metrics_hour", 3),
                ("telemetry_age", 3),
                ("last_span", 3),
                ("ledger_lag", 3),
                ("queue_fill", 3),
                ("unpriced_calls", 3),
                ("price_age", 3),
            ),
            _row(
                "What arrives", 8, ("calls_by_service", 12), ("cost_status", 12), ("services", 24)
            ),
            _row(
                "Sidecar, live",
                8,
                ("ingest", 12),
                ("write_time", 12),
                ("ledger_errors", 12),
                ("unpriced_live", 12),
            ),
            _row(
                "Collector, live",
                8,
                ("collector_queue", 8),
                ("collector_refused", 8),
                ("collector_sent", 8),
            ),
        ),
    ),
)

_ROLLUP_OF = {
    "crew": "crew",
    "agent": "crew",
    "provider": "model",
    "model": "model",
    "team": "team",
    "service": "service",
    "environment": "service",
}
VARIABLE_SQL = {
    name: (
        f"SELECT DISTINCT {name} AS {name} FROM {rollup}_hourly\n"
        f"WHERE time >= @from / 3600 * 3600 AND time < @to AND {name} IS NOT NULL ORDER BY 1"
    )
    for name, rollup in _ROLLUP_OF.items()
}
"""Filter → the query for its choices: the names seen in the range."""
