"""One log line per run, task, agent, tool and failure, for the log shipping people already have (``CREWMETER_LOG``)."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.console.run_costs import cost_of_run

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.spans.span import OpenSpan

__all__ = ["RunLog"]

logger = logging.getLogger("crewmeter.console.run_log")

_KINDS = frozenset(
    {
        semconv.KIND_CREW,
        semconv.KIND_FLOW,
        semconv.KIND_TASK,
        semconv.KIND_AGENT,
        semconv.KIND_TOOL,
        semconv.KIND_TRAIN,
        semconv.KIND_TEST,
    }
)
_NAMES = (
    (semconv.CREW, "crew"),
    (semconv.FLOW, "flow"),
    (semconv.TASK, "task"),
    (semconv.AGENT_NAME, "agent"),
    (semconv.TOOL, "tool"),
    (semconv.REQUEST_MODEL, "model"),
    (semconv.ERROR_TYPE, "error"),
    (semconv.USER, "user"),
    (semconv.TEAM, "team"),
    (semconv.SESSION, "session"),
)


class RunLog:
    """Writes to the logger ``crewmeter.console.run_log`` at INFO, failures at WARNING; ``mode`` is off, text or json."""

    def __init__(self, mode: str) -> None:
        self.enabled = mode != "off"
        self._json = mode == "json"
        if self.enabled and logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)

    def write(self, node: OpenSpan, exporter: SpanExporter) -> None:
        """Log ``node`` if it is a run, task, agent, tool or a failure."""
        if node.kind not in _KINDS and node.error_type is None:
            return
        fields = _fields(node, exporter)
        level = logging.INFO if node.error_type is None else logging.WARNING
        if self._json:
            logger.log(level, "%s", json.dumps(fields, ensure_ascii=False))
        else:
            logger.log(
                level, "%s", " ".join(f"{key}={_plain(value)}" for key, value in fields.items())
            )


def _fields(node: OpenSpan, exporter: SpanExporter) -> dict[str, Any]:
    attributes = (node.readable.attributes if node.readable is not None else None) or {}
    fields: dict[str, Any] = {
        "event": node.kind,
        "name": node.name,
        "status": "error"
        if node.error_type
        else "abandoned"
        if attributes.get(semconv.ABANDONED)
        else "ok",
        "duration_seconds": round(((node.ended_ns or node.started_ns) - node.started_ns) / 1e9, 6),
    }
    fields.update({short: attributes[name] for name, short in _NAMES if name in attributes})
    if node.call is not None:
        fields["input_tokens"] = attributes.get(semconv.INPUT_TOKENS)
        fields["output_tokens"] = attributes.get(semconv.OUTPUT_TOKENS)
    if node.run is node and node.run_usage is not None:
        run_usage, cost = node.run_usage, cost_of_run(exporter, node)
        fields.update(
            calls=run_usage.calls,
            tool_calls=run_usage.tool_calls,
            input_tokens=run_usage.input_tokens,
            output_tokens=run_usage.output_tokens,
        )
        if cost is not None:
            fields["cost_usd"] = format(cost.usd.normalize(), "f") if cost.usd is not None else None
            fields["unpriced_calls"] = cost.unpriced_calls
    fields["run_id"] = attributes.get(semconv.RUN_ID)
    fields["trace_id"] = f"{node.context.trace_id:032x}"
    fields["span_id"] = f"{node.context.span_id:016x}"
    return {key: value for key, value in fields.items() if value is not None}


def _plain(value: object) -> str:
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    return (
        json.dumps(text, ensure_ascii=False)
        if not text or any(mark in text for mark in ' "=')
        else text
    )
