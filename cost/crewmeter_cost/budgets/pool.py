"""What one process may still spend of one budget in one period: a lease, what of it is reserved, and what was spent since the last sync."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from sqlalchemy.exc import SQLAlchemyError

from crewmeter_cost.budgets import account as accounts
from crewmeter_cost.budgets.notices import announce, crossed
from crewmeter_cost.budgets.period import bounds
from crewmeter_cost.budgets.spend import spent_pusd

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from crewmeter_cost.budgets.definition import Budget

__all__ = ["LedgerPool", "Pool", "Refusal", "RunPool"]

log = logging.getLogger("crewmeter")

LEASE_SHARE = 64
"""A lease asks for a 64th of the budget: rarely enough to ask often, small enough not to starve others."""
RENEW_SECONDS = 5
"""How often a lease that is held but not spent tells the account that its process lives."""
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 0.6
"""How long a call that does not fit waits for other processes to return idle leases before it is refused."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call may not be made: the budget, what is spent, the limit (integer pico-USD) and when it resets (UTC)."""

    budget: str
    spent_pusd: int | None
    limit_pusd: int
    resets_at: datetime | None
    reason: str = "the budget is spent"


class Pool(Protocol):
    """Something a call's expected cost can be reserved from."""

    def reserve(self, pusd: int, *, sure: bool, now: float) -> int | Refusal:
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
        self._budget = budget
        self._lock = threading.Lock()
        self._spent = 0
        self._reserved = 0

    def reserve(self, pusd: int, *, sure: bool, now: float) -> int | Refusal:
        """See `Pool`. A first guess that does not fit is let through alone, since nobody can know what it will cost."""
        with self._lock:
            left = self._budget.amount_pusd - self._spent - self._reserved
            amount = pusd if pusd <= left or sure or self._reserved else left
            if self._budget.hard and (left <= 0 or amount > left):
                return Refusal(self._budget.label, self._spent, self._budget.amount_pusd, None)
            self._reserved += amount
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


