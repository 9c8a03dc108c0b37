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
from crewmeter_cost.budgets.estimate import Estimator
from crewmeter_cost.budgets.pool import LedgerPool, Pool, Refusal, RunPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Engine

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.pricing.book import PriceBook

__all__ = ["Guard", "Reservation"]

SYNC_SECONDS = 0.25
"""How often settled money is booked and idle leases go back to the account."""

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
    open: bool = field(default=True)


class Guard:
    """Reserves and settles against every budget that applies to a call.

    `reserve` returns a `Reservation`, or a `Refusal` that says which budget stops the call and when it resets;
    `settle` takes the attributes of the finished billed span. Both are safe from any thread. `close` returns all leases.
    """

    def __init__(self, budgets: Sequence[Budget], *, engine: Engine, book: PriceBook, clock: Callable[[], float] = time.time) -> None:
        self._budgets = tuple(budgets)
        self._engine = engine
        self._clock = clock
        self._estimator = Estimator(book)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._pools: dict[tuple[Budget, object], Pool] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sync_for_ever, name="crewmeter-budgets", daemon=True)
        self._thread.start()

    def reserve(self, attributes: Mapping[str, object], *, input_chars: int, max_output_tokens: int | None = None) -> Reservation | Refusal:
        """Set aside what the call is expected to cost. `attributes` are the span's (place, model, provider, host)."""
        applying = [budget for budget in self._budgets if _applies(budget, attributes)]
        if not applying:
            return Reservation((), attributes)
        now = self._clock()
        expected = self._estimator.expect(attributes, input_chars=input_chars, max_output_tokens=max_output_tokens, now=now)
        held: list[tuple[Pool, int]] = []
        for budget in applying:
            if expected is None and budget.hard and budget.on_unknown == "block":
                self._release(held)
                return Refusal(
                    budget=budget.label, spent_pusd=None, limit_pusd=budget.amount_pusd, resets_at=None, reason="the model has no price"
                )
            pool = self._pool(budget, attributes, now)
            outcome = pool.reserve(0 if expected is None else expected.pusd, sure=expected is not None and expected.learned, now=now)
            if isinstance(outcome, Refusal):
                self._release(held)
                return outcome
            held.append((pool, outcome))
        return Reservation(tuple(held), attributes)

    def settle(self, reservation: Reservation, attributes: Mapping[str, object] | None, *, duration_ns: int | None = None) -> None:
        """Replace what was set aside by what the call cost; ``None`` for a call that was never made."""
        if not reservation.open:
            return
        reservation.open = False
        cost = None if attributes is None else self._estimator.cost(attributes, now=self._clock(), duration_ns=duration_ns)
        for pool, amount in reservation.held:
            pool.settle(amount, 0 if cost is None else cost)

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """Book a billed call nobody could reserve for: an embedding, a second paid request inside one call."""
        now = self._clock()
        cost = self._estimator.cost(attributes, now=now, duration_ns=duration_ns)
        for budget in self._budgets:
            if cost and _applies(budget, attributes):
                self._pool(budget, attributes, now).settle(0, cost)

    def close(self) -> None:
        """Stop the background thread and return every lease."""
        self._stop.set()
        self._thread.join(timeout=1)
        self._sync(final=True)

    def _pool(self, budget: Budget, attributes: Mapping[str, object], now: float) -> Pool:
        run = attributes.get(semconv.RUN_ID) if budget.period == "run" else None
        key = (budget, run)
        pool = self._pools.get(key)
        if pool is None or pool.over(now):
            with self._lock:
                pool = self._pools.get(key)
                if pool is None or pool.over(now):
                    pool = RunPool(budget) if budget.period == "run" else LedgerPool(budget, self._engine, self._holder, now)
                    self._pools[key] = pool
                    _forget_old_runs(self._pools)
        return pool

    @staticmethod
    def _release(held: list[tuple[Pool, int]]) -> None:
        for pool, amount in held:
            pool.settle(amount, 0)

    def _sync_for_ever(self) -> None:
        while not self._stop.wait(SYNC_SECONDS):
            self._sync(final=False)

    def _sync(self, *, final: bool) -> None:
        for pool in list(self._pools.values()):
            pool.sync(self._clock(), final=final)


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
