"""All a person asked of the guard at once: budgets, and limits for loops; from code, a file or the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crewmeter_cost.budgets.definition import (
    Budget,
    parse_budget,
    read_document,
    refuse_contradictions,
)
from crewmeter_cost.budgets.loop_limits import LoopLimits, is_loop_form, parse_limits
from crewmeter_cost.errors import CrewMeterError

__all__ = ["BudgetPlan", "plan_of", "read_plan"]


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """Budgets, and what one run may do at most."""

    budgets: tuple[Budget, ...] = ()
    limits: LoopLimits | None = None

    def over(self, other: BudgetPlan) -> BudgetPlan:
        """Both; this plan's loop limits win."""
        return BudgetPlan((*self.budgets, *other.budgets), self.limits or other.limits)


def read_plan(text: str, *, where: str = "CREWMETER_BUDGETS") -> BudgetPlan:
    """A plan from a file (TOML or YAML) or from short forms separated by ``;``. Raises `CrewMeterError`."""
    parts, limits = [part for part in text.split(";") if part.strip()], None
    loops = [part for part in parts if is_loop_form(part)]
    if loops:
        limits = parse_limits(loops[-1], where=where)
        rest = ";".join(part for part in parts if part not in loops)
        return (
            read_plan(rest, where=where).over(BudgetPlan((), limits))
            if rest.strip()
            else BudgetPlan((), limits)
        )
    budgets, loop = read_document(text, where=where)
    return BudgetPlan(budgets, None if loop is None else parse_limits(loop, where=f"{where}: loop"))


def plan_of(source: object) -> BudgetPlan:
    """A plan from what code passes: a short form, a mapping, a list of them, or ``{"budget": […], "loop": {…}}``."""
    plan = _plan_of(source)
    refuse_contradictions(list(plan.budgets), where="budget")
    return plan


def _plan_of(source: object) -> BudgetPlan:
    match source:
        case None:
            return BudgetPlan()
        case str() if is_loop_form(source):
            return BudgetPlan((), parse_limits(source, where="budget"))
        case str() if ";" in source:
            return read_plan(source, where="budget")
        case str() | Budget():
            return BudgetPlan((parse_budget(source),))
        case Mapping() if "loop" in source or "budget" in source:
            if unknown := sorted(set(source) - {"loop", "budget"}):
                raise CrewMeterError(
                    f"budget: unknown key {unknown[0]!r}", hint='give {"budget": […], "loop": {…}}'
                )
            loop = source.get("loop")
            return BudgetPlan((), None if loop is None else parse_limits(loop, where="loop")).over(
                _plan_of(source.get("budget"))
            )
        case Mapping():
            return BudgetPlan((parse_budget(source),))
        case Sequence():
            plan = BudgetPlan()
            for each in source:
                plan = plan.over(_plan_of(each))
            return plan
    raise CrewMeterError(
        f"budget is {source!r}", hint='give "5 USD/day", a mapping, or a list of them'
    )
