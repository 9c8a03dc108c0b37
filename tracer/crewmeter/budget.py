"""Budgets come from the money side, through the entry point ``guard`` of the group ``crewmeter_budget``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter.brake import Guard

__all__ = ["GROUP", "guard_with"]

GROUP = "crewmeter_budget"


def guard_with(budget: object, ledger: str | None) -> Guard | None:
    """A guard for ``budget`` from the installed entry point, called as ``guard(budget, ledger=…)``; None without a budget.

    Raises ValueError where a budget is asked for and no guard is installed.
    """
    if budget is None:
        return None
    for point in entry_points(group=GROUP):
        if point.name == "guard":
            made: Guard | None = point.load()(budget, ledger=ledger)
            return made
    raise ValueError("budget= needs a budget guard (entry point 'guard' of 'crewmeter_budget'); none is installed: leave budget out")
