"""What finished spans mean for people while the app runs: metrics, log lines and the summary after a run. Export thread only."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.console.kickoff_summary import Summary
from crewmeter.console.run_log import RunLog
from crewmeter.export.metrics import Metrics
from crewmeter.log_rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.budget_hook.before_call import BeforeCallHook
    from crewmeter.settings import Settings
    from crewmeter.spans.span import OpenSpan

__all__ = ["Observer"]


logger = logging.getLogger("crewmeter")


class Observer:
    """Sees every span once, before its export, and again once it is exported, when the ledger knows its cost."""

    def __init__(
        self,
        settings: Settings,
        resource: Callable[[], Resource],
        before_call: BeforeCallHook | None = None,
    ) -> None:
        self._before_call = before_call
        self._metrics = Metrics(settings, resource)
        self._limit = RateLimit()
        self._log = RunLog(settings.log)
        self._summary = Summary(settings.summary)

    def see(self, node: OpenSpan) -> None:
        """Before export: count it."""
        attributes = node.readable.attributes if node.readable is not None else None
        if attributes is None:
            return
        self._count(node)
        try:
            if self._before_call is not None:
                self._before_call.seen(node)
            self._metrics.record(node)
        except Exception as error:  # noqa: BLE001  # meter provider and guard may be anybody's; they must not cost a span
            if self._limit.allows(monotonic()):
                logger.warning(
                    "crewmeter: could not count a span for metrics or budgets: %s",
                    type(error).__name__,
                )

    def delivered(self, node: OpenSpan, exporter: SpanExporter) -> None:
        """After export: say it, with the cost if the exporter knows it."""
        if self._log.enabled:
            self._log.write(node, exporter)
        if node.run is node:
            self._summary.show(node, exporter)

    def close(self) -> None:
        """Flush and stop the metrics exporter, if one is ours, and give back what budgets have reserved."""
        if self._before_call is not None:
            self._before_call.close()
        self._metrics.close()

    def after_fork(self) -> None:
        self._metrics.after_fork()

    def _count(self, node: OpenSpan) -> None:
        tally = node.run.tally if node.run is not None else None
        if tally is None or node.readable is None:
            return
        attributes = node.readable.attributes or {}
        if node.call is not None:
            tally.calls += 1
            tally.failed_calls += node.error_type is not None
            used_input, used_output = (
                attributes.get(semconv.INPUT_TOKENS),
                attributes.get(semconv.OUTPUT_TOKENS),
            )
            if isinstance(used_input, int) and isinstance(used_output, int):
                tally.input_tokens += used_input
                tally.output_tokens += used_output
            else:
                tally.unknown_calls += 1
        elif node.kind == semconv.KIND_TOOL:
            tally.tool_calls += 1
