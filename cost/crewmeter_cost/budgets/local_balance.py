"""Where a shared budget's accounts are kept, as a process sees it: in a ledger at hand, or behind a sidecar's budget API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.exc import SQLAlchemyError

from crewmeter_cost.budgets import leases as accounts
from crewmeter_cost.budgets.notifications import announce, crossed
from crewmeter_cost.budgets.period import bounds
from crewmeter_cost.budgets.period_spend import spent_pusd

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.leases import Balance

__all__ = ["BalanceStore", "BalanceUnavailableError", "LocalBalanceStore", "Window", "window_at"]

LEASE_SHARE = 64
"""A lease asks for a 64th of the budget: rarely enough to ask often, small enough not to starve others."""


class BalanceUnavailableError(Exception):
    """The account can't be asked. `perhaps_done` where the question may have been carried out all the same."""

    def __init__(self, reason: str, *, perhaps_done: bool = False) -> None:
        super().__init__(reason)
        self.perhaps_done = perhaps_done


@dataclass(frozen=True, slots=True)
class Window:
    """The period an account is for, unix seconds; None where it has no such end."""

    start: int | None
    end: int | None

    @property
    def resets_at(self) -> datetime | None:
        """When the next period begins (UTC)."""
        return None if self.end is None else datetime.fromtimestamp(self.end, UTC)


def window_at(budget: Budget, now: float) -> Window:
    """The period of `budget` that `now` (unix seconds) falls in."""
    start, end = bounds(budget.period, datetime.fromtimestamp(now, UTC), budget.zone)
    return Window(
        None if start is None else int(start.timestamp()),
        None if end is None else int(end.timestamp()),
    )


class BalanceStore(Protocol):
    """Accounts. Amounts are integer pico-USD; raises `BalanceUnavailableError`."""

    def lease(
        self, budget: Budget, window: Window, *, holder: str, need_pusd: int, now: float
    ) -> Balance:
        """Set aside at least `need_pusd` for `holder`; ``granted_pusd`` is 0 where that does not fit."""

    def book(
        self,
        budget: Budget,
        window: Window,
        *,
        holder: str,
        spent_pusd: int,
        returned_pusd: int,
        look: bool,
        now: float,
    ) -> Balance:
        """Book what `holder` spent and gives back. With `look` the ledger's own rows are consulted and thresholds announced."""

    def after_fork(self) -> None:
        """In a forked child: connections are the parent's."""


class LocalBalanceStore:
    """Accounts in a ledger this process can write."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._accounts: dict[tuple[str, int], int] = {}
        self._said: dict[int, int] = {}

    def lease(
        self, budget: Budget, window: Window, *, holder: str, need_pusd: int, now: float
    ) -> Balance:
        """See `BalanceStore`."""
        try:
            return accounts.acquire(
                self._engine,
                self.account(budget, window),
                holder=holder,
                limit_pusd=budget.amount_pusd,
                need_pusd=need_pusd,
                want_pusd=max(need_pusd, budget.amount_pusd // LEASE_SHARE),
                now_ns=int(now * 1e9),
            )
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
        look: bool,
        now: float,
    ) -> Balance:
        """See `BalanceStore`."""
        try:
            balance = accounts.settle(
                self._engine,
                self.account(budget, window),
                holder=holder,
                spent_pusd=spent_pusd,
                returned_pusd=returned_pusd,
                now_ns=int(now * 1e9),
                actual_pusd=self._ledger_says(budget, window) if look else None,
            )
            if look:
                self.notice(budget, window, balance.spent_pusd, now)
        except SQLAlchemyError as error:
            raise BalanceUnavailableError(type(error).__name__) from error
        return balance

    def notice(self, budget: Budget, window: Window, spent: int, now: float) -> None:
        """Announce a threshold newly reached; once per period, whoever sees it first."""
        reached = crossed(spent, budget.amount_pusd)
        if not reached:
            return
        account = self.account(budget, window)
        if reached[-1] > self._said.get(account, 0):
            announce(
                self._engine,
                budget,
                account=account,
                spent_pusd=spent,
                resets_at=window.resets_at,
                now_ns=int(now * 1e9),
            )
            self._said[account] = reached[-1]

    def account(self, budget: Budget, window: Window) -> int:
        """The account's id, opened with what the ledger says was spent before where it is new."""
        scope = f"{budget.scope}:{budget.value or ''}/{budget.period}/{budget.timezone}"
        key = (scope, window.start or 0)
        found = self._accounts.get(key)
        if found is None:
            if len(self._accounts) >= _MOST_ACCOUNTS:
                self._accounts.clear()
            found = self._accounts[key] = accounts.open_account(
                self._engine,
                scope=scope,
                period_start=key[1],
                spent_so_far=lambda: self._ledger_says(budget, window),
            )
        return found

    def after_fork(self) -> None:
        """See `BalanceStore`."""
        self._engine.dispose(close=False)

    def _ledger_says(self, budget: Budget, window: Window) -> int:
        return spent_pusd(self._engine, budget, start=window.start, end=window.end)


_MOST_ACCOUNTS = 10_000
