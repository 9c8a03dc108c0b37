"""The readers of finished spans: metrics, budgets, log lines and the summary.

All of it runs on the export thread.
"""

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
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.budget_hook.before_call import BeforeCallHook
    from crewmeter.settings import TracerSettings
    from crewmeter.spans.span import OpenSpan, RunUsage

__all__ = ["SpanObserver"]

logger = logging.getLogger("crewmeter")


class SpanObserver:
    """The one that looks at every span before its export, and again after it."""

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

    def before_export(self, node: OpenSpan) -> None:
        """Count ``node`` for its run, for budgets and for metrics."""
        if node.readable is None:
            return
        attributes = node.readable.attributes or {}
        if node.run is not None and node.run.run_usage is not None:
            _add(node.run.run_usage, node, attributes)
        try:
            if self._before_call is not None:
                self._before_call.seen(node)
            self._metrics.record(node)
        # Anybody's meter provider or guard, which must not cost a span.
        except Exception as error:  # noqa: BLE001
            if self._limit.allows(monotonic()):
                logger.warning(
                    "could not count a span for metrics or budgets: %s",
                    type(error).__name__,
                )

    def after_export(self, node: OpenSpan, exporter: SpanExporter) -> None:
        """Write the log line and the summary, with the cost if the exporter knows it."""
        if self._log.enabled:
            self._log.write(node, exporter)
        if node.run is node:
            self._summary.write(node, exporter)

    def close(self) -> None:
        """Stop our own metrics exporter, and give back what budgets have reserved."""
        if self._before_call is not None:
            self._before_call.close()
        self._metrics.close()

    def after_fork(self) -> None:
        """Begin afresh in a forked child."""
        self._metrics.after_fork()


def _add(usage: RunUsage, node: OpenSpan, attributes: Mapping[str, object]) -> None:
    """Add a finished span to its run's usage."""
    if node.kind == semconv.KIND_TOOL:
        usage.tool_calls += 1
    if node.call is None:
        return
    usage.calls += 1
    if node.error_type is not None:
        usage.failed_calls += 1
    input_tokens = attributes.get(semconv.INPUT_TOKENS)
    output_tokens = attributes.get(semconv.OUTPUT_TOKENS)
    if isinstance(input_tokens, int) and isinstance(output_tokens, int):
        usage.input_tokens += input_tokens
        usage.output_tokens += output_tokens
    else:
        usage.unknown_calls += 1
