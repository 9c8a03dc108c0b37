"""Which runs are behind a panel, for the links of the local page.

A tile, bar, legend entry or row leads to the run list with the filter of docs/filters.md: that of
its panel here, and a term for each name in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NAME_KEYS", "RUNS_BEHIND", "RunLink"]

NAME_KEYS: Mapping[str, str] = {
    **{
        name: name
        for name in (
            "crew",
            "agent",
            "task",
            "tool",
            "provider",
            "model",
            "team",
            "user",
            "session",
            "service",
            "environment",
            "name",
            "status",
            "finish_reason",
            "cost_status",
        )
    },
    "error_type": "error",
}
"""Column or series of names → key of the filter. A tag is written ``key=value`` in its column."""


@dataclass(frozen=True, slots=True)
class RunLink:
    """The run list behind a panel.

    `since` is where the runs begin: the range of the board, or the day, month or hour of its end.
    """

    where: str = ""
    order: Literal["time", "cost", "duration", "calls"] = "time"
    since: Literal["range", "day", "month", "hour", "two weeks"] = "range"


_COST = RunLink(order="cost")
_SLOW = RunLink(order="duration")
_CALLS = RunLink("calls>0", order="calls")
_TOOLS = RunLink("tool_calls>0")
_MONTH = RunLink(order="cost", since="month")
_FAILED = RunLink("status=failed", order="cost")
_UNPRICED = RunLink("unpriced_calls>0")

RUNS_BEHIND: Mapping[str, RunLink] = {
    "runs": RunLink(),
    "success_rate": RunLink("status=failed"),
    "run_latency": _SLOW,
    "spend_today": RunLink(order="cost", since="day"),
    "spend_month": _MONTH,
    "tokens": _CALLS,
    "unpriced_calls": _UNPRICED,
    "telemetry_age": RunLink(),
    "runs_by_status": RunLink(),
    "spend_by_crew": _COST,
    "call_latency": _SLOW,
    "call_rate": _CALLS,
    "crews_red": RunLink(),
    "cost_per_run": _COST,
    "cost_per_success": RunLink("status=ok", order="cost"),
    "calls_per_run": _CALLS,
    "tools_per_run": _TOOLS,
    "runs_by_name": RunLink(),
    "run_p95_by_name": _SLOW,
    "cost_per_run_by_name": _COST,
    "agent_p95": _SLOW,
    "run_names": RunLink(),
    "agents": RunLink(),
    "tasks": RunLink(),
    "conversation_turns": _CALLS,
    "conversation_cost": _COST,
    "conversations": RunLink(),
    "most_expensive_runs": _COST,
    "slowest_runs": _SLOW,
    "failed_runs": RunLink("status=failed"),
    "failed_call_share": RunLink("failed_calls>0"),
    "ttft_p95": _SLOW,
    "cache_hit": _CALLS,
    "truncated_share": RunLink("finish_reason=length"),
    "price_per_1m": _COST,
    "model_p95": _SLOW,
    "ttft_by_model": _SLOW,
    "calls_by_model": _CALLS,
    "errors_by_type": RunLink(),
    "tokens_by_kind": _CALLS,
    "cache_hit_by_model": _CALLS,
    "price_per_1m_by_model": _COST,
    "finish_reasons": RunLink(),
    "models": RunLink(),
    "tool_calls": _TOOLS,
    "tool_errors": _TOOLS,
    "tool_p95": _TOOLS,
    "tools": _TOOLS,
    "month_to_date": _MONTH,
    "forecast": _MONTH,
    "budget_used": _MONTH,
    "forecast_share": _MONTH,
    "waste": _FAILED,
    "waste_share": _FAILED,
    "coverage": _UNPRICED,
    "month_curve": _MONTH,
    "spend_by_model": _COST,
    "spend_by_provider": _COST,
    "spend_by_team": _COST,
    "spend_by_user": _COST,
    "spend_by_tag": _COST,
    "movers": RunLink(order="cost", since="two weeks"),
    "unpriced_models": _UNPRICED,
    "reported": RunLink("cost_status=provider_reported"),
    "chargeback": _COST,
    "ledger_hour": RunLink(since="hour"),
    "services": RunLink(),
    "calls_by_service": _CALLS,
    "cost_status": RunLink(),
}
"""Panel → the runs behind it. A test holds that every panel of the page has one."""
