"""The totals of one run so far, read while it may still be running."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from crewmeter_cost.ledger.sql import Sql
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["RunCost", "run_cost"]

_TOTALS = """
    SELECT calls, failed_calls, unpriced_calls, tool_calls, input_tokens, output_tokens,
        priced_calls, cost_whole_usd, cost_pusd
    FROM run WHERE run_id = ?
"""


class RunCost(NamedTuple):
    """The totals of one run so far."""

    calls: int
    failed_calls: int
    unpriced_calls: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost_pusd: int | None
    """None where calls were made and none of them has a price."""


def run_cost(ledger: Ledger, run_id: str) -> RunCost | None:
    """Return the totals of a run so far, None where the ledger does not know it."""
    with ledger.read_session() as session:
        found = session.rows(Sql(_TOTALS, (run_id,)))
    if not found:
        return None
    *counts, priced, whole, pico = found[0]
    totals = RunCost._make((*counts, whole * PICO + pico))
    if totals.unpriced_calls and not priced:
        return totals._replace(cost_pusd=None)
    return totals
