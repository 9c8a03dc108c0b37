"""What one process may still spend of one budget in one period.

A pool holds a lease, what of it is reserved for calls under way, and what was spent since the last
sync with the account.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from crewmeter_cost.budgets.leases import LEASE_SECONDS
from crewmeter_cost.budgets.local_balance import window_at
from crewmeter_cost.budgets.notifications import plain_usd
from crewmeter_cost.errors import BalanceUnavailableError

if TYPE_CHECKING:
    from datetime import datetime

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.leases import Balance
    from crewmeter_cost.budgets.local_balance import BalanceStore

__all__ = ["BudgetRefusal", "LeasedPool", "Pool", "RunPool"]

log = logging.getLogger("crewmeter")

RENEW_SECONDS = 5
"""How often a lease that is not spent is renewed."""
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 0.6
"""How long a call that does not fit waits for other processes to return idle leases."""
NEAR_SHARE = 8
"""A limit is near once an eighth of the budget is left, or …"""
NEAR_CALLS = 32
"""… the cost of so many calls."""
SILENCE_SECONDS = 5.0
"""How long an account that failed is left alone. Meanwhile ``on_unknown`` decides."""


@dataclass(frozen=True, slots=True)
class BudgetRefusal:
    """Why a call may not be made: the budget, its spend and limit, and its reset.

    Amounts are integer pico-USD, the moment is UTC.
    """

    budget: str
    spent_pusd: int | None
    limit_pusd: int | None
    resets_at: datetime | None
    why: str = "the budget is spent"

    @property
    def spent_usd(self) -> str | None:
        """Return what is spent as an exact decimal."""
        if self.spent_pusd is None:
            return None
        return plain_usd(self.spent_pusd)

    @property
    def limit_usd(self) -> str | None:
        """Return the limit as an exact decimal."""
        if self.limit_pusd is None:
            return None
        return plain_usd(self.limit_pusd)

    @property
    def reason(self) -> str:
        """Return what to tell a person: why, the figures, and when it ends."""
        text = self.why
        if self.spent_pusd is not None and self.limit_pusd is not None:
            text += f" ({self.spent_usd} of {self.limit_usd} USD)"
        if self.resets_at is not None:
            text += f"; resets at {self.resets_at.isoformat()}"
        return text


class Pool(Protocol):
    """Something a call's expected cost can be reserved from."""

    near: bool
    """Whether so little is left that each call's true cost matters to the next."""

    def reserve(self, pusd: int, *, sure: bool, now: float) -> int | BudgetRefusal:
        """Set money aside and return how much, or say why not.

        `sure` is False where the expectation is a first guess.
        """

    def settle(self, reserved_pusd: int, cost_pusd: int) -> None:
        """Replace a reservation by what it became."""

    def over(self, now: float) -> bool:
        """Return whether the period this pool belongs to has ended."""

    def sync(self, now: float, *, final: bool) -> None:
        """Book what was spent and return what is idle."""


class RunPool:
    """A budget per run. It is private to the process that runs it and needs no ledger."""

    def __init__(self, budget: Budget) -> None:
        self.near = budget.hard
        self._budget = budget
        self._lock = threading.Lock()
        self._spent = 0
        self._reserved = 0

    def reserve(self, pusd: int, *, sure: bool, now: float) -> int | BudgetRefusal:
        """Implement `Pool`.

        A first guess that does not fit is let through alone, since nobody knows what it will cost.
        """
        budget = self._budget
        with self._lock:
            left = budget.amount_pusd - self._spent - self._reserved
            amount = pusd
            # Once a call has been seen, its cost is a known quantity and must fit.
            if pusd > left and not sure and not self._reserved:
                amount = left
            if budget.hard and (left <= 0 or amount > left):
                return BudgetRefusal(
                    budget.label,
                    self._spent,
                    budget.amount_pusd,
                    None,
                )
            self._reserved += amount
            self.near = budget.hard and _is_near(
                left - amount,
                pusd,
                budget,
            )
            return amount

    def settle(self, reserved_pusd: int, cost_pusd: int) -> None:
        """Implement `Pool`."""
        with self._lock:
            self._reserved -= reserved_pusd
            self._spent += cost_pusd

    def over(self, now: float) -> bool:
        """Return False: a run has no clock."""
        return False

    def sync(self, now: float, *, final: bool) -> None:
        """Do nothing: nothing is shared."""


