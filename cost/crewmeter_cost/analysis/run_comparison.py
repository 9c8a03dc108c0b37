"""Comparison of two runs, windows or versions, with the causes of the difference.

Steps of runs are aligned by their path in the tree (task, agent, tool, model), so that a loop shows
as more occurrences of one path. Steps of windows and versions are the groups crew, task, agent and
model, and the tools.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from crewmeter_cost.filters import MODEL_CALL_KEYS, Filter, Term
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.run_search import find_runs
from crewmeter_cost.ledger.read.run_tree import run_tree
from crewmeter_cost.ledger.read.unknown_usage import inexact_calls
from crewmeter_cost.money import exact_usd

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from crewmeter_cost.ledger.read.report import ReportRow
    from crewmeter_cost.ledger.read.run_tree import Node
    from crewmeter_cost.ledger.read.runs import Run
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["ComparedStep", "Comparison", "Side", "StepPair", "Totals", "compare_sides", "totals_of"]

EXPLANATIONS = 3
"""Lines that explain a difference before the details."""

_TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
_GROUPS = ("crew", "task", "agent", "model")
_TOOL_GROUPS = ("crew", "agent", "tool")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: a run's calls, or those of a filter and a window."""

    label: str
    where: Filter
    since: datetime | None = None
    until: datetime | None = None
    run: Run | None = None

    @classmethod
    def of_run(cls, run: Run) -> Side:
        """Return the side of one run."""
        where = Filter((Term("run", "=", run.run_id),))
        return cls(
            f"{run.name or 'run'} {run.run_id[:8]}",
            where,
            run=run,
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over one side.

    Seconds are of runs, percentiles of calls. A cost is None if unknown.
    """

    runs: int
    failed_runs: int
    calls: int
    failed_calls: int
    unpriced_calls: int
    tool_calls: int
    tokens: Mapping[str, int]
    cost_pusd: int | None
    seconds: float
    p50_seconds: float | None
    p95_seconds: float | None
    inexact_calls: int = 0
    """Priced calls whose cost is a bound or an estimate."""

    def document(self) -> dict[str, object]:
        """Return the totals as JSON, costs as exact decimal strings."""
        document: dict[str, object] = {
            "runs": self.runs,
            "failed_runs": self.failed_runs,
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "unpriced_calls": self.unpriced_calls,
            "tool_calls": self.tool_calls,
            **self.tokens,
            "cost_usd": None if self.cost_pusd is None else exact_usd(self.cost_pusd),
            "duration_seconds": round(self.seconds, 6),
            "p50_seconds": self.p50_seconds,
            "p95_seconds": self.p95_seconds,
        }
        if self.inexact_calls:
            document["inexact_calls"] = self.inexact_calls
        return document


@dataclass(slots=True)
class ComparedStep:
    """Occurrences of one step on one side, without its children (costs in pico-USD)."""

    count: int = 0
    failed: int = 0
    calls: int = 0
    unpriced_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_pusd: int = 0
    seconds: float = 0.0

    def document(self) -> dict[str, object]:
        """Return the step as JSON."""
        return {
            "count": self.count,
            "failed": self.failed,
            "calls": self.calls,
            "unpriced_calls": self.unpriced_calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": exact_usd(self.cost_pusd),
            "duration_seconds": round(self.seconds, 6),
        }


@dataclass(frozen=True, slots=True)
class StepPair:
    """One step on both sides, where a side without it counts zero."""

    path: tuple[str, ...]
    a: ComparedStep
    b: ComparedStep

    @property
    def cost_change(self) -> int:
        """Pico-USD that b costs more than a."""
        return self.b.cost_pusd - self.a.cost_pusd

    @property
    def seconds_change(self) -> float:
        """Seconds that b takes longer than a."""
        return self.b.seconds - self.a.seconds

    @property
    def count_change(self) -> int:
        """Occurrences that b has more than a."""
        return self.b.count - self.a.count

    def document(self) -> dict[str, object]:
        """Return the pair as JSON."""
        return {
            "path": list(self.path),
            "a": self.a.document(),
            "b": self.b.document(),
            "delta": {
                "count": self.count_change,
                "failed": self.b.failed - self.a.failed,
                "cost_usd": exact_usd(self.cost_change),
                "duration_seconds": round(self.seconds_change, 6),
            },
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides' totals and their steps, largest difference first."""

    a: Side
    b: Side
    totals_a: Totals
    totals_b: Totals
    steps: tuple[StepPair, ...] = field(default=())

    @property
    def explanations(self) -> tuple[StepPair, ...]:
        """The steps that explain most of the difference."""
        changed = [step for step in self.steps if step.cost_change or step.count_change]
        return tuple(changed[:EXPLANATIONS])

    @property
    def cost_change(self) -> int | None:
        """Pico-USD that b costs more than a, None where one of them is unknown."""
        if self.totals_a.cost_pusd is None or self.totals_b.cost_pusd is None:
            return None
        return self.totals_b.cost_pusd - self.totals_a.cost_pusd

    def document(self) -> dict[str, object]:
        """Return the comparison as JSON."""
        a = self.totals_a.document()
        b = self.totals_b.document()
        return {
            "currency": "USD",
            "a": {"label": self.a.label, **a},
            "b": {"label": self.b.label, **b},
            "delta": self._delta(a, b),
            "explanation": [step.document() for step in self.explanations],
            "steps": [step.document() for step in self.steps],
        }

    def _delta(self, a: Mapping[str, object], b: Mapping[str, object]) -> dict[str, object]:
        """Return b less a, value by value, with null where one is unknown."""
        change = self.cost_change
        delta: dict[str, object] = {}
        for name, value in b.items():
            if name == "inexact_calls":
                continue
            other = a[name]
            if name == "cost_usd":
                delta[name] = None if change is None else exact_usd(change)
            elif isinstance(value, int | float) and isinstance(other, int | float):
                delta[name] = round(value - other, 6)
            else:
                delta[name] = None
        return delta


def compare_sides(ledger: Ledger, a: Side, b: Side) -> Comparison:
    """Return how b differs from a."""
    steps_a = _steps(ledger, a)
    steps_b = _steps(ledger, b)
    paths = list(dict.fromkeys((*steps_a, *steps_b)))
    pairs = [
        StepPair(path, steps_a.get(path, ComparedStep()), steps_b.get(path, ComparedStep()))
        for path in paths
    ]
    by_money = any(pair.cost_change for pair in pairs)

    def weight(pair: StepPair) -> tuple[float, int]:
        amount = abs(pair.cost_change) if by_money else abs(pair.seconds_change)
        return -amount, -abs(pair.count_change)

    # Sorting is stable: steps that changed alike stay in the order in which they ran.
    pairs.sort(key=weight)
    totals = []
    for side in (a, b):
        inexact = inexact_calls(ledger, side.where, side.since, side.until)
        totals.append(replace(totals_of(ledger, side), inexact_calls=inexact))
    return Comparison(a, b, totals[0], totals[1], tuple(pairs))


def totals_of(ledger: Ledger, side: Side) -> Totals:
    """Return the sums over one side."""
    total = report(
        ledger,
        by=(),
        where=side.where,
        since=side.since,
        until=side.until,
    ).total
    return Totals(
        *_run_counts(ledger, side),
        calls=total.sums["calls"],
        failed_calls=total.sums["failed_calls"],
        unpriced_calls=total.sums["unpriced_calls"],
        tool_calls=_tool_calls(ledger, side),
        tokens={name: total.sums[name] for name in _TOKENS},
        cost_pusd=total.cost_pusd,
        seconds=_seconds(ledger, side),
        p50_seconds=total.p50_seconds,
        p95_seconds=total.p95_seconds,
    )


def _runs(ledger: Ledger, side: Side) -> tuple[Run, ...]:
    """Return the runs of a side."""
    if side.run is not None:
        return (side.run,)
    page = find_runs(
        ledger,
        where=side.where,
        since=side.since,
        until=side.until,
        limit=None,
    )
    return page.runs


def _run_counts(ledger: Ledger, side: Side) -> tuple[int, int]:
    """Return how many runs a side has, and how many of them failed."""
    found = _runs(ledger, side)
    return len(found), sum(run.status in ("error", "abandoned") for run in found)


def _seconds(ledger: Ledger, side: Side) -> float:
    """Return the seconds that a side's runs took together."""
    return sum((run.duration_ns or 0) / 1e9 for run in _runs(ledger, side))


def _tool_calls(ledger: Ledger, side: Side) -> int:
    """Return the number of tool calls of a side.

    A filter on model calls selects no tool calls.
    """
    if any(term.key in MODEL_CALL_KEYS for term in side.where.terms):
        return sum(run.tool_calls for run in _runs(ledger, side))
    tools = report(
        ledger,
        by=("tool",),
        where=side.where,
        since=side.since,
        until=side.until,
    )
    return tools.total.sums["calls"]


def _steps(ledger: Ledger, side: Side) -> dict[tuple[str, ...], ComparedStep]:
    """Return a side's steps by their path."""
    if side.run is None:
        return _grouped_steps(ledger, side)
    steps: dict[tuple[str, ...], ComparedStep] = defaultdict(ComparedStep)
    for path, node in _walk(run_tree(ledger, side.run).root):
        _add_node(steps[path], node)
    return steps


def _walk(root: Node) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Yield every node below the root with its path, parents first, in order of time."""
    waiting: list[tuple[tuple[str, ...], Node]] = [((), child) for child in reversed(root.children)]
    while waiting:
        above, node = waiting.pop()
        path = (*above, f"{node.kind} {node.name}")
        yield path, node
        waiting += [(path, child) for child in reversed(node.children)]


def _add_node(step: ComparedStep, node: Node) -> None:
    """Add one node without its children, which are steps of their own."""
    step.count += 1
    step.failed += node.status in ("error", "abandoned")
    own_ns = node.duration_ns or 0
    step.calls += node.calls
    step.unpriced_calls += node.unpriced_calls
    step.input_tokens += node.input_tokens
    step.output_tokens += node.output_tokens
    step.cost_pusd += node.cost
    for child in node.children:
        own_ns -= child.duration_ns or 0
        step.calls -= child.calls
        step.unpriced_calls -= child.unpriced_calls
        step.input_tokens -= child.input_tokens
        step.output_tokens -= child.output_tokens
        step.cost_pusd -= child.cost
    step.seconds += max(0, own_ns) / 1e9


def _grouped_steps(ledger: Ledger, side: Side) -> dict[tuple[str, ...], ComparedStep]:
    """Return the groups of a window or version: model calls, then tools.

    A filter on tools or on what only model calls have leaves the others out, as no report has both.
    """
    steps: dict[tuple[str, ...], ComparedStep] = {}
    where = side.where
    since = side.since
    until = side.until
    keys = {term.key for term in where.terms}
    if "tool" not in keys:
        by_model = report(ledger, by=_GROUPS, where=where, since=since, until=until)
        for row in by_model.rows:
            path = _path(_GROUPS, row) or ("model unknown",)
            steps[path] = _group_step(row, of_tools=False)
    if keys.intersection(MODEL_CALL_KEYS):
        return steps
    by_tool = report(ledger, by=_TOOL_GROUPS, where=where, since=since, until=until)
    for row in by_tool.rows:
        path = _path(_TOOL_GROUPS, row)
        steps[path] = _group_step(row, of_tools=True)
    return steps


def _path(groups: tuple[str, ...], row: ReportRow) -> tuple[str, ...]:
    """Return a row's names, each with its group, without those that are unknown."""
    named = zip(groups, row.keys, strict=True)
    return tuple(f"{group} {name}" for group, name in named if name)


def _group_step(row: ReportRow, *, of_tools: bool) -> ComparedStep:
    """Return a group as a step.

    A tool's cost is that of the calls made inside it, which have their own group.
    """
    sums = row.sums
    step = ComparedStep(
        count=sums["calls"], failed=sums["failed_calls"], seconds=sums["duration_ns"] / 10**9
    )
    if not of_tools:
        step.calls = sums["calls"]
        step.unpriced_calls = sums["unpriced_calls"]
        step.input_tokens = sums["input_tokens"]
        step.output_tokens = sums["output_tokens"]
        step.cost_pusd = sums["cost_pusd"]
    return step
