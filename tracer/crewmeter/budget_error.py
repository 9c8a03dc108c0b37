"""The error that stops a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

__all__ = ["BudgetExceeded"]


class BudgetExceeded(Exception):
    """A call was not made because a budget, or a loop limit, forbids it.

    Amounts are decimal strings in USD, None where unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        budget: str,
        spent_usd: str | None = None,
        limit_usd: str | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        """Say which budget, and how much of it is spent.

        Args:
            message: What people read.
            budget: Its name or definition (``team:growth 500 USD/month``), ``loop`` for a loop
                limit.
            spent_usd: What is spent of it.
            limit_usd: Its amount.
            resets_at: When there is money again (UTC); None for a budget without a period.
        """
        super().__init__(message)
        self.budget = budget
        self.spent_usd = spent_usd
        self.limit_usd = limit_usd
        self.resets_at = resets_at

    def __reduce__(self) -> tuple[Callable[..., BudgetExceeded], tuple[object, ...]]:
        """Pickle as this class, also where it was raised as one of CrewAI's too."""
        return _rebuilt, (str(self), self.budget, self.spent_usd, self.limit_usd, self.resets_at)


def _rebuilt(
    message: str,
    budget: str,
    spent_usd: str | None,
    limit_usd: str | None,
    resets_at: datetime | None,
) -> BudgetExceeded:
    return BudgetExceeded(
        message, budget=budget, spent_usd=spent_usd, limit_usd=limit_usd, resets_at=resets_at
    )