class LeasedPool:
    """A budget shared by every process with the same `BalanceStore`, through leases."""

    def __init__(
        self, budget: Budget, balance_store: BalanceStore, holder: str, now: float
    ) -> None:
        self.near = budget.hard
        self._budget = budget
        self._balance_store = balance_store
        self._holder = holder
        self._window = window_at(budget, now)
        self._lock = threading.Lock()
        self._account_lock = threading.Lock()
        self._left = 0
        self._reserved = 0
        self._spent = 0
        self._used_since_sync = False
        # Never: the first use renews.
        self._renewed_at = float("-inf")
        self._silent_until = 0.0
        self._warned = False

    def reserve(self, pusd: int, *, sure: bool, now: float) -> int | BudgetRefusal:
        """Implement `Pool`.

        The account is read only where the lease does not cover the call.
        """
        if not self._budget.hard:
            return 0
        self._used_since_sync = True
        if (taken := self._take(pusd)) is not None:
            return taken
        # A store that failed a moment ago is not tried by every call.
        if time.monotonic() < self._silent_until:
            return self._unknown()
        try:
            return self._lease(max(1, pusd), sure=sure)
        except BalanceUnavailableError as error:
            self._unavailable(error)
            return self._unknown()

    def settle(self, reserved_pusd: int, cost_pusd: int) -> None:
        """Implement `Pool`.

        What a call cost less goes back to the lease. What it cost more comes out of it.
        """
        with self._lock:
            self._reserved -= reserved_pusd
            self._left += reserved_pusd - cost_pusd
            self._spent += cost_pusd

    def over(self, now: float) -> bool:
        """Return whether the period has ended, or the clock was set back before it."""
        window = self._window
        has_ended = window.end is not None and now >= window.end
        return has_ended or (window.start is not None and now < window.start)

    def sync(self, now: float, *, final: bool) -> None:
        """Implement `Pool`.

        An idle lease goes back whole. A pool that never leased or spent makes no request.
        """
        if time.monotonic() < self._silent_until and not final:
            return
        # A lease requested meanwhile would be judged on an account that lacks what is returned.
        with self._account_lock:
            self._sync_account(now, final=final)

    def _sync_account(self, now: float, *, final: bool) -> None:
        """Sync, with the account's lock held."""
        if not self._is_due(now, final=final):
            self._used_since_sync = False
            return
        try:
            # Before the sum is taken: a call is settled first and in the rows later.
            rows = self._balance_store.rows_pusd(self._budget, self._window)
        except BalanceUnavailableError as error:
            self._unavailable(error)
            return
        with self._lock:
            idle = final or not self._used_since_sync or self.over(now)
            self._used_since_sync = False
            spent = self._spent
            self._spent = 0
            # Below zero more was spent than leased, so the lease covers that much less.
            returned = self._left if idle or self._left < 0 else 0
            self._left -= returned
        self._book(spent, returned, rows)

    def _is_due(self, now: float, *, final: bool) -> bool:
        """Return whether there is anything to book, return or renew."""
        with self._lock:
            idle = final or not self._used_since_sync or self.over(now)
            if self._spent or self._left < 0 or (idle and self._left):
                return True
            holding = self._left > 0 or self._reserved > 0
        return holding and time.monotonic() - self._renewed_at > RENEW_SECONDS

    def _book(self, spent: int, returned: int, rows: int | None = None) -> None:
        """Book at the account. Where that fails, keep the amounts for later.

        They are dropped where the request may have been carried out: then the ledger's rows
        correct the account.
        """
        try:
            self._balance_store.book(
                self._budget,
                self._window,
                holder=self._holder,
                spent_pusd=spent,
                returned_pusd=returned,
                rows_pusd=rows,
            )
        except BalanceUnavailableError as error:
            self._unavailable(error)
            if not error.perhaps_done:
                with self._lock:
                    self._spent += spent
                    self._left += returned
            return
        self._renewed_at = time.monotonic()

    def _lease(self, pusd: int, *, sure: bool) -> int | BudgetRefusal:
        """Reserve out of a new lease.

        Where none is to be had, wait a moment for what others return, then refuse.
        """
        budget = self._budget
        deadline = time.monotonic() + PATIENCE_SECONDS
        # One request at a time. The pool's own lock stays free for calls that settle.
        with self._account_lock:
            while True:
                if (taken := self._take(pusd)) is not None:
                    return taken
                state = self._request(
                    max(
                        1,
                        pusd - max(0, self._left),
                    )
                )
                if not state.granted_pusd and not sure and self._reserved == 0:
                    # A first guess that does not fit is let through alone, with what is left.
                    pusd = 1
                    state = self._request(1)
                left = budget.amount_pusd - state.spent_pusd - state.leased_pusd
                self.near = _is_near(left, pusd, budget)
                with self._lock:
                    self._left += state.granted_pusd
                if state.granted_pusd:
                    continue
                if state.leased_pusd <= 0 or time.monotonic() > deadline:
                    resets_at = self._window.resets_at
                    spent = state.spent_pusd
                    return BudgetRefusal(budget.label, spent, budget.amount_pusd, resets_at)
                time.sleep(POLL_SECONDS)

    def _take(self, pusd: int) -> int | None:
        """Reserve out of what is leased already, or return None where that is too little."""
        with self._lock:
            if self._left > 0 and time.monotonic() - self._renewed_at > LEASE_SECONDS:
                self._left = 0  # the process was stopped: others may have been given this money
            if not 0 < pusd <= self._left:
                return None
            self._left -= pusd
            self._reserved += pusd
            return pusd

    def _request(self, need: int) -> Balance:
        """Return a new lease, after booking what was spent, which the limit is judged on."""
        with self._lock:
            spent = self._spent
            self._spent = 0
            beyond = min(0, self._left)
            self._left -= beyond
        if spent:
            self._book(spent, beyond)
            if time.monotonic() < self._silent_until:
                raise BalanceUnavailableError("what was spent could not be booked")
        state = self._balance_store.lease(
            self._budget, self._window, holder=self._holder, need_pusd=need
        )
        self._renewed_at = time.monotonic()
        return state

    def _unknown(self) -> int | BudgetRefusal:
        if self._budget.on_unknown != "block":
            return 0
        return BudgetRefusal(
            self._budget.label,
            None,
            self._budget.amount_pusd,
            self._window.resets_at,
            "the ledger can't be read",
        )

    def _unavailable(self, error: BalanceUnavailableError) -> None:
        self._silent_until = time.monotonic() + SILENCE_SECONDS
        if self._warned:
            return
        self._warned = True
        consequence = "calls go on without this budget"
        if self._budget.on_unknown == "block":
            consequence = "calls are stopped"
        log.warning(
            "budget %s: the ledger can't be read (%s); meanwhile %s",
            self._budget.label,
            error,
            consequence,
        )


def _is_near(left_pusd: int, call_pusd: int, budget: Budget) -> bool:
    return left_pusd < max(
        budget.amount_pusd // NEAR_SHARE,
        NEAR_CALLS * call_pusd,
    )
