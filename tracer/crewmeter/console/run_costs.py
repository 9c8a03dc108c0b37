"""What a run cost, asked of an exporter that knows: one with a method ``run_cost(run_id)``, as the embedded ledger's."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.spans.span import OpenSpan

__all__ = ["RunCharge", "cost_of_run"]

_PICO = Decimal(10) ** -12


class RunCharge(NamedTuple):
    """``usd`` is None where calls were made and none of them has a price."""

    usd: Decimal | None
    unpriced_calls: int


def cost_of_run(exporter: SpanExporter, node: OpenSpan) -> RunCharge | None:
    """The cost of the run that ``node`` is, or None where the exporter cannot tell."""
    ask = getattr(exporter, "run_cost", None)
    if not callable(ask):
        return None
    found = ask(f"{node.context.span_id:016x}")
    if found is None:
        return None
    picos = getattr(found, "cost_pusd", None)
    return RunCharge(
        None if picos is None else int(picos) * _PICO, int(getattr(found, "unpriced_calls", 0))
    )
