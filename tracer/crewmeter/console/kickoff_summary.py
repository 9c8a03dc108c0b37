"""The line a person sees after a run on a terminal: what it cost, tokens, calls, time, and how to see more."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crewmeter.console.run_costs import cost_of_run

if TYPE_CHECKING:
    from decimal import Decimal

    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.spans.span import OpenSpan

__all__ = ["KickoffSummary"]


class KickoffSummary:
    """Writes to stderr: always, never, or (None) if stderr is a terminal."""

    def __init__(self, wanted: bool | None) -> None:
        self._wanted = wanted

    def write(self, node: OpenSpan, exporter: SpanExporter) -> None:
        """Say what the run ``node`` came to."""
        stream = sys.stderr
        if (
            stream is None
            or self._wanted is False
            or (self._wanted is None and not stream.isatty())
        ):
            return
        stream.write(f"{_line(node, exporter)}\n")
        stream.flush()


def _line(node: OpenSpan, exporter: SpanExporter) -> str:
    run_usage, cost = node.run_usage, cost_of_run(exporter, node)
    run_id = f"{node.context.span_id:016x}"
    seconds = ((node.ended_ns or node.started_ns) - node.started_ns) / 1e9
    parts = [_money(cost.usd)] if cost is not None and cost.usd is not None else []
    if cost is not None and cost.unpriced_calls:
        parts.append(f"{cost.unpriced_calls} calls unpriced")
    if run_usage is not None:
        parts.append(f"{run_usage.input_tokens:,} in + {run_usage.output_tokens:,} out tokens")
        parts.append(
            f"{run_usage.calls} call{'s' * (run_usage.calls != 1)}"
            + (f", {run_usage.failed_calls} failed" if run_usage.failed_calls else "")
        )
    parts.append(f"{seconds:.1f} s")
    hint = f" · crewmeter show {run_id}" if cost is not None else ""
    failed = f" failed ({node.error_type})" if node.error_type else ""
    return f"crewmeter: {node.name.split(' ', 1)[-1]}{failed} · {' · '.join(parts)}{hint}"


def _money(usd: Decimal) -> str:
    """Dollars with as many digits as it takes to see the first three that count."""
    if usd >= 1 or usd == 0:
        return f"${usd:,.2f}"
    digits = min(12, 2 - usd.adjusted())
    return f"${usd:.{digits}f}"
