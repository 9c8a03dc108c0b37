"""The run list and one run as a tree, for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crewmeter_cost.errors import CrewMeterError, NotInCatalogueError
from crewmeter_cost.web.panel_queries import ask
from crewmeter_cost.web.params import ANY

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from crewmeter_cost.web.params import PanelParameters

__all__ = ["ORDERS", "run_list", "run_tree"]

NEWEST = 10_000
"""Orders other than by time look at so many of the newest runs.

So they take milliseconds on any ledger.
"""

ORDERS = {
    "time": "time DESC",
    "cost": "recent.cost_usd DESC",
    "duration": "COALESCE(duration_seconds, 0) DESC",
    "calls": "calls DESC",
}
"""Order → its SQL. The browser names one of these, it never writes one."""

PAGE = 100
_STATUSES = ("ok", "error", "abandoned", "running")
_MOST_NODES = 5000

_FIELDS = """
  time, run_id, trace_id, kind, name, team, "user", service, environment, status, error_type,
  duration_seconds, calls, failed_calls, unpriced_calls, tool_calls, failed_tool_calls,
  input_tokens, output_tokens
"""
_LIST = """
WITH recent AS (SELECT {fields}, cost_usd FROM runs
  WHERE time >= CAST(:from_ AS BIGINT) AND time < CAST(:to AS BIGINT)
    AND ('*' IN :crew OR name IN :crew)
    AND ('*' IN :team OR team IN :team) AND ('*' IN :service OR service IN :service)
    AND ('*' IN :environment OR environment IN :environment)
    AND ('*' IN :status OR status IN :status)
  ORDER BY time DESC LIMIT CAST(:newest AS INTEGER))
SELECT {fields},
  CASE WHEN cost_usd = 0 AND unpriced_calls > 0 THEN NULL ELSE cost_usd END AS cost_usd
FROM recent ORDER BY {order}, run_id LIMIT 100 OFFSET CAST(:skip AS INTEGER)
""".replace("{fields}", _FIELDS)
_STATEMENTS = {name: _LIST.replace("{order}", order) for name, order in ORDERS.items()}
_LISTS = ("crew", "team", "service", "environment", "status")

_RUN = """
SELECT time, run_id, trace_id, kind, COALESCE(name, '(none)') AS name, team, "user", session,
  service, environment, status, error_type, duration_seconds, calls, failed_calls, unpriced_calls,
  tool_calls, failed_tool_calls, input_tokens, output_tokens,
  CASE WHEN cost_usd = 0 AND unpriced_calls > 0 THEN NULL ELSE cost_usd END AS cost_usd
FROM runs WHERE run_id = :run_id
"""
_STEPS = """
SELECT s.span_id AS id, s.parent_span_id AS parent, s.kind, s.name, s.status, s.error_type,
  s.started_ms, s.duration_seconds, s.agent
FROM steps AS s WHERE s.run_id = :run_id ORDER BY s.started_ms LIMIT 5000
"""
_CALLS = """
SELECT span_id AS id, parent_span_id AS parent, operation AS kind, model AS name, status,
  error_type, started_ms, duration_seconds, agent, provider, input_tokens, cache_read_tokens,
  output_tokens, cost_usd, cost_status, unpriced, ttft_seconds, finish_reason, origin
FROM calls WHERE run_id = :run_id ORDER BY started_ms LIMIT 5000
"""


def run_list(
    engine: Engine, parameters: PanelParameters, *, order: str, status: str, skip: int
) -> dict[str, object]:
    """Return a page of runs in the range.

    Raises `CrewMeterError` for an unknown order or status.
    """
    if order not in ORDERS:
        raise CrewMeterError(f"order={order!r} is not known", hint=f"one of {', '.join(ORDERS)}")
    if status not in (ANY, *_STATUSES):
        hint = f"one of {', '.join(_STATUSES)}"
        raise CrewMeterError(f"status={status!r} is not known", hint=hint)
    newest = skip + PAGE if order == "time" else NEWEST
    bound = {
        **parameters.parameters(),
        "status": (status,),
        "skip": skip,
        "newest": newest,
    }
    found = ask(
        engine,
        _STATEMENTS[order],
        bound,
        lists=_LISTS,
    )
    return {**found, "page": PAGE, "newest": NEWEST}


def run_tree(engine: Engine, run_id: str) -> dict[str, object]:
    """Return one run: its totals and its nodes, each with id and parent.

    Nodes are steps and billed calls. Raises `NotInCatalogueError` where there is no such run.
    """
    found = _rows(engine, _RUN, run_id)
    if not found:
        raise NotInCatalogueError(f"there is no run {run_id!r} in this ledger")
    steps = _rows(engine, _STEPS, run_id)
    calls = _rows(engine, _CALLS, run_id)
    nodes = [{**node, "billed": False} for node in steps]
    nodes += [{**node, "billed": True} for node in calls]
    truncated = len(steps) == _MOST_NODES or len(calls) == _MOST_NODES
    return {"run": found[0], "nodes": nodes, "truncated": truncated}


def _rows(engine: Engine, sql: str, run_id: str) -> list[dict[str, object]]:
    found: dict[str, Any] = ask(
        engine,
        sql,
        {"run_id": run_id},
    )
    return [
        dict(
            zip(
                found["columns"],
                row,
                strict=True,
            )
        )
        for row in found["rows"]
    ]
