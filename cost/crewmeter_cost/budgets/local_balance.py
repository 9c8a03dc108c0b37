"""Budget accounts in a ledger that this process can write."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.exc import SQLAlchemyError

from crewmeter_cost.budgets import leases
from crewmeter_cost.budgets.notifications import announce, crossed, undelivered
from crewmeter_cost.budgets.period import bounds
from crewmeter_cost.budgets.period_spend import spent_pusd
from crewmeter_cost.errors import BalanceUnavailableError
from crewmeter_cost.ledger.session import session_on

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.leases import Balance

__all__ = ["BalanceStore", "LocalBalanceStore", "Window", "window_at"]

LEASE_SHARE = 64
"""A lease is a 64th of the budget.

Large enough to be rare, small enough to leave some to others.
"""
_MOST_ACCOUNTS = 10_000


@dataclass(frozen=True, slots=True)
class Window:
    """The period of an account in unix seconds. None where it has no such end."""

    start: int | None
    end: int | None

    @property
    def resets_at(self) -> datetime | None:
        """Return when the next period begins (UTC)."""
        if self.end is None:
            return None
        return datetime.fromtimestamp(self.end, UTC)


def window_at(budget: Budget, now: float) -> Window:
    """Return the period of `budget` that `now` (unix seconds) falls in."""
    start, end = bounds(
        budget.period,
        datetime.fromtimestamp(now, UTC),
        budget.zone,
    )
    return Window(_unix_seconds(start), _unix_seconds(end))


class BalanceStore(Protocol):
    """Budget accounts. Amounts are integer pico-USD. Raises `BalanceUnavailableError`."""

    def lease(self, budget: Budget, window: Window, *, holder: str, need_pusd: int) -> Balance:
        """Set aside at least `need_pusd` for `holder`, or grant 0 where that does not fit."""

    def rows_pusd(self, budget: Budget, window: Window) -> int | None:
        """Return what the ledger's own rows say was spent.

        None where whoever holds the account consults them by itself.
        """

    def book(
        self,
        budget: Budget,
        window: Window,
        *,
        holder: str,
        spent_pusd: int,
        returned_pusd: int,
        rows_pusd: int | None = None,
    ) -> Balance:
        """Book what `holder` spent and returns.

        Where `rows_pusd` is more than is booked, it replaces the account's sum, and thresholds are
        announced. It must have been read before `spent_pusd` was summed: what the rows say and is
        booked later would count twice.
        """

    def after_fork(self) -> None:
        """Drop the parent's connections in a forked child."""


class LocalBalanceStore:
    """A `BalanceStore` on a ledger's engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._accounts: dict[tuple[str, int], int] = {}
        self._announced: dict[int, int] = {}

    def lease(self, budget: Budget, window: Window, *, holder: str, need_pusd: int) -> Balance:
        """Implement `BalanceStore`."""
        try:
            return leases.acquire(
                self._engine,
                self.account(budget, window),
                holder=holder,
                limit_pusd=budget.amount_pusd,
                need_pusd=need_pusd,
                want_pusd=max(need_pusd, budget.amount_pusd // LEASE_SHARE),
            )
        except SQLAlchemyError as error:
            raise BalanceUnavailableError(type(error).__name__) from error

    def rows_pusd(self, budget: Budget, window: Window) -> int:
        """Implement `BalanceStore`."""
        try:
            return self._spent_in_rows(budget, window)
        except SQLAlchemyError as error:
            raise BalanceUnavailableError(type(error).__name__) from error

    def book(
        self,
        budget: Budget,
        window: Window,
        *,
        holder: str,
        spent_pusd: int,
        returned_pusd: int,
        rows_pusd: int | None = None,
    ) -> Balance:
        """Implement `BalanceStore`."""
        try:
            balance = leases.settle(
                self._engine,
                self.account(budget, window, unbooked_pusd=spent_pusd),
                holder=holder,
                spent_pusd=spent_pusd,
                returned_pusd=returned_pusd,
                actual_pusd=rows_pusd,
            )
            if rows_pusd is not None:
                self.notice(budget, window, balance.spent_pusd)
        except SQLAlchemyError as error:
            raise BalanceUnavailableError(type(error).__name__) from error
        return balance

    def notice(self, budget: Budget, window: Window, spent: int) -> None:
        """Announce a threshold newly reached, at least once per period over all processes."""
        reached = crossed(spent, budget.amount_pusd)
        if not reached:
            return
        account = self.account(budget, window)
        if reached[-1] <= self._announced.get(account, 0):
            return
        announce(
            self._engine,
            budget,
            account=account,
            spent_pusd=spent,
            resets_at=window.resets_at,
            now_ns=time.time_ns(),
        )
        # Announced means delivered: until then every look may find a claim to take over.
        if not undelivered(self._engine, account):
            self._announced[account] = reached[-1]

    def account(self, budget: Budget, window: Window, *, unbooked_pusd: int = 0) -> int:
        """Return the account's id.

        A new one is opened with what the ledger says was spent, less what is booked next: its
        rows may be there already. Where they are not, the next look at the rows corrects the sum.
        """
        scope = f"{budget.scope}:{budget.value or ''}/{budget.period}/{budget.timezone}"
        key = (scope, window.start or 0)
        found = self._accounts.get(key)
        if found is None:
            if len(self._accounts) >= _MOST_ACCOUNTS:
                self._accounts.clear()
            found = leases.open_account(
                self._engine,
                scope=scope,
                period_start=key[1],
                spent_so_far=lambda: max(
                    0,
                    self._spent_in_rows(budget, window) - unbooked_pusd,
                ),
            )
            self._accounts[key] = found
        return found

    def after_fork(self) -> None:
        """Implement `BalanceStore`."""
        self._engine.dispose(close=False)

    def _spent_in_rows(self, budget: Budget, window: Window) -> int:
        with session_on(self._engine) as session:
            return spent_pusd(session, budget, start=window.start, end=window.end)


def _unix_seconds(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    return int(moment.timestamp())
