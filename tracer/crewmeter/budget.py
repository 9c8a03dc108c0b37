"""Budgets come from the money side, through the entry point ``guard`` of the group ``crewmeter_budget``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GROUP", "guard_with"]

GROUP = "crewmeter_budget"


def guard_with(budget: object) -> Callable[[], Callable[[], None]] | None:
    """What puts a guard for ``budget`` in place (returning what takes it out), or None without a budget.

    The entry point is called with the budget and gives that function. Raises ValueError if none is installed.
    """
    if budget is None:
        return None
    for point in entry_points(group=GROUP):
        if point.name == "guard":
            made: Callable[[], Callable[[], None]] = point.load()(budget)
            return made
    raise ValueError("budget= needs a budget guard (entry point 'guard' of 'crewmeter_budget'); none is installed: leave budget out")
