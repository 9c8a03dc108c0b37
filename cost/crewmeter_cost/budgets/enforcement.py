"""Enforcing budgets in an app: a reservation before each call, settled after it.

No call far from a limit touches the ledger: a lease is spent locally, under one lock held for a few
arithmetic operations. Only a lease that runs out costs a request to the account. Near the limit
leases shrink to single calls.
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
from crewmeter_cost.budgets.cost_estimate import CostEstimator
from crewmeter_cost.budgets.reservations import BudgetRefusal, LeasedPool, Pool, RunPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crewmeter_cost.budgets.cost_estimate import CostEstimate
    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.local_balance import BalanceStore
    from crewmeter_cost.pricing.price_book import PriceBook

__all__ = ["BudgetEnforcer", "Reservation"]

SYNC_SECONDS = 0.25
"""How often settled money is booked and idle leases go back to the account."""
REFRESH_SECONDS = 30.0
"""How often the ledger's budgets are read again."""
MOST_RUNS = 10_000
"""Budgets per run remembered at once. The oldest runs finished long ago."""

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
    """Money set aside for one call: which pools hold how much of it.

    `urgent` where a limit is near, so that the next call must know what this one cost.
    """

    held: tuple[tuple[Pool, int], ...]
    attributes: Mapping[str, object]
    urgent: bool = False
    open: bool = field(default=True)


class BudgetEnforcer:
    """Reserves and settles against every budget that applies to a call.

    `reserve` returns a `Reservation`, or a `BudgetRefusal` that says which budget stops the call
    and when it resets. `settle` takes the attributes of the finished billed span. Both are safe
    from any thread. `close` returns all leases.
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
        self._estimator = CostEstimator(book)
        self._begin()

    def _begin(self) -> None:
        """Set up what belongs to one process."""
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._pools: dict[tuple[Budget, object], Pool] = {}
        self._ended_pools: list[Pool] = []
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
        """Set aside what the call is expected to cost.

        `attributes` are the span's: scope, model, provider, host.
        """
        applying = [budget for budget in self._budgets if _applies(budget, attributes)]
        if not applying:
            return Reservation((), attributes)
        now = self._clock()
        expected = self._estimator.expect(
            attributes, input_chars=input_chars, max_output_tokens=max_output_tokens, now=now
        )
        held: list[tuple[Pool, int]] = []
        for budget in applying:
            pool = self._pool(budget, attributes, now)
            outcome = _reserve_of(budget, pool, expected, now)
            if isinstance(outcome, BudgetRefusal):
                self._release(held)
                return outcome
            held.append((pool, outcome))
        is_guess = expected is None or not expected.learned
        urgent = is_guess or any(pool.near for pool, _ in held)
        return Reservation(tuple(held), attributes, urgent=urgent)

    def settle(
        self,
        reservation: Reservation,
        attributes: Mapping[str, object] | None,
        *,
        duration_ns: int | None = None,
    ) -> None:
        """Replace what was set aside by what the call cost.

        ``None`` stands for a call that was never made.
        """
        if not reservation.open:
            return
        reservation.open = False
        cost = None
        if attributes is not None:
            cost = self._estimator.cost(
                attributes,
                now=self._clock(),
                duration_ns=duration_ns,
            )
        for pool, amount in reservation.held:
            pool.settle(amount, cost or 0)

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """Book a billed call without a reservation.

        Such are an embedding, and a second paid request inside one call.
        """
        now = self._clock()
        cost = self._estimator.cost(attributes, now=now, duration_ns=duration_ns)
        if not cost:
            return
        for budget in self._budgets:
            if _applies(budget, attributes):
                self._pool(budget, attributes, now).settle(0, cost)

    def exhausted(self, attributes: Mapping[str, object]) -> BudgetRefusal | None:
        """Return the refusal of a hard budget of which nothing is left, or None."""
        now = self._clock()
        for budget in self._budgets:
            if not budget.hard or not _applies(budget, attributes):
                continue
            pool = self._pool(budget, attributes, now)
            outcome = pool.reserve(1, sure=True, now=now)
            if isinstance(outcome, BudgetRefusal):
                return outcome
            pool.settle(outcome, 0)
        return None

    def after_fork(self) -> None:
        """Begin anew in a forked child.

        Leases, locks, the thread and connections are the parent's.
        """
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
        if pool is not None and not pool.over(now):
            return pool
        with self._lock:
            pool = self._pools.get(key)
            if pool is not None and not pool.over(now):
                return pool
            if pool is not None:
                # Its last calls are still to be booked, in the period that has ended.
                self._ended_pools.append(pool)
            if budget.period == "run":
                pool = RunPool(budget)
            else:
                pool = LeasedPool(
                    budget,
                    self._balance_store,
                    self._holder,
                    now,
                )
            self._pools[key] = pool
            while len(self._pools) > MOST_RUNS:
                self._pools.pop(next(iter(self._pools)))
            self._start_thread()
            return pool

    @staticmethod
    def _release(held: list[tuple[Pool, int]]) -> None:
        for pool, amount in held:
            pool.settle(amount, 0)

    def _start_thread(self) -> None:
        """Start the background thread, once per process, or again where it has died."""
        if self._stop.is_set():
            return
        if self._thread is None or not self._thread.is_alive():
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
            if time.monotonic() < refresh_at:
                continue
            refresh_at = time.monotonic() + REFRESH_SECONDS
            budgets = self._refresh()
            if budgets is not None:
                self._budgets = tuple(budgets)

    def _sync(self, *, final: bool) -> None:
        ended = self._ended_pools
        self._ended_pools = []
        for pool in (*ended, *list(self._pools.values())):
            pool.sync(
                self._clock(),
                final=final or pool in ended,
            )


def _reserve_of(
    budget: Budget, pool: Pool, expected: CostEstimate | None, now: float
) -> int | BudgetRefusal:
    """Reserve a call's expected cost, or nothing where its model has no price."""
    if expected is not None:
        return pool.reserve(
            expected.pusd,
            sure=expected.learned,
            now=now,
        )
    if budget.hard and budget.on_unknown == "block":
        return BudgetRefusal(
            budget=budget.label,
            spent_pusd=None,
            limit_pusd=budget.amount_pusd,
            resets_at=None,
            why="the model has no price",
        )
    return pool.reserve(0, sure=False, now=now)


def _applies(budget: Budget, attributes: Mapping[str, object]) -> bool:
    if budget.scope == "everything":
        return True
    if budget.scope == "tag":
        key, _, value = str(budget.value).partition("=")
        return attributes.get(semconv.TAG_PREFIX + key) == value
    return attributes.get(_SCOPE_ATTRIBUTE[budget.scope]) == budget.value
