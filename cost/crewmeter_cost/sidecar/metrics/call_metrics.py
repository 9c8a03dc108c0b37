"""What the ledger took in, as Prometheus series.

There is never a series per user.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.hosts import resolve_provider
from crewmeter_cost.pricing.charge import PICO, Charge
from crewmeter_cost.sidecar.metrics.definitions import CounterSeries, HistogramSeries, LabelValues

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.core import Metric

    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.pricing.charge import Outcome
    from crewmeter_cost.records import Call, Step

__all__ = ["CallMetrics"]

DURATION_BOUNDS = tuple(round(0.01 * 2**n, 2) for n in range(19))
"""Seconds: .01 × 2ⁿ to 81.92 as in the GenAI conventions, then on to 44 minutes.

Crews run for minutes.
"""
CALLS_BOUNDS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987)
"""Model calls per run; loops show in the upper ones."""
_MOST_PATHS = 100
"""Paths of unknown usage that have a series of their own. A hostile sender cannot make more."""
_COUNTER_LIMIT = 5_000
_HISTOGRAM_LIMIT = 1_000
_OPERATIONS = {semconv.EMBEDDINGS: "embeddings", semconv.RERANK: "rerank"}
_STEP_OPERATIONS = {
    semconv.KIND_TASK: "task",
    semconv.KIND_AGENT: "agent",
    semconv.KIND_TOOL: "tool",
}

_provider_of = lru_cache(maxsize=1024)(lambda declared, host: resolve_provider(declared, host)[0])


class CallMetrics:
    """A prometheus-client collector of the rows that were really inserted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._provider = LabelValues(50, absent="unknown")
        self._model = LabelValues(200, absent="unknown")
        self._crew = LabelValues(200, absent="none")
        self._team = LabelValues(100, absent="none")
        self._step = {
            operation: LabelValues(200, absent="none")
            for operation in ("tool", "agent", "task", "run")
        }
        self._run_kind = LabelValues(20, absent="unknown")
        self._calls = CounterSeries(
            semconv.PROM_CALLS,
            "Billed model calls.",
            ("provider", "model", "crew", "operation", "status"),
            limit=_COUNTER_LIMIT,
        )
        self._cost = CounterSeries(
            semconv.PROM_COST,
            "Cost of priced calls, in USD.",
            ("provider", "model", "crew", "team"),
            limit=_COUNTER_LIMIT,
            scale=PICO,
        )
        self._tokens = CounterSeries(
            semconv.PROM_TOKENS,
            "Tokens by type. input includes cache_read and cache_write, output includes reasoning.",
            ("provider", "model", "type"),
            limit=_COUNTER_LIMIT,
        )
        self._unpriced = CounterSeries(
            semconv.PROM_UNPRICED,
            "Calls whose cost is not known, by reason.",
            ("provider", "model", "reason"),
            limit=_COUNTER_LIMIT,
        )
        self._unknown_usage = CounterSeries(
            semconv.PROM_UNKNOWN_USAGE,
            "Calls whose usage has a part that nobody knows, by its path. Their cost is a bound.",
            ("provider", "path"),
            limit=_COUNTER_LIMIT,
        )
        self._usage_path = LabelValues(_MOST_PATHS, absent="unknown")
        self._runs = CounterSeries(
            semconv.PROM_RUNS, "Finished runs.", ("name", "kind", "status"), limit=_COUNTER_LIMIT
        )
        self._tools = CounterSeries(
            semconv.PROM_TOOL_CALLS, "Tool calls.", ("tool", "status"), limit=_COUNTER_LIMIT
        )
        self._duration = HistogramSeries(
            semconv.PROM_DURATION,
            "Seconds per operation: llm, embeddings, rerank, tool, agent, task, run. "
            "name is the model, tool, agent, task or run.",
            ("operation", "name", "status"),
            bounds=DURATION_BOUNDS,
            limit=_HISTOGRAM_LIMIT,
        )
        self._first_token = HistogramSeries(
            semconv.PROM_TIME_TO_FIRST_TOKEN,
            "Seconds from a call's start to its first streamed chunk.",
            ("model",),
            bounds=DURATION_BOUNDS,
            limit=_HISTOGRAM_LIMIT,
        )
        self._run_calls = HistogramSeries(
            semconv.PROM_RUN_CALLS,
            "Model calls per finished run.",
            ("name",),
            bounds=CALLS_BOUNDS,
            limit=_HISTOGRAM_LIMIT,
        )

    def collect(self) -> Iterator[Metric]:
        """Return every family, for prometheus-client."""
        with self._lock:
            counters = (
                self._calls,
                self._cost,
                self._tokens,
                self._unpriced,
                self._unknown_usage,
                self._runs,
                self._tools,
            )
            histograms = (self._duration, self._first_token, self._run_calls)
            families = [
                *(counter.family() for counter in counters),
                *(histogram.family() for histogram in histograms),
            ]
        yield from families

    def record(self, calls: Iterable[tuple[Call, Outcome]], steps: Iterable[Step]) -> None:
        """Count what a transaction inserted.

        Call it after the commit, with inserted rows only.
        """
        with self._lock:
            self._record_calls(calls)
            for step in steps:
                self._record_step(step)

    def record_run_calls(self, runs: Iterable[tuple[str | None, int]]) -> None:
        """Count finished runs by (name, model calls in them)."""
        with self._lock:
            for name, calls in runs:
                self._run_calls.observe_all(
                    (self._step["run"].of(name),),
                    [(calls, "", 0.0)],
                )

    def _record_calls(self, calls: Iterable[tuple[Call, Outcome]]) -> None:
        """Add up calls that share all labels first: a batch has many calls and few series."""
        groups: dict[tuple[object, ...], list[tuple[Call, Outcome]]] = {}
        for call, outcome in calls:
            rejected = "rejected" in call.usage.flags
            key = (
                call.provider,
                call.host,
                call.request_model or call.response_model,
                call.context.crew,
                call.context.team,
                call.operation,
                call.error or rejected,
                rejected,
                outcome.status,
            )
            groups.setdefault(key, []).append((call, outcome))
        for group in groups.values():
            self._record_alike(group)

    def _record_alike(self, group: Sequence[tuple[Call, Outcome]]) -> None:
        """Count calls that have all labels in common."""
        call, outcome = group[0]
        provider = self._provider.of(
            _provider_of(
                call.provider,
                call.host,
            )
        )
        model = self._model.of(call.request_model or call.response_model)
        crew = self._crew.of(call.context.crew)
        rejected = "rejected" in call.usage.flags
        status = "error" if call.error or rejected else "ok"
        operation = _OPERATIONS.get(call.operation, "llm")
        self._calls.add(
            (provider, model, crew, operation, status),
            len(group),
        )
        costs = [charge.cost_pusd for _, charge in group if isinstance(charge, Charge)]
        if costs:
            self._cost.add(
                (provider, model, crew, self._team.of(call.context.team)),
                sum(costs),
            )
        elif not rejected:
            self._unpriced.add(
                (provider, model, outcome.status),
                len(group),
            )
        for one, _ in group:
            if one.usage.flags:
                self._record_unknown_usage(provider, one.usage.flags)
        self._record_tokens(
            (provider, model),
            [one.usage for one, _ in group],
        )
        self._record_times(
            (operation, model, status),
            [one for one, _ in group],
        )

    def _record_unknown_usage(self, provider: str, flags: Sequence[str]) -> None:
        for flag in flags:
            kind, _, path = flag.partition(":")
            if kind == "unknown_usage":
                self._unknown_usage.add(
                    (provider, self._usage_path.of(path)),
                    1,
                )

    def _record_tokens(self, labels: tuple[str, str], usages: Sequence[TokenUsage]) -> None:
        counts = {
            "input": sum([usage.input or 0 for usage in usages]),
            "cache_read": sum([usage.cache_read for usage in usages]),
            "cache_write": sum([usage.cache_write_5m + usage.cache_write_1h for usage in usages]),
            "output": sum([usage.output or 0 for usage in usages]),
            "reasoning": sum([usage.reasoning for usage in usages]),
        }
        for kind, count in counts.items():
            if count:
                self._tokens.add(
                    (*labels, kind),
                    count,
                )

    def _record_times(self, labels: tuple[str, str, str], calls: Sequence[Call]) -> None:
        timed = [
            (max(call.ended_ns - call.started_ns, 0) / 1e9, call.trace_id, call.ended_ns / 1e9)
            for call in calls
        ]
        self._duration.observe_all(labels, timed)
        waits = [
            (call.time_to_first_token_ns / 1e9, call.trace_id, call.ended_ns / 1e9)
            for call in calls
            if call.time_to_first_token_ns is not None
        ]
        if waits:
            self._first_token.observe_all(
                (labels[1],),
                waits,
            )

    def _record_step(self, step: Step) -> None:
        abandoned = bool(step.details.get("abandoned"))
        status = "error" if step.error else "ok"
        if abandoned:
            status = "abandoned"
        operation = "run" if step.is_run else _STEP_OPERATIONS.get(step.kind)
        if operation is None:
            return
        name = self._step[operation].of(step.name)
        if step.is_run:
            self._runs.add(
                (name, self._run_kind.of(step.kind), status),
                1,
            )
        elif operation == "tool":
            self._tools.add((name, status), 1)
        if not abandoned:
            seconds = (
                max(
                    step.ended_ns - step.started_ns,
                    0,
                )
                / 1e9
            )
            self._duration.observe_all(
                (operation, name, status), [(seconds, step.trace_id, step.ended_ns / 1e9)]
            )