class LedgerPool:
    """A budget shared by every process on the ledger, through leases of its account."""

    def __init__(self, budget: Budget, engine: Engine, holder: str, now: float) -> None:
        self._budget = budget
        self._engine = engine
        self._holder = holder
        self._start, self._reset = bounds(budget.period, datetime.fromtimestamp(now, UTC), budget.zone)
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._left = 0
        self._reserved = 0
        self._spent = 0
        self._used_since_sync = False
        self._balance = accounts.Balance(0, 0)
        self._account: int | None = None
        self._booked_at = 0.0
        self._warned = False
        self._said = 0

    def reserve(self, pusd: int, *, sure: bool, now: float) -> int | Refusal:
        """See `Pool`. Asks the account only where the lease does not cover the call."""
        if not self._budget.hard:
            return 0
        self._used_since_sync = True
        if (taken := self._take(pusd)) is not None:
            return taken
        try:
            return self._lease(max(1, pusd), sure=sure, now=now)
        except SQLAlchemyError as error:
            return self._unknown(error)

    def settle(self, reserved_pusd: int, cost_pusd: int) -> None:
        """See `Pool`. What a call cost less goes back to the lease; what it cost more comes out of it."""
        with self._lock:
            self._reserved -= reserved_pusd
            self._left += reserved_pusd - cost_pusd
            self._spent += cost_pusd

    def over(self, now: float) -> bool:
        """Whether the period has ended."""
        return self._reset is not None and now >= self._reset.timestamp()

    def sync(self, now: float, *, final: bool) -> None:
        """See `Pool`. An idle lease goes back whole; a pool that never leased or spent stays silent."""
        with self._lock:
            idle = final or not self._used_since_sync or self.over(now)
            self._used_since_sync = False
            spent, self._spent = self._spent, 0
            returned = self._left if idle or self._left < 0 else 0  # below zero: spent beyond the lease, so it covers that much less
            self._left -= returned
            holding = self._left > 0 or self._reserved > 0
        renew = holding and now - self._booked_at > RENEW_SECONDS
        if not (spent or returned or renew):
            return
        try:
            self._book(spent, returned, now, actual=self._ledger_says())
            self._announce(now)
        except SQLAlchemyError as error:
            with self._lock:
                self._spent += spent
                self._left += returned
            self._warn(error)

    def _book(self, spent: int, returned: int, now: float, *, actual: int | None = None) -> None:
        account = self._open()
        self._booked_at = now
        self._balance = accounts.settle(
            self._engine,
            account,
            holder=self._holder,
            spent_pusd=spent,
            returned_pusd=returned,
            now_ns=int(now * 1e9),
            actual_pusd=actual,
        )

    def _announce(self, now: float) -> None:
        reached = crossed(self._balance.spent_pusd, self._budget.amount_pusd)
        if reached and reached[-1] > self._said:
            spent = self._balance.spent_pusd
            announce(self._engine, self._budget, account=self._open(), spent_pusd=spent, resets_at=self._reset, now_ns=int(now * 1e9))
            self._said = reached[-1]

    def _lease(self, pusd: int, *, sure: bool, now: float) -> int | Refusal:
        """Reserve out of a new lease. Where none is to be had, wait a moment for what others return, then refuse."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._asking:  # one question at a time; the pool's own lock stays free for calls that settle
            while True:
                if (taken := self._take(pusd)) is not None:
                    return taken
                state = self._ask(max(1, pusd - max(0, self._left)), now)
                if not state.granted_pusd and not sure and self._reserved == 0:
                    pusd = 1  # a first guess that does not fit: let it through alone, with whatever is left
                    state = self._ask(1, now)
                with self._lock:
                    self._left += state.granted_pusd
                if state.granted_pusd:
                    continue
                if state.leased_pusd <= 0 or time.monotonic() > deadline:
                    return Refusal(self._budget.label, state.spent_pusd, self._budget.amount_pusd, self._reset)
                time.sleep(POLL_SECONDS)

    def _take(self, pusd: int) -> int | None:
        """Reserve out of what is leased already; None where it does not cover the call."""
        with self._lock:
            if not 0 < pusd <= self._left:
                return None
            self._left -= pusd
            self._reserved += pusd
            return pusd

    def _ask(self, need: int, now: float) -> accounts.Balance:
        self._book_spent(now)
        return accounts.acquire(
            self._engine,
            self._open(),
            holder=self._holder,
            limit_pusd=self._budget.amount_pusd,
            need_pusd=need,
            want_pusd=max(need, self._budget.amount_pusd // LEASE_SHARE),
            now_ns=int(now * 1e9),
        )

    def _book_spent(self, now: float) -> None:
        """Tell the account what was spent before asking for more, or the limit would be judged on old news."""
        with self._lock:
            spent, self._spent = self._spent, 0
            beyond = min(0, self._left)
            self._left -= beyond
        if spent:
            self._book(spent, beyond, now)

    def _open(self) -> int:
        if self._account is None:
            scope = f"{self._budget.scope}:{self._budget.value or ''}/{self._budget.period}/{self._budget.timezone}"
            start = 0 if self._start is None else int(self._start.timestamp())
            self._account = accounts.open_account(self._engine, scope=scope, period_start=start, spent_so_far=self._ledger_says)
        return self._account

    def _ledger_says(self) -> int:
        start = None if self._start is None else int(self._start.timestamp())
        end = None if self._reset is None else int(self._reset.timestamp())
        return spent_pusd(self._engine, self._budget, start=start, end=end)

    def _unknown(self, error: SQLAlchemyError) -> int | Refusal:
        self._warn(error)
        if self._budget.on_unknown == "block":
            return Refusal(self._budget.label, None, self._budget.amount_pusd, self._reset, "the ledger can't be asked what is spent")
        return 0

    def _warn(self, error: SQLAlchemyError) -> None:
        if not self._warned:
            self._warned = True
            log.warning("budget %s: the ledger can't be asked (%s); calls go on unguarded", self._budget.label, type(error).__name__)
