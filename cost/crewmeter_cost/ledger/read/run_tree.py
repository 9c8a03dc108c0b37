"""One run as a tree: what it did, how long each part took, and what each part cost with everything below it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.rows import StepState
from crewmeter_cost.money import exact_usd, moment
from crewmeter_cost.pricing.charge_result import OLD_STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.read.runs import Run
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["Node", "RunTree", "run_tree"]

DEEPEST = 100
"""Nodes nested deeper than this (no crew is; hostile spans may be) hang on their ancestor at this depth."""

_CALL, _STEP, _LABEL = core_tables.call, core_tables.step, core_tables.label
_STATUS = {StepState.OK: "ok", StepState.ERROR: "error", StepState.ABANDONED: "abandoned"}


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
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    is_call: bool = False
    children: list[Node] = field(default_factory=list)

    @property
    def cost_pusd(self) -> int | None:
        """Pico-USD, None where no price is known: of a call without one (refused, too), of a step with unpriced calls only."""
        return (
            None if not self.priced_calls and (self.unpriced_calls or self.is_call) else self.cost
        )

    def document(self) -> dict[str, object]:
        """The node as JSON, with its children."""
        return {
            "kind": self.kind,
            "name": self.name,
            "status": self.status,
            "error_type": self.error_type,
            "span_id": self.span_id,
            "started_at": moment(self.started_ns),
            "duration_seconds": None if self.duration_ns is None else self.duration_ns / 1e9,
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "unpriced_calls": self.unpriced_calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": None if self.cost_pusd is None else exact_usd(self.cost_pusd),
            "details": self.details,
            "children": [child.document() for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class RunTree:
    """A run with its tree."""

    run: Run
    root: Node
    truncated: bool = False
    """Whether nodes were left out. The root's sums are over all of them; those below it are of what is shown."""

    def document(self) -> dict[str, object]:
        """The contract's run, and its tree; where nodes were left out, it says so."""
        shown = {
            **self.run.document(),
            "trace_id": self.run.trace_id,
            "error_type": self.run.error_type,
            "tree": self.root.document(),
        }
        return {**shown, "truncated": True} if self.truncated else shown


def run_tree(ledger: Ledger, run: Run, *, limit: int | None = None) -> RunTree:
    """The tree of one run (`runs.find_run` finds it), of at most its first `limit` steps and its first `limit` calls."""
    with ledger.reading() as connection:
        most = None if limit is None else limit + 1
        steps, calls = list(_steps(connection, run, most)), list(_calls(connection, run, most))
    truncated = limit is not None and max(len(steps), len(calls)) > limit
    root = _grow(run, steps[:limit] + calls[:limit])
    if truncated:
        for name in (
            "calls",
            "failed_calls",
            "unpriced_calls",
            "priced_calls",
            "input_tokens",
            "output_tokens",
        ):
            setattr(root, name, getattr(run, name))
        root.cost = run.cost_pusd or 0
    return RunTree(run, root, truncated)


def _steps(connection: Connection, run: Run, limit: int | None) -> Iterator[Node]:
    kinds, names, errors = _LABEL.alias("kinds"), _LABEL.alias("names"), _LABEL.alias("errors")
    c = _STEP.c
    joined = (
        _STEP.join(kinds, kinds.c.id == c.kind)
        .outerjoin(names, names.c.id == c.name)
        .outerjoin(errors, errors.c.id == c.error_type)
    )
    query = (
        select(_STEP, kinds.c.value, names.c.value, errors.c.value)
        .select_from(joined)
        .where(c.run == run.number)
    )
    query = query.order_by(c.started_ns, c.id).limit(limit)
    width = len(c)
    for row in connection.execute(query):
        values = dict(zip(c.keys(), row[:width], strict=True))
        kind, name, error = row[width:]
        yield Node(
            span_id=bytes(values["span_id"]).hex(),
            parent_span_id=values["parent_span_id"] and bytes(values["parent_span_id"]).hex(),
            kind=kind,
            name=name or kind,
            status=_STATUS[StepState(values["state"])],
            error_type=error,
            started_ns=values["started_ns"],
            duration_ns=values["duration_ns"],
            details=json.loads(values["details"]) if values["details"] else {},
        )


