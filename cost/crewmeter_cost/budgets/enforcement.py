"""The app's side of budgets: a reservation before every call and a settlement after it, out of leased slices.

No call near no limit touches the ledger: a lease is spent locally, under one lock held for a few arithmetic operations.
Only a lease that runs out asks the account again; near the limit leases shrink to single calls.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter_cost.budgets.cost_estimate import Estimator
from crewmeter_cost.budgets.reservations import BudgetRefusal, LeasedPool, Pool, RunPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.local_balance import BalanceStore
    from crewmeter_cost.pricing.price_book import PriceBook

__all__ = ["BudgetEnforcer", "Reservation"]

SYNC_SECONDS = 0.25
"""How often settled money is booked and idle leases go back to the account."""
REFRESH_SECONDS = 30.0
"""How often the ledger is asked whether its budgets were changed."""

_SCOPE_ATTRIBUTE = {
    "crew": semconv.CREW,
    "flow": semconv.FLOW,
    "agent": semconv.AGENT_NAME,
    "model": semconv.REQUEST_MODEL,
    "user": semconv.USER,
    "team": semconv.TEAM,
    "session": semconv.SESSION,
}


@dataclass(slots=True)
class Reservation:
    """Money set aside for one call that has not ended: which pools hold how much of it."""

    held: tuple[tuple[Pool, int], ...]
    attributes: Mapping[str, object]
    urgent: bool = False
    """A limit is near: the next call must know what this one cost."""
    open: bool = field(default=True)


class BudgetEnforcer:
    """Reserves and settles against every budget that applies to a call.

    `reserve` returns a `Reservation`, or a `BudgetRefusal` that says which budget stops the call and when it resets;
    `settle` takes the attributes of the finished billed span. Both are safe from any thread. `close` returns all leases.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        *,
        balance_store: BalanceStore,
        book: PriceBook,
        clock: Callable[[], float] = time.time,
        refresh: Callable[[], Sequence[Budget] | None] = lambda: None,
    ) -> None:
        self._budgets = tuple(budgets)
        self._balance_store = balance_store
        self._clock = clock
        self._refresh = refresh
        self._estimator = Estimator(book)
        self._begin()

    def _begin(self) -> None:
        """Everything that belongs to one process."""
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._pools: dict[tuple[Budget, object], Pool] = {}
        self._over: list[Pool] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def reserve(
        self,
        attributes: Mapping[str, object],
        *,
        input_chars: int,
        max_output_tokens: int | None = None,
    ) -> Reservation | BudgetRefusal:
        """Set aside what the call is expected to cost. `attributes` are the span's (place, model, provider, host)."""
        applying = [budget for budget in self._budgets if _applies(budget, attributes)]
        if not applying:
            return Reservation((), attributes)
        now = self._clock()
        expected = self._estimator.expect(
            attributes, input_chars=input_chars, max_output_tokens=max_output_tokens, now=now
        )
        held: list[tuple[Pool, int]] = []
        for budget in applying:
            if expected is None and budget.hard and budget.on_unknown == "block":
                self._release(held)
                return BudgetRefusal(
                    budget=budget.label,
                    spent_pusd=None,
                    limit_pusd=budget.amount_pusd,
                    resets_at=None,
                    why="the model has no price",
                )
            pool = self._pool(budget, attributes, now)
            outcome = pool.reserve(
                0 if expected is None else expected.pusd,
                sure=expected is not None and expected.learned,
                now=now,
            )
            if isinstance(outcome, BudgetRefusal):
                self._release(held)
                return outcome
            held.append((pool, outcome))
        return Reservation(
            tuple(held),
            attributes,
            urgent=expected is None or not expected.learned or any(pool.near for pool, _ in held),
        )

    def settle(
        self,
        reservation: Reservation,
        attributes: Mapping[str, object] | None,
        *,
        duration_ns: int | None = None,
    ) -> None:
        """Replace what was set aside by what the call cost; ``None`` for a call that was never made."""
        if not reservation.open:
            return
        reservation.open = False
        cost = (
            None
            if attributes is None
            else self._estimator.cost(attributes, now=self._clock(), duration_ns=duration_ns)
        )
        for pool, amount in reservation.held:
            pool.settle(amount, 0 if cost is None else cost)

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """Book a billed call nobody could reserve for: an embedding, a second paid request inside one call."""
        now = self._clock()
        cost = self._estimator.cost(attributes, now=now, duration_ns=duration_ns)
        for budget in self._budgets:
            if cost and _applies(budget, attributes):
                self._pool(budget, attributes, now).settle(0, cost)

    def exhausted(self, attributes: Mapping[str, object]) -> BudgetRefusal | None:
        """The refusal of a hard budget of which nothing at all is left here; None where there is something."""
        now = self._clock()
        for budget in self._budgets:
            if budget.hard and _applies(budget, attributes):
                pool = self._pool(budget, attributes, now)
                outcome = pool.reserve(1, sure=True, now=now)
                if isinstance(outcome, BudgetRefusal):
                    return outcome
                pool.settle(outcome, 0)
        return None

    def after_fork(self) -> None:
        """In a forked child: leases, locks, the thread and connections are the parent's; runs it was forked in start anew."""
        self._balance_store.after_fork()
        self._begin()

    def close(self) -> None:
        """Stop the background thread and return every lease."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=0.5)
        self._sync(final=True)

    def _pool(self, budget: Budget, attributes: Mapping[str, object], now: float) -> Pool:
        run = attributes.get(semconv.RUN_ID) if budget.period == "run" else None
        key = (budget, run)
        pool = self._pools.get(key)
        if pool is None or pool.over(now):
            with self._lock:
                pool = self._pools.get(key)
                if pool is None or pool.over(now):
                    if pool is not None:
                        self._over.append(
                            pool
                        )  # its last calls are still to be booked, in its own period
                    pool = (
                        RunPool(budget)
                        if budget.period == "run"
                        else LeasedPool(budget, self._balance_store, self._holder, now)
                    )
                    self._pools[key] = pool
                    _forget_old_runs(self._pools)
                    self._work()
        return pool

    @staticmethod
    def _release(held: list[tuple[Pool, int]]) -> None:
        for pool, amount in held:
            pool.settle(amount, 0)

    def _work(self) -> None:
        """Start the background thread, once per process."""
        if self._thread is None and not self._stop.is_set():
            self._thread = threading.Thread(
                target=self._sync_for_ever,
                args=(self._stop,),
                name="crewmeter-budgets",
                daemon=True,
            )
            self._thread.start()

    def _sync_for_ever(self, stop: threading.Event) -> None:
        refresh_at = time.monotonic() + REFRESH_SECONDS
        while not stop.wait(SYNC_SECONDS):
            self._sync(final=False)
            if time.monotonic() >= refresh_at:
                refresh_at = time.monotonic() + REFRESH_SECONDS
                budgets = self._refresh()
                if budgets is not None:
                    self._budgets = tuple(budgets)

    def _sync(self, *, final: bool) -> None:
        over, self._over = self._over, []
        for pool in (*over, *list(self._pools.values())):
            pool.sync(self._clock(), final=final or pool in over)


MOST_RUNS = 10_000
"""Run budgets kept at once; the oldest finished long ago."""


def _forget_old_runs(pools: dict[tuple[Budget, object], Pool]) -> None:
    while len(pools) > MOST_RUNS:
        pools.pop(next(iter(pools)))


def _applies(budget: Budget, attributes: Mapping[str, object]) -> bool:
    if budget.scope == "everything":
        return True
    if budget.scope == "tag":
        key, _, value = str(budget.value).partition("=")
        return attributes.get(semconv.TAG_PREFIX + key) == value
    return attributes.get(_SCOPE_ATTRIBUTE[budget.scope]) == budget.value
