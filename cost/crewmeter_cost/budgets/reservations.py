"""What one process may still spend of one budget in one period: a lease, what of it is reserved, and what was spent since the last sync."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from crewmeter_cost.budgets.local_balance import BalanceUnavailableError, window_at
from crewmeter_cost.budgets.notifications import plain_usd

if TYPE_CHECKING:
    from datetime import datetime

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.leases import Balance
    from crewmeter_cost.budgets.local_balance import BalanceStore

__all__ = ["BudgetRefusal", "LeasedPool", "Pool", "RunPool"]

log = logging.getLogger("crewmeter")

RENEW_SECONDS = 5
"""How often a lease that is held but not spent tells the account that its process lives."""
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 0.6
"""How long a call that does not fit waits for other processes to return idle leases before it is refused."""
NEAR_SHARE, NEAR_CALLS = 8, 32
"""A limit is near once an eighth of the budget, or the cost of so many calls, is left."""
SILENCE_SECONDS = 5.0
"""How long an account that could not be asked is left alone; meanwhile ``on_unknown`` decides without asking."""


@dataclass(frozen=True, slots=True)
class BudgetRefusal:
    """Why a call may not be made: the budget, what is spent, the limit (integer pico-USD) and when it resets (UTC)."""

    budget: str
    spent_pusd: int | None
    limit_pusd: int | None
    resets_at: datetime | None
    why: str = "the budget is spent"

    @property
    def spent_usd(self) -> str | None:
        """As an exact decimal."""
        return None if self.spent_pusd is None else plain_usd(self.spent_pusd)

    @property
    def limit_usd(self) -> str | None:
        """As an exact decimal."""
        return None if self.limit_pusd is None else plain_usd(self.limit_pusd)

    @property
    def reason(self) -> str:
        """What to tell a person: why, the figures, and when it ends."""
        figures = (
            f" ({self.spent_usd} of {self.limit_usd} USD)"
            if self.spent_pusd is not None and self.limit_pusd is not None
            else ""
        )
        return f"{self.why}{figures}" + (
            "" if self.resets_at is None else f"; resets at {self.resets_at.isoformat()}"
        )


class Pool(Protocol):
    """Something a call's expected cost can be reserved from."""

    near: bool
    """Whether so little is left that each call's true cost matters to the next."""

    def reserve(self, pusd: int, *, sure: bool, now: float) -> int | BudgetRefusal:
        """Set money aside and return how much, or say why not. `sure` is False where the expectation is a first guess."""

    def settle(self, reserved_pusd: int, cost_pusd: int) -> None:
        """Replace a reservation by what it became."""

    def over(self, now: float) -> bool:
        """Whether the period this pool belongs to has ended."""

    def sync(self, now: float, *, final: bool) -> None:
        """Book what was spent and return what is idle."""


class RunPool:
    """A budget per run lives and dies in the process that runs it; no ledger is asked."""

    def __init__(self, budget: Budget) -> None:
        self.near = budget.hard
        self._budget = budget
        self._lock = threading.Lock()
        self._spent = 0
        self._reserved = 0

    def reserve(self, pusd: int, *, sure: bool, now: float) -> int | BudgetRefusal:
        """See `Pool`. A first guess that does not fit is let through alone, since nobody can know what it will cost."""
        with self._lock:
            left = self._budget.amount_pusd - self._spent - self._reserved
            amount = pusd if pusd <= left or sure or self._reserved else left
            if self._budget.hard and (left <= 0 or amount > left):
                return BudgetRefusal(
                    self._budget.label, self._spent, self._budget.amount_pusd, None
                )
            self._reserved += amount
            self.near = self._budget.hard and _is_near(left - amount, pusd, self._budget)
            return amount

    def settle(self, reserved_pusd: int, cost_pusd: int) -> None:
        """See `Pool`."""
        with self._lock:
            self._reserved -= reserved_pusd
            self._spent += cost_pusd

    def over(self, now: float) -> bool:
        """A run has no clock."""
        return False

    def sync(self, now: float, *, final: bool) -> None:
        """Nothing is shared."""


