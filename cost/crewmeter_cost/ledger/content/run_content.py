"""The captured content of a run's steps."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from crewmeter_cost.errors import NotInCatalogueError
from crewmeter_cost.intake.captured_content import ITEMS
from crewmeter_cost.ledger.content.content_store import ContentStore
from crewmeter_cost.ledger.sql import Sql

if TYPE_CHECKING:
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["run_content", "step_content"]

_TRACES = """
    SELECT step.trace_id FROM step JOIN run ON run.id = step.run WHERE run.run_id = ?
    UNION SELECT call.trace_id FROM call JOIN run ON run.id = call.run WHERE run.run_id = ?
"""
_TRACES_OF_STEP = """
    SELECT step.trace_id FROM step JOIN run ON run.id = step.run
    WHERE run.run_id = ? AND step.span_id = ?
    UNION SELECT call.trace_id FROM call JOIN run ON run.id = call.run
    WHERE run.run_id = ? AND call.span_id = ?
"""


def run_content(ledger: Ledger, run_id: str) -> dict[str, dict[str, str]]:
    """Return what the steps of a run captured, by span id and item.

    Raises `CrewMeterError` where the store cannot be read now.
    """
    query = Sql(_TRACES, (run_id, run_id))
    traces = _traces(ledger, query)
    store = ContentStore(ledger.url)
    content = {}
    for span_id, items in store.of_traces(traces).items():
        content[span_id] = _in_order(items)
    return content


def step_content(ledger: Ledger, run_id: str, span_id: str) -> dict[str, str]:
    """Return what one step of a run captured, by item, empty where nothing is stored.

    Raises `NotInCatalogueError` where the run has no such step, and `CrewMeterError` where the
    store cannot be read now.
    """
    traces: list[str] = []
    with suppress(ValueError):
        key = bytes.fromhex(span_id)
        query = Sql(
            _TRACES_OF_STEP,
            (run_id, key, run_id, key),
        )
        traces = _traces(ledger, query)
    if not traces:
        raise NotInCatalogueError(f"there is no step {span_id!r} in a run {run_id!r}")
    store = ContentStore(ledger.url)
    found = store.of_span(traces, span_id.lower())
    return _in_order(found)


def _traces(ledger: Ledger, query: Sql) -> list[str]:
    """Return the ids of traces that a query finds."""
    with ledger.read_session() as session:
        rows = session.rows(query)
    return [bytes(trace_id).hex() for (trace_id,) in rows]


def _in_order(items: dict[str, str]) -> dict[str, str]:
    ordered = {}
    for item in ITEMS:
        if item in items:
            ordered[item] = items[item]
    return ordered
