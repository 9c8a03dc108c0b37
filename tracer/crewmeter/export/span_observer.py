"""What finished spans mean for people while the app runs: metrics, log lines and the summary after a run. Export thread only."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.console.kickoff_summary import KickoffSummary
from crewmeter.console.run_log import RunLog
from crewmeter.export.metrics import ClientMetrics
from crewmeter.log_rate_limit import RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.budget_hook.before_call import BeforeCallHook
    from crewmeter.settings import TracerSettings
    from crewmeter.spans.span import OpenSpan

__all__ = ["SpanObserver"]


logger = logging.getLogger("crewmeter")


class SpanObserver:
    """Sees every span once, before its export, and again once it is exported, when the ledger knows its cost."""

    def __init__(
        self,
        settings: TracerSettings,
        resource: Callable[[], Resource],
        before_call: BeforeCallHook | None = None,
    ) -> None:
        self._before_call = before_call
        self._metrics = ClientMetrics(settings, resource)
        self._limit = RateLimit()
        self._log = RunLog(settings.log)
        self._summary = KickoffSummary(settings.summary)

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
            self._summary.write(node, exporter)

    def close(self) -> None:
        """Flush and stop the metrics exporter, if one is ours, and give back what budgets have reserved."""
        if self._before_call is not None:
            self._before_call.close()
        self._metrics.close()

    def after_fork(self) -> None:
        self._metrics.after_fork()

    def _count(self, node: OpenSpan) -> None:
        run_usage = node.run.run_usage if node.run is not None else None
        if run_usage is None or node.readable is None:
            return
        attributes = node.readable.attributes or {}
        if node.call is not None:
            run_usage.calls += 1
            run_usage.failed_calls += node.error_type is not None
            used_input, used_output = (
                attributes.get(semconv.INPUT_TOKENS),
                attributes.get(semconv.OUTPUT_TOKENS),
            )
            if isinstance(used_input, int) and isinstance(used_output, int):
                run_usage.input_tokens += used_input
                run_usage.output_tokens += used_output
            else:
                run_usage.unknown_calls += 1
        elif node.kind == semconv.KIND_TOOL:
            run_usage.tool_calls += 1
