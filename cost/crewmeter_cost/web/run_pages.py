"""The run list and one run as a tree, for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.web.panel_queries import ask
from crewmeter_cost.web.params import ANY

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from crewmeter_cost.web.params import PanelParameters

__all__ = ["ORDERS", "run_list", "run_tree"]

NEWEST = 10_000
"""Orders other than by time look at so many of the newest runs, so that they take milliseconds on any ledger."""

ORDERS = {
    "time": "time DESC",
    "cost": "recent.cost_usd DESC",
    "duration": "COALESCE(duration_seconds, 0) DESC",
    "calls": "calls DESC",
}
"""Order → its SQL; the browser names one of these, it never writes one."""

PAGE = 100
_STATUSES = ("ok", "error", "abandoned", "running")
_MOST_NODES = 5000

_FIELDS = """time, run_id, trace_id, kind, name, team, "user", service, environment, status, error_type, duration_seconds,
  calls, failed_calls, unpriced_calls, tool_calls, failed_tool_calls, input_tokens, output_tokens"""
_LIST = """
WITH recent AS (SELECT {fields}, cost_usd FROM runs
  WHERE time >= CAST(:from_ AS BIGINT) AND time < CAST(:to AS BIGINT) AND ('*' IN :crew OR name IN :crew)
    AND ('*' IN :team OR team IN :team) AND ('*' IN :service OR service IN :service)
    AND ('*' IN :environment OR environment IN :environment) AND ('*' IN :status OR status IN :status)
  ORDER BY time DESC LIMIT CAST(:newest AS INTEGER))
SELECT {fields}, CASE WHEN cost_usd = 0 AND unpriced_calls > 0 THEN NULL ELSE cost_usd END AS cost_usd
FROM recent ORDER BY {order}, run_id LIMIT 100 OFFSET CAST(:skip AS INTEGER)
""".replace("{fields}", _FIELDS)
_STATEMENTS = {name: _LIST.replace("{order}", order) for name, order in ORDERS.items()}
_LISTS = ("crew", "team", "service", "environment", "status")

_RUN = """
SELECT time, run_id, trace_id, kind, COALESCE(name, '(none)') AS name, team, "user", session, service, environment, status, error_type,
  duration_seconds, calls, failed_calls, unpriced_calls, tool_calls, failed_tool_calls, input_tokens, output_tokens,
  CASE WHEN cost_usd = 0 AND unpriced_calls > 0 THEN NULL ELSE cost_usd END AS cost_usd
FROM runs WHERE run_id = :run_id
"""
_STEPS = """
SELECT s.span_id AS id, s.parent_span_id AS parent, s.kind, s.name, s.status, s.error_type, s.started_ms, s.duration_seconds, s.agent
FROM steps AS s WHERE s.run_id = :run_id ORDER BY s.started_ms LIMIT 5000
"""
_CALLS = """
SELECT span_id AS id, parent_span_id AS parent, operation AS kind, model AS name, status, error_type, started_ms, duration_seconds, agent,
  provider, input_tokens, cache_read_tokens, output_tokens, cost_usd, cost_status, unpriced, ttft_seconds, finish_reason, origin
FROM calls WHERE run_id = :run_id ORDER BY started_ms LIMIT 5000
"""


def run_list(
    engine: Engine, question: PanelParameters, *, order: str, status: str, skip: int
) -> dict[str, object]:
    """A page of runs in the range.

    Raises `CrewMeterError` for an unknown order or status.
    """
    if order not in ORDERS:
        raise CrewMeterError(f"order={order!r} is not known", hint=f"one of {', '.join(ORDERS)}")
    if status not in (ANY, *_STATUSES):
        raise CrewMeterError(
            f"status={status!r} is not known", hint=f"one of {', '.join(_STATUSES)}"
        )
    parameters = {
        **question.parameters(),
        "status": (status,),
        "skip": skip,
        "newest": NEWEST if order != "time" else skip + PAGE,
    }
    answer = ask(engine, _STATEMENTS[order], parameters, lists=_LISTS)
    return {**answer, "page": PAGE, "newest": NEWEST}


def run_tree(engine: Engine, run_id: str) -> dict[str, object]:
    """Return one run's totals, nodes, steps and billed calls.

    Each has an id and a parent. Raises `CrewMeterError` where there is none.
    """
    found = _dicts(ask(engine, _RUN, {"run_id": run_id}))
    if not found:
        raise CrewMeterError(f"there is no run {run_id!r} in this ledger")
    steps = [{**node, "billed": False} for node in _dicts(ask(engine, _STEPS, {"run_id": run_id}))]
    calls = [{**node, "billed": True} for node in _dicts(ask(engine, _CALLS, {"run_id": run_id}))]
    truncated = len(steps) == _MOST_NODES or len(calls) == _MOST_NODES
    return {"run": found[0], "nodes": steps + calls, "truncated": truncated}


def _dicts(answer: dict[str, Any]) -> list[dict[str, object]]:
    return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]
