"""The line after a run on a terminal: its cost, tokens, calls and time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crewmeter.console.run_costs import cost_of_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.console.run_costs import RunCharge
    from crewmeter.spans.span import OpenSpan, RunUsage

__all__ = ["KickoffSummary"]


class KickoffSummary:
    """A writer to stderr: always, never, or (None) if stderr is a terminal."""

    def __init__(self, wanted: bool | None) -> None:
        self._wanted = wanted

    def write(self, node: OpenSpan, exporter: SpanExporter) -> None:
        """Print what the run ``node`` came to, if a summary is wanted."""
        stream = sys.stderr
        if stream is None or self._wanted is False:
            return
        if self._wanted is None and not stream.isatty():
            return
        stream.write(f"{_line(node, exporter)}\n")
        stream.flush()


def _line(node: OpenSpan, exporter: SpanExporter) -> str:
    cost = cost_of_run(exporter, node)
    name = node.name.split(" ", 1)[-1]
    failed = f" failed ({node.error_type})" if node.error_type else ""
    parts = [f"crewmeter: {name}{failed}"]
    if cost is not None:
        parts += _cost_parts(cost)
    if node.run_usage is not None:
        parts += _usage_parts(node.run_usage)
    duration_ns = (node.ended_ns or node.started_ns) - node.started_ns
    parts.append(f"{duration_ns / 1e9:.1f} s")
    if cost is not None:
        parts.append(f"crewmeter show {node.context.span_id:016x}")
    return " · ".join(parts)


def _cost_parts(cost: RunCharge) -> Iterator[str]:
    if cost.usd is not None:
        yield _money(cost.usd)
    if cost.unpriced_calls:
        yield f"{_calls(cost.unpriced_calls)} unpriced"


def _usage_parts(usage: RunUsage) -> Iterator[str]:
    yield f"{usage.input_tokens:,} in + {usage.output_tokens:,} out tokens"
    calls = _calls(usage.calls)
    if usage.failed_calls:
        calls += f", {usage.failed_calls} failed"
    yield calls


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _money(usd: Decimal) -> str:
    """Return dollars with as many digits as the first three that count need."""
    if usd >= 1 or usd == 0:
        return f"${usd:,.2f}"
    digits = min(
        12,
        2 - usd.adjusted(),
    )
    return f"${usd:.{digits}f}"
