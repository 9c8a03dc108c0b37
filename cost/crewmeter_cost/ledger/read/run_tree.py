"""One run as a tree.

What it did, how long each part took, and what each part cost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crewmeter_cost.ledger.sql import Sql, sql
from crewmeter_cost.ledger.write.rows import CallState, StepState
from crewmeter_cost.money import exact_usd, moment
from crewmeter_cost.pricing.charge_result import EXACT, OLD_STATUSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.ledger.read.runs import Run
    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["Node", "RunTree", "run_tree"]

DEEPEST = 100
"""Nodes nested deeper (no crew is, hostile spans may be) hang on their ancestor at this depth."""

_STEPS = """
    SELECT step.span_id, step.parent_span_id, step.state, step.started_ns, step.duration_ns,
        step.details, kinds.value AS kind, names.value AS name, errors.value AS error
    FROM step JOIN label AS kinds ON kinds.id = step.kind
    LEFT JOIN label AS names ON names.id = step.name
    LEFT JOIN label AS errors ON errors.id = step.error_type
    WHERE step.run = ? ORDER BY step.started_ns, step.id
"""
_CALLS = """
    SELECT call.span_id, call.parent_span_id, call.state, call.started_ns, call.duration_ns,
        call.ttft_ns, call.input_tokens, call.output_tokens, call.cost_pusd,
        operations.value AS operation, models.value AS model, errors.value AS error,
        statuses.value AS cost_status
    FROM call JOIN label AS operations ON operations.id = call.operation
    LEFT JOIN label AS models ON models.id = coalesce(call.request_model, call.response_model)
    LEFT JOIN label AS errors ON errors.id = call.error_type
    JOIN label AS statuses ON statuses.id = call.cost_status
    WHERE call.run = ? ORDER BY call.started_ns, call.id
"""
_COST_STATUSES = """
    SELECT label.value, count(*) FROM call JOIN label ON label.id = call.cost_status
    WHERE call.run = ? AND call.cost_pusd IS NOT NULL GROUP BY label.value
"""
_STATUS = {StepState.OK: "ok", StepState.ERROR: "error", StepState.ABANDONED: "abandoned"}
_COUNTS = (
    "calls",
    "failed_calls",
    "unpriced_calls",
    "priced_calls",
    "input_tokens",
    "output_tokens",
)
"""What a run's row has of it, too."""
_SUMS = (*_COUNTS, "inexact_calls", "cost")
"""What a node adds to its parent."""


@dataclass(slots=True)
class Node:
    """A step or call of a run. The sums are of the node and everything below it."""

    span_id: str
    parent_span_id: str | None
    kind: str
    name: str
    status: str
    error_type: str | None
    started_ns: int
    duration_ns: int | None
    details: dict[str, Any] = field(default_factory=dict)
    calls: int = 0
    failed_calls: int = 0
    unpriced_calls: int = 0
    priced_calls: int = 0
    inexact_calls: int = 0
    """Calls whose cost is a bound or an estimate."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    is_call: bool = False
    children: list[Node] = field(default_factory=list)

    @property
    def cost_pusd(self) -> int | None:
        """Pico-USD, None where no price is known.

        No price is known of a call without one (a refused one, too), and of a step whose calls are
        all unpriced.
        """
        if not self.priced_calls and (self.unpriced_calls or self.is_call):
            return None
        return self.cost

    @property
    def duration_seconds(self) -> float | None:
        """None while it is running."""
        if self.duration_ns is None:
            return None
        return self.duration_ns / 1e9

    def document(self) -> dict[str, object]:
        """Return the node as JSON, with its children."""
        cost = self.cost_pusd
        return {
            "kind": self.kind,
            "name": self.name,
            "status": self.status,
            "error_type": self.error_type,
            "span_id": self.span_id,
            "started_at": moment(self.started_ns),
            "duration_seconds": self.duration_seconds,
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "unpriced_calls": self.unpriced_calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": None if cost is None else exact_usd(cost),
            "details": self.details,
            "children": [child.document() for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class RunTree:
    """A run with its tree."""

    run: Run
    root: Node
    truncated: bool = False
    """Whether nodes were left out. The root's sums are then over all, the others' not."""

    def document(self) -> dict[str, object]:
        """Return the contract's run with its tree. It says so where nodes were left out."""
        document = {
            **self.run.document(),
            "trace_id": self.run.trace_id,
            "error_type": self.run.error_type,
            "tree": self.root.document(),
        }
        if self.truncated:
            document["truncated"] = True
        return document


def run_tree(ledger: Ledger, run: Run, *, limit: int | None = None) -> RunTree:
    """Return the tree of one run, up to its first `limit` steps and calls.

    `runs.find_run` finds the run.
    """
    with ledger.read_session() as session:
        steps = [_step_node(row) for row in _rows_of(session, _STEPS, run, limit)]
        calls = [_call_node(row) for row in _rows_of(session, _CALLS, run, limit)]
        truncated = limit is not None and max(len(steps), len(calls)) > limit
        root = _grow(run, steps[:limit] + calls[:limit])
        if truncated:
            for name in _COUNTS:
                setattr(root, name, getattr(run, name))
            root.inexact_calls = _inexact_calls(session, run)
            root.cost = run.cost_pusd or 0
    return RunTree(run, root, truncated)


