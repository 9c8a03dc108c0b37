"""The cost of a run, from an exporter that knows it.

The embedded ledger's exporter does. It has a method ``run_cost(run_id)``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from crewmeter.spans.span import OpenSpan

__all__ = ["RunCharge", "cost_of_run"]

_USD_PER_PICO = Decimal(10) ** -12


class RunCharge(NamedTuple):
    """The cost of a run.

    ``usd`` is None where calls were made and none of them has a price.
    """

    usd: Decimal | None
    unpriced_calls: int


def cost_of_run(exporter: SpanExporter, node: OpenSpan) -> RunCharge | None:
    """Return the cost of the run ``node``, None where the exporter does not know."""
    run_cost = getattr(exporter, "run_cost", None)
    if not callable(run_cost):
        return None
    found = run_cost(f"{node.context.span_id:016x}")
    if found is None:
        return None
    unpriced_calls = int(getattr(found, "unpriced_calls", 0))
    picos = getattr(found, "cost_pusd", None)
    if picos is None:
        return RunCharge(None, unpriced_calls)
    return RunCharge(
        int(picos) * _USD_PER_PICO,
        unpriced_calls,
    )