class LeasedPool:
    """A budget shared by every process that asks the same bank, through leases of its account."""

    def __init__(
        self, budget: Budget, balance_store: BalanceStore, holder: str, now: float
    ) -> None:
        self.near = budget.hard
        self._budget = budget
        self._balance_store = balance_store
        self._holder = holder
        self._window = window_at(budget, now)
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._left = 0
        self._reserved = 0
        self._spent = 0
        self._used_since_sync = False
        self._booked_at = 0.0
        self._silent_until = 0.0
        self._warned = False

    def reserve(self, pusd: int, *, sure: bool, now: float) -> int | BudgetRefusal:
        """See `Pool`. Asks the account only where the lease does not cover the call."""
        if not self._budget.hard:
            return 0
        self._used_since_sync = True
        if (taken := self._take(pusd)) is not None:
            return taken
        if time.monotonic() < self._silent_until:
            return self._unknown()
        try:
            return self._lease(max(1, pusd), sure=sure, now=now)
        except BalanceUnavailableError as error:
            self._unavailable(error)
            return self._unknown()

    def settle(self, reserved_pusd: int, cost_pusd: int) -> None:
        """See `Pool`. What a call cost less goes back to the lease; what it cost more comes out of it."""
        with self._lock:
            self._reserved -= reserved_pusd
            self._left += reserved_pusd - cost_pusd
            self._spent += cost_pusd

    def over(self, now: float) -> bool:
        """Whether the period has ended, or the clock was set back before it."""
        window = self._window
        return (window.end is not None and now >= window.end) or (
            window.start is not None and now < window.start
        )

    def sync(self, now: float, *, final: bool) -> None:
        """See `Pool`. An idle lease goes back whole; a pool that never leased or spent stays silent."""
        if time.monotonic() < self._silent_until and not final:
            return
        with self._lock:
            idle = final or not self._used_since_sync or self.over(now)
            self._used_since_sync = False
            spent, self._spent = self._spent, 0
            returned = (
                self._left if idle or self._left < 0 else 0
            )  # below zero: spent beyond the lease, so it covers that much less
            self._left -= returned
            holding = self._left > 0 or self._reserved > 0
        if spent or returned or (holding and now - self._booked_at > RENEW_SECONDS):
            self._book(spent, returned, now, look=True)

    def _book(self, spent: int, returned: int, now: float, *, look: bool) -> None:
        """Tell the account; where that fails, keep it for later, unless it may have been heard: then the ledger's rows will tell."""
        try:
            self._balance_store.book(
                self._budget,
                self._window,
                holder=self._holder,
                spent_pusd=spent,
                returned_pusd=returned,
                look=look,
                now=now,
            )
        except BalanceUnavailableError as error:
            self._unavailable(error)
            if not error.perhaps_done:
                with self._lock:
                    self._spent += spent
                    self._left += returned
            return
        self._booked_at = now

    def _lease(self, pusd: int, *, sure: bool, now: float) -> int | BudgetRefusal:
        """Reserve out of a new lease. Where none is to be had, wait a moment for what others return, then refuse."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with (
            self._asking
        ):  # one question at a time; the pool's own lock stays free for calls that settle
            while True:
                if (taken := self._take(pusd)) is not None:
                    return taken
                state = self._ask(max(1, pusd - max(0, self._left)), now)
                if not state.granted_pusd and not sure and self._reserved == 0:
                    pusd = 1  # a first guess that does not fit: let it through alone, with whatever is left
                    state = self._ask(1, now)
                left = self._budget.amount_pusd - state.spent_pusd - state.leased_pusd
                self.near = _is_near(left, pusd, self._budget)
                with self._lock:
                    self._left += state.granted_pusd
                if state.granted_pusd:
                    continue
                if state.leased_pusd <= 0 or time.monotonic() > deadline:
                    return BudgetRefusal(
                        self._budget.label,
                        state.spent_pusd,
                        self._budget.amount_pusd,
                        self._window.resets_at,
                    )
                time.sleep(POLL_SECONDS)

    def _take(self, pusd: int) -> int | None:
        """Reserve out of what is leased already; None where it does not cover the call."""
        with self._lock:
            if not 0 < pusd <= self._left:
                return None
            self._left -= pusd
            self._reserved += pusd
            return pusd

    def _ask(self, need: int, now: float) -> Balance:
        """A new lease, after telling the account what was spent, or the limit would be judged on old news."""
        with self._lock:
            spent, self._spent = self._spent, 0
            beyond = min(0, self._left)
            self._left -= beyond
        if spent:
            self._book(spent, beyond, now, look=False)
            if time.monotonic() < self._silent_until:
                raise BalanceUnavailableError("what was spent could not be booked")
        return self._balance_store.lease(
            self._budget, self._window, holder=self._holder, need_pusd=need, now=now
        )

    def _unknown(self) -> int | BudgetRefusal:
        if self._budget.on_unknown == "block":
            return BudgetRefusal(
                self._budget.label,
                None,
                self._budget.amount_pusd,
                self._window.resets_at,
                "the ledger can't be asked what is spent",
            )
        return 0

    def _unavailable(self, error: BalanceUnavailableError) -> None:
        self._silent_until = time.monotonic() + SILENCE_SECONDS
        if not self._warned:
            self._warned = True
            goes = (
                "calls are stopped"
                if self._budget.on_unknown == "block"
                else "calls go on unguarded"
            )
            log.warning(
                "budget %s: the ledger can't be asked (%s); meanwhile %s",
                self._budget.label,
                error,
                goes,
            )


def _is_near(left_pusd: int, call_pusd: int, budget: Budget) -> bool:
    return left_pusd < max(budget.amount_pusd // NEAR_SHARE, NEAR_CALLS * call_pusd)
