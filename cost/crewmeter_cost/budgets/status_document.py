"""Budgets and what is spent of them, as the JSON that commands and tools print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_cost.money import exact_usd, utc_text

if TYPE_CHECKING:
    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.repository import BudgetStatus

__all__ = ["definition_document", "status_document"]


def definition_document(budget: Budget) -> dict[str, object]:
    """Return a budget's settings."""
    return {
        "budget": budget.label,
        "scope": budget.scope if budget.value is None else f"{budget.scope}:{budget.value}",
        "amount_usd": exact_usd(budget.amount_pusd),
        "period": budget.period,
        "hard": budget.hard,
        "on_unknown": budget.on_unknown,
        "timezone": budget.timezone,
        "webhook": budget.webhook,
    }


def status_document(each: BudgetStatus) -> dict[str, object]:
    """Return what is spent of a budget in one period."""
    about = definition_document(each.budget)
    return {
        "budget": about["budget"],
        "scope": about["scope"],
        "period": about["period"],
        "spent_usd": exact_usd(each.spent_pusd),
        "amount_usd": about["amount_usd"],
        "percent": round(each.percent, 2),
        "exceeded": each.exceeded,
        "starts_at": None if each.since is None else utc_text(each.since),
        "resets_at": None if each.resets_at is None else utc_text(each.resets_at),
    }
