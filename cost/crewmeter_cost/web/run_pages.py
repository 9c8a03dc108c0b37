"""The run list, one run as a tree, and two compared, for the page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crewmeter_cost.analysis.run_comparison import Side, compare_sides
from crewmeter_cost.errors import CrewMeterError, NotInCatalogueError
from crewmeter_cost.filters import Filter, Term, parse_filter
from crewmeter_cost.ledger.content.run_content import step_content
from crewmeter_cost.ledger.read.run_search import find_runs, read_order
from crewmeter_cost.ledger.read.runs import find_run, inexact_runs
from crewmeter_cost.money import PICO
from crewmeter_cost.pricing.charge_result import EXACT
from crewmeter_cost.web.panel_queries import ask
from crewmeter_cost.web.params import ANY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Engine

    from crewmeter_cost.ledger.read.runs import Run
    from crewmeter_cost.ledger.store import Ledger
    from crewmeter_cost.web.params import PanelParameters

__all__ = ["RunListRequest", "content_of_step", "run_comparison", "run_list", "run_tree"]

PAGE = 100
_NO_NAME = "(none)"
_REST = "(other)"
_MOST_NODES = 5000
_MOST_STEPS = 200
"""Steps of a comparison that the page lists."""
_COLUMNS = (
    "run_id",
    "name",
    "status",
    "error_type",
    "duration_seconds",
    "calls",
    "failed_calls",
    "unpriced_calls",
    "tool_calls",
    "failed_tool_calls",
    "input_tokens",
    "output_tokens",
    "team",
    "user",
    "session",
)

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


@dataclass(frozen=True, slots=True)
class RunListRequest:
    """What the page asks of the run list beside the range and the menus' filters."""

    where: str = ""
    search: str = ""
    order: str = "time"
    status: str = ""
    skip: int = 0


def run_list(
    ledger: Ledger, parameters: PanelParameters, request: RunListRequest
) -> dict[str, object]:
    """Return a page of runs in the range, and the filter as terms.

    Raises `CrewMeterError` for an order or a filter that cannot be read.
    """
    written = parse_filter(request.where).terms
    picked = _picked(parameters)
    if request.status:
        picked += parse_filter({"status": request.status}).terms
    page = find_runs(
        ledger,
        where=Filter((*written, *picked)),
        search=request.search or None,
        order=read_order(request.order),
        since=datetime.fromtimestamp(parameters.since, UTC),
        until=datetime.fromtimestamp(parameters.until, UTC),
        limit=PAGE,
        offset=request.skip,
    )
    inexact = inexact_runs(ledger, page.runs)
    return {
        "columns": ["time", *_COLUMNS, "cost_usd", "inexact"],
        "rows": [_row(run, inexact=run.run_id in inexact) for run in page.runs],
        "page": PAGE,
        "note": page.note,
        "terms": [term.text for term in written],
    }


def _picked(parameters: PanelParameters) -> tuple[Term, ...]:
    """Return what is chosen in the menus: any of the values of a name."""
    picked = []
    for name, chosen in parameters.filters.items():
        # Boards link here with what they write for the rest of the names together, which is no
        # filter, and for rows without a name.
        if ANY in chosen or _REST in chosen:
            continue
        first, *others = ("" if value == _NO_NAME else value for value in chosen)
        picked.append(Term(name, "=", first, also=tuple(others)))
    return tuple(picked)


def _row(run: Run, *, inexact: bool) -> list[object]:
    """Return a run as the list has it.

    The cost is a number of USD, for bars and sorting.
    """
    cost = run.cost_pusd
    return [
        run.started_ns // 10**9,
        *(getattr(run, name) for name in _COLUMNS),
        None if cost is None else cost / PICO,
        inexact,
    ]


def run_comparison(ledger: Ledger, a: str | None, b: str | None) -> dict[str, object]:
    """Return how run `b` differs from run `a`, as `crewmeter compare` in JSON.

    Raises `CrewMeterError` where there is no such run.
    """
    if not a or not b:
        hint = "both take a run's id, or the start of one"
        raise CrewMeterError("a comparison needs the runs a and b", hint=hint)
    runs = [find_run(ledger, run_id) for run_id in (a, b)]
    made = compare_sides(
        ledger,
        *(Side.of_run(run) for run in runs),
    ).document()
    steps: Any = made["steps"]
    return {
        **made,
        "steps": steps[:_MOST_STEPS],
        "left_out": max(0, len(steps) - _MOST_STEPS),
        "runs": [run.document() for run in runs],
    }


def content_of_step(ledger: Ledger, run_id: str, span_id: str) -> dict[str, object]:
    """Return what a step captured, as far as it is stored, in the order to display it."""
    items = []
    for item, text in step_content(ledger, run_id, span_id).items():
        items.append(
            {
                "item": item,
                "text": text,
            }
        )
    return {"items": items}


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
    for call in calls:
        inexact = _is_inexact(call)
        nodes.append({**call, "billed": True, "inexact": inexact})
    truncated = len(steps) == _MOST_NODES or len(calls) == _MOST_NODES
    return {"run": found[0], "nodes": nodes, "truncated": truncated}


def _is_inexact(call: Mapping[str, object]) -> bool:
    """Return whether a call's cost is a bound or an estimate."""
    if call["cost_usd"] is None:
        return False
    return call["cost_status"] not in EXACT


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
