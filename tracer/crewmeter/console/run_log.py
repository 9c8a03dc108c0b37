"""One log line per run, task, agent, tool and failure, as ``CREWMETER_LOG`` says."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.console.run_costs import cost_of_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.spans.span import OpenSpan, RunUsage

__all__ = ["RunLog"]

logger = logging.getLogger("crewmeter.log")

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
    """A writer to the logger ``crewmeter.log``: INFO, and WARNING for failures.

    ``mode`` is off, text or json.
    """

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
        if self._json:
            line = json.dumps(fields, ensure_ascii=False)
        else:
            line = " ".join(f"{key}={_plain(value)}" for key, value in fields.items())
        level = logging.INFO if node.error_type is None else logging.WARNING
        logger.log(level, "%s", line)


def _fields(node: OpenSpan, exporter: SpanExporter) -> dict[str, Any]:
    attributes: Mapping[str, Any] = {}
    if node.readable is not None:
        attributes = node.readable.attributes or {}
    duration_ns = (node.ended_ns or node.started_ns) - node.started_ns
    fields: dict[str, Any] = {
        "event": node.kind,
        "name": node.name,
        "status": _status(node, attributes),
        "duration_seconds": round(duration_ns / 1e9, 6),
    }
    for name, short in _NAMES:
        fields[short] = attributes.get(name)
    if node.call is not None:
        fields["input_tokens"] = attributes.get(semconv.INPUT_TOKENS)
        fields["output_tokens"] = attributes.get(semconv.OUTPUT_TOKENS)
    if node.run is node and node.run_usage is not None:
        fields.update(
            _run_fields(
                node,
                node.run_usage,
                exporter,
            )
        )
    fields["run_id"] = attributes.get(semconv.RUN_ID)
    fields["trace_id"] = f"{node.context.trace_id:032x}"
    fields["span_id"] = f"{node.context.span_id:016x}"
    return {key: value for key, value in fields.items() if value is not None}


def _status(node: OpenSpan, attributes: Mapping[str, Any]) -> str:
    if node.error_type:
        return "error"
    if attributes.get(semconv.ABANDONED):
        return "abandoned"
    return "ok"


def _run_fields(node: OpenSpan, usage: RunUsage, exporter: SpanExporter) -> dict[str, Any]:
    """Return what a run used and cost."""
    fields: dict[str, Any] = {
        "calls": usage.calls,
        "tool_calls": usage.tool_calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
    }
    cost = cost_of_run(exporter, node)
    if cost is not None:
        fields["unpriced_calls"] = cost.unpriced_calls
        if cost.usd is not None:
            fields["cost_usd"] = format(
                cost.usd.normalize(),
                "f",
            )
    return fields


def _plain(value: object) -> str:
    """Return ``value`` for a ``key=value`` line, quoted where it must be."""
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    if text and " " not in text and '"' not in text and "=" not in text:
        return text
    return json.dumps(text, ensure_ascii=False)
