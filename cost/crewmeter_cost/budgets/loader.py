"""The entry point ``guard`` of ``crewmeter_budget``: what `crewmeter.instrument` puts in front of calls.

The ledger and the price book load in the background. A budget named in code or environment is waited for by the first call,
as is one the ledger is known to keep; where there is none, nothing is loaded at all.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter_cost.budgets.loop_limits import LoopGuard
from crewmeter_cost.budgets.peek import keeps_budgets
from crewmeter_cost.budgets.plan import BudgetPlan, plan_of, read_plan
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.enforcement import BudgetEnforcer, Reservation
    from crewmeter_cost.budgets.local_balance import BalanceStore
    from crewmeter_cost.budgets.loop_limits import LoopVerdict
    from crewmeter_cost.budgets.reservations import BudgetRefusal

__all__ = ["LazyBudgetGuard", "guard"]

log = logging.getLogger("crewmeter")

LOAD_SECONDS = 10.0
"""How long the first call waits for a budget it must keep to. Then ``on_unknown`` decides."""
LOOK_SECONDS = 30.0
"""How often a process without budgets looks whether the ledger keeps one meanwhile."""


def guard(
    budget: object,
    *,
    ledger: str | None = None,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> LazyBudgetGuard:
    """A guard for ``budget`` (see `plan_of`), ``CREWMETER_BUDGETS`` and what the ledger keeps.

    With ``endpoint`` the accounts are kept by the sidecar there. Raises ValueError for a budget that can't be meant.
    """
    try:
        plan = plan_of(budget)
        text = os.environ.get("CREWMETER_BUDGETS", "").strip()
        if text:
            from crewmeter_cost.budgets.repository import combine

            more = read_plan(text)
            plan = BudgetPlan(combine(plan.budgets, more.budgets), plan.limits or more.limits)
    except CrewMeterError as error:
        raise ValueError(f"{error.message} ({error.hint})") from error
    return LazyBudgetGuard(plan, ledger, endpoint=endpoint, headers=headers)


class LazyBudgetGuard:
    """A guard that is there at once and knows its budgets a moment later."""

    def __init__(
        self,
        plan: BudgetPlan,
        ledger: str | None,
        *,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._named = plan.budgets
        self._loops = LoopGuard(plan.limits) if plan.limits is not None else None
        self._ledger = ledger
        self._endpoint = endpoint
        self._headers = dict(headers or {})
        self._guard: BudgetEnforcer | None = None
        self._problem: str | None = None
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._loaded: threading.Event | None = None
        """Set once the ledger was asked; None while there is no reason to ask it."""
        self._lock = threading.Lock()
        if self._named:
            self.start()
        elif endpoint is None:
            self._look()

    @property
    def active(self) -> bool:
        """False while there is nothing to keep to; calls need not ask then."""
        if self._loaded is not None or self._loops is not None:
            return True
        if self._endpoint is None and time.monotonic() > self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            threading.Thread(target=self._look, name="crewmeter-budgets-look", daemon=True).start()
        return False

    def start(self) -> None:
        """Load the ledger and the prices in the background, once, if there is a budget."""
        with self._lock:
            if self._loaded is None and self._named:
                self._load_later()

    def reserve(
        self,
        attributes: Mapping[str, object],
        *,
        input_chars: int,
        max_output_tokens: int | None = None,
    ) -> Reservation | BudgetRefusal | None:
        """See `BudgetEnforcer.reserve`; None where there is nothing to keep to."""
        if (
            self._loops is not None
            and attributes.get(semconv.OPERATION) == semconv.CHAT
            and (refused := self._judged(self._loops.call(_run(attributes)), attributes))
        ):
            return refused
        guard = self._ready()
        if guard is not None:
            return guard.reserve(
                attributes, input_chars=input_chars, max_output_tokens=max_output_tokens
            )
        return self._blocked()

    def exhausted(self, attributes: Mapping[str, object]) -> BudgetRefusal | None:
        """See `BudgetEnforcer.exhausted`."""
        guard = self._ready()
        return guard.exhausted(attributes) if guard is not None else self._blocked()

    def tool(
        self, attributes: Mapping[str, object], name: str, arguments: object
    ) -> BudgetRefusal | None:
        """A refusal where a tool is used with the same arguments once too often in one run."""
        if self._loops is None:
            return None
        return self._judged(self._loops.tool(_run(attributes), name, str(arguments)), attributes)

    def settle(
        self,
        reservation: Reservation,
        attributes: Mapping[str, object] | None,
        *,
        duration_ns: int | None = None,
    ) -> None:
        """See `BudgetEnforcer.settle`."""
        if attributes is not None:
            self._count(attributes)
        if self._guard is not None and reservation is not None:
            self._guard.settle(reservation, attributes, duration_ns=duration_ns)

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """See `BudgetEnforcer.spend`."""
        self._count(attributes)
        if self._guard is not None:
            self._guard.spend(attributes, duration_ns=duration_ns)

    def after_fork(self) -> None:
        """In a forked child: a load that was under way stayed with the parent."""
        self._lock = threading.Lock()
        if self._loops is not None:
            self._loops.after_fork()
        if self._guard is not None:
            self._guard.after_fork()
        elif self._loaded is not None and not self._loaded.is_set():
            self._load_later()

    def close(self) -> None:
        """Return every lease."""
        if self._guard is not None:
            self._guard.close()

    def _ready(self) -> BudgetEnforcer | None:
        if self._loaded is not None and not self._loaded.is_set():
            self._loaded.wait(LOAD_SECONDS)
        return self._guard

    def _blocked(self) -> BudgetRefusal | None:
        """The refusal of a strict budget nobody can keep an account for."""
        strict = next(
            (budget for budget in self._named if budget.hard and budget.on_unknown == "block"), None
        )
        if strict is None or self._loaded is None:
            return None
        from crewmeter_cost.budgets.reservations import BudgetRefusal

        return BudgetRefusal(
            strict.label,
            None,
            strict.amount_pusd,
            None,
            f"the ledger can't be asked what is spent: {self._problem}",
        )

    def _count(self, attributes: Mapping[str, object]) -> None:
        """Tokens of a finished call, for the loop guard. A limit passed stops the next call."""
        if self._loops is None:
            return
        used = [attributes.get(name) for name in (semconv.INPUT_TOKENS, semconv.OUTPUT_TOKENS)]
        tokens = sum(count for count in used if isinstance(count, int))
        if tokens and (run := _run(attributes)):
            self._judged(self._loops.tokens(run, tokens), attributes)

    def _judged(
        self, verdict: LoopVerdict | None, attributes: Mapping[str, object]
    ) -> BudgetRefusal | None:
        """What a verdict means: a refusal, or a line in the log."""
        if verdict is None or not attributes.get(semconv.RUN_ID):
            return None
        if verdict.stop:
            from crewmeter_cost.budgets.reservations import BudgetRefusal

            return BudgetRefusal("loop", None, None, None, verdict.text)
        log.warning("crewmeter: %s: %s", attributes.get(semconv.RUN_NAME) or "a run", verdict.text)
        return None

    def _look(self) -> None:
        """See without loading anything whether the ledger keeps budgets; load what is needed if it does, or if that can't be told."""
        kept = keeps_budgets(self._ledger)
        if kept is not False:
            with self._lock:
                if self._loaded is None:
                    self._load_later(visible=bool(kept))

    def _load_later(self, *, visible: bool = True) -> None:
        loaded = threading.Event()
        if visible:
            self._loaded = loaded
        threading.Thread(
            target=self._load, args=(loaded,), name="crewmeter-budgets-load", daemon=True
        ).start()

    def _load(self, loaded: threading.Event) -> None:
        from crewmeter_cost.budgets.enforcement import BudgetEnforcer
        from crewmeter_cost.pricing.price_book import PriceBook

        try:
            balance_store, budgets = self._balance_store()
            if budgets:
                self._guard = BudgetEnforcer(
                    budgets,
                    balance_store=balance_store,
                    book=PriceBook.load(),
                    refresh=self._budgets_now,
                )
                self._loaded = loaded
            elif self._endpoint is None:
                self._open.close()
        except CrewMeterError as error:
            self._problem = error.message
            if self._named:
                log.warning(
                    "crewmeter: budgets can't be kept (%s); calls go on unless a budget says on_unknown = block",
                    error.message,
                )
        finally:
            loaded.set()

    def _balance_store(self) -> tuple[BalanceStore, Sequence[Budget]]:
        """Where the accounts are, and the budgets to keep."""
        if self._endpoint is not None:
            from crewmeter_cost.budgets.remote_balance import RemoteBalanceStore

            return RemoteBalanceStore(self._endpoint, self._headers), self._named
        from crewmeter_cost.budgets.local_balance import LocalBalanceStore
        from crewmeter_cost.budgets.repository import combine, stored_budgets
        from crewmeter_cost.ledger.store import Ledger

        self._open: Any = Ledger.open(self._ledger)
        return LocalBalanceStore(self._open.engine), combine(
            self._named, stored_budgets(self._open.engine)
        )

    def _budgets_now(self) -> Sequence[Budget] | None:
        """The budgets as the ledger keeps them now; None where it can't be asked."""
        if self._endpoint is not None:
            return None
        from sqlalchemy.exc import SQLAlchemyError

        from crewmeter_cost.budgets.repository import combine, stored_budgets

        try:
            return combine(self._named, stored_budgets(self._open.engine))
        except SQLAlchemyError:
            return None


def _run(attributes: Mapping[str, object]) -> str:
    return str(attributes.get(semconv.RUN_ID) or "")