def _calls(connection: Connection, run: Run, limit: int | None) -> Iterator[Node]:
    operations, models, errors, statuses = (
        _LABEL.alias(name) for name in ("operations", "models", "errors", "statuses")
    )
    c = _CALL.c
    joined = (
        _CALL.join(operations, operations.c.id == c.operation)
        .outerjoin(models, models.c.id == func.coalesce(c.request_model, c.response_model))
        .outerjoin(errors, errors.c.id == c.error_type)
        .join(statuses, statuses.c.id == c.cost_status)
    )
    texts = {"operation": operations, "model": models, "error": errors, "status": statuses}
    columns = [table.c.value.label(name) for name, table in texts.items()]
    own = (
        c.span_id,
        c.parent_span_id,
        c.state,
        c.started_ns,
        c.duration_ns,
        c.ttft_ns,
        c.input_tokens,
        c.output_tokens,
        c.cost_pusd,
    )
    query = (
        select(*own, *columns)
        .select_from(joined)
        .where(c.run == run.number)
        .order_by(c.started_ns, c.id)
        .limit(limit)
    )
    for row in connection.execute(query):
        priced = row.cost_pusd is not None
        details: dict[str, Any] = {"cost_status": OLD_STATUSES.get(row.status, row.status)}
        if row.ttft_ns is not None:
            details["ttft_seconds"] = row.ttft_ns / 1e9
        yield Node(
            span_id=bytes(row.span_id).hex(),
            parent_span_id=row.parent_span_id and bytes(row.parent_span_id).hex(),
            kind="llm" if row.operation != "embeddings" else "embedding",
            name=row.model or "unknown model",
            status="ok" if row.state == 0 else "error",
            error_type=row.error,
            started_ns=row.started_ns,
            duration_ns=row.duration_ns,
            details=details,
            calls=1,
            failed_calls=int(row.state > 0),
            unpriced_calls=int(not priced and row.state < 2),
            priced_calls=int(priced),
            input_tokens=row.input_tokens or 0,
            output_tokens=row.output_tokens or 0,
            cost=row.cost_pusd or 0,
            is_call=True,
        )


def _grow(run: Run, nodes: list[Node]) -> Node:
    """Hang every node under its parent. Orphans, cycles and nodes too deep hang on the root, so that no cost is left out."""
    nodes.sort(key=lambda node: (node.started_ns, node.span_id))
    by_span = {node.span_id: node for node in nodes}
    root = by_span.get(run.run_id)
    if root is None:
        root = Node(
            "",
            None,
            run.kind or "run",
            run.name or run.run_id,
            run.status,
            run.error_type,
            run.started_ns,
            run.duration_ns,
        )
    waiting: dict[str, list[Node]] = {}
    orphans = []
    for node in nodes:
        if node is root:
            continue
        if node.parent_span_id in by_span and node.parent_span_id != node.span_id:
            waiting.setdefault(str(node.parent_span_id), []).append(node)
        else:
            orphans.append(node)
    order = _hang(root, waiting.pop(root.span_id, []) + orphans, waiting, depth=0)
    while waiting:  # what is left hangs in a cycle of parents: cut it
        cut = waiting.pop(next(iter(waiting)))
        order += _hang(root, cut, waiting, depth=0)
    for node, parent in reversed(order):
        for name in (
            "calls",
            "failed_calls",
            "unpriced_calls",
            "priced_calls",
            "input_tokens",
            "output_tokens",
            "cost",
        ):
            setattr(parent, name, getattr(parent, name) + getattr(node, name))
    root.children.sort(key=lambda node: (node.started_ns, node.span_id))
    return root


def _hang(
    parent: Node, children: list[Node], waiting: dict[str, list[Node]], depth: int
) -> list[tuple[Node, Node]]:
    """Hang `children` and all that waits for them below `parent`; returns (node, parent) from the top down."""
    order: list[tuple[Node, Node]] = []
    level = [(child, parent) for child in children]
    while level:
        below: list[tuple[Node, Node]] = []
        for node, above in level:
            above.children.append(node)
            order.append((node, above))
            host = node if depth < DEEPEST else above
            below += [(child, host) for child in waiting.pop(node.span_id, [])]
        level, depth = below, depth + 1
    return order
