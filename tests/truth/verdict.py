"""Whether the ledger's rows of a case are right, honest or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from truth.arithmetic import amount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Verdict = Literal["right", "honest", "WRONG"]
# Written out, not imported: the product may not decide what counts as exact.
EXACT = frozenset({"priced", "provider_reported", "free_declared", "cached", "reconciled"})
_LEAST = Decimal("1e-9")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case."""

    case: Mapping[str, Any]
    verdict: Verdict
    found: str


def judge(case: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Outcome:
    """Compare a case with its rows of ``crewmeter export``."""
    wanted = int(case.get("rows", 1))
    if len(rows) != wanted:
        return Outcome(case, "WRONG", f"{len(rows)} rows for {wanted} billed calls")
    statuses = sorted({str(row["cost_status"]) for row in rows})
    if any(row["cost_usd"] is None for row in rows):
        return Outcome(case, "honest", f"no cost: {', '.join(statuses)}")
    total = sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0))
    found = f"{total} {', '.join(statuses)}"
    if abs(total - amount(_right(case, rows))) < _LEAST:
        return Outcome(case, "right", found)
    inexact = set(statuses) - EXACT
    return Outcome(case, "honest" if inexact else "WRONG", found)


def _right(case: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a case's bill at the hour of its call, since some providers have dearer hours."""
    for start, end in case.get("peak_hours", ()):
        hour = int(str(rows[0]["started_at"])[11:13])
        if start <= hour < end:
            return str(case["right_at_peak"])
    return str(case["right"])