def _rows_of(session: Session, text: str, run: Run, limit: int | None) -> list[dict[str, Any]]:
    """Return a run's steps or calls, one more than the limit where there are more."""
    query = Sql(text, (run.number,))
    if limit is not None:
        query = sql(query, Sql("LIMIT ?", (limit + 1,)))
    return session.mappings(query)


def _hex(value: bytes | None) -> str | None:
    if value is None:
        return None
    return bytes(value).hex()


def _step_node(row: Mapping[str, Any]) -> Node:
    return Node(
        span_id=bytes(row["span_id"]).hex(),
        parent_span_id=_hex(row["parent_span_id"]),
        kind=row["kind"],
        name=row["name"] or row["kind"],
        status=_STATUS[StepState(row["state"])],
        error_type=row["error"],
        started_ns=row["started_ns"],
        duration_ns=row["duration_ns"],
        details=json.loads(row["details"]) if row["details"] else {},
    )


def _inexact_calls(session: Session, run: Run) -> int:
    """Return how many calls of a run have a cost that is a bound or an estimate."""
    found = session.rows(Sql(_COST_STATUSES, (run.number,)))
    return sum(count for status, count in found if not _is_exact(status))


def _is_exact(cost_status: str) -> bool:
    return OLD_STATUSES.get(cost_status, cost_status) in EXACT


def _call_node(row: Mapping[str, Any]) -> Node:
    state = CallState(row["state"])
    priced = row["cost_pusd"] is not None
    cost_status = row["cost_status"]
    details: dict[str, Any] = {"cost_status": OLD_STATUSES.get(cost_status, cost_status)}
    if row["ttft_ns"] is not None:
        details["ttft_seconds"] = row["ttft_ns"] / 1e9
    kind = "embedding" if row["operation"] == "embeddings" else "llm"
    return Node(
        span_id=bytes(row["span_id"]).hex(),
        parent_span_id=_hex(row["parent_span_id"]),
        kind=kind,
        name=row["model"] or "unknown model",
        status="ok" if state is CallState.OK else "error",
        error_type=row["error"],
        started_ns=row["started_ns"],
        duration_ns=row["duration_ns"],
        details=details,
        calls=1,
        failed_calls=int(state is not CallState.OK),
        unpriced_calls=int(not priced and state is not CallState.REJECTED),
        priced_calls=int(priced),
        inexact_calls=int(priced and not _is_exact(cost_status)),
        input_tokens=row["input_tokens"] or 0,
        output_tokens=row["output_tokens"] or 0,
        cost=row["cost_pusd"] or 0,
        is_call=True,
    )


def _root(run: Run, by_span: Mapping[str, Node]) -> Node:
    """Return the run's own step, or a node made for it where that is missing."""
    found = by_span.get(run.run_id)
    if found is not None:
        return found
    return Node(
        span_id="",
        parent_span_id=None,
        kind=run.kind or "run",
        name=run.name or run.run_id,
        status=run.status,
        error_type=run.error_type,
        started_ns=run.started_ns,
        duration_ns=run.duration_ns,
    )


def _grow(run: Run, nodes: list[Node]) -> Node:
    """Hang every node under its parent, and return the root.

    Orphans, cycles and nodes too deep hang on the root, so that no cost is left out.
    """
    nodes.sort(key=_by_start)
    by_span = {node.span_id: node for node in nodes if not node.is_call}
    steps = set(by_span)
    by_span |= {node.span_id: node for node in nodes if node.span_id not in steps}
    root = _root(run, by_span)
    waiting: dict[str, list[Node]] = {}
    orphans = []
    for node in nodes:
        if node is root:
            continue
        if node.is_call and node.span_id in steps:
            # The use of an agent whose calls nobody reported hangs on the agent.
            waiting.setdefault(node.span_id, []).append(node)
            continue
        parent = node.parent_span_id
        if parent is not None and parent in by_span and parent != node.span_id:
            waiting.setdefault(parent, []).append(node)
        else:
            orphans.append(node)
    order = _hang(
        root,
        waiting.pop(root.span_id, []) + orphans,
        waiting,
    )
    while waiting:  # what is left hangs in a cycle of parents: cut it
        order += _hang(
            root,
            waiting.pop(next(iter(waiting))),
            waiting,
        )
    # Children before their parents, so that a parent's sums are whole when they are passed on.
    for node, parent_node in reversed(order):
        for name in _SUMS:
            setattr(
                parent_node,
                name,
                getattr(parent_node, name) + getattr(node, name),
            )
    root.children.sort(key=_by_start)
    return root


def _by_start(node: Node) -> tuple[int, str]:
    return node.started_ns, node.span_id


def _hang(
    parent: Node, children: list[Node], waiting: dict[str, list[Node]]
) -> list[tuple[Node, Node]]:
    """Hang `children` and all that waits for them below `parent`.

    Returns (node, parent) from the top down.
    """
    order: list[tuple[Node, Node]] = []
    level = [(child, parent) for child in children]
    depth = 0
    while level:
        below: list[tuple[Node, Node]] = []
        for node, above in level:
            above.children.append(node)
            order.append((node, above))
            # Python's own recursion limit would end a deeper tree when it is printed.
            host = node if depth < DEEPEST else above
            below += [(child, host) for child in waiting.pop(node.span_id, [])]
        level = below
        depth += 1
    return order
