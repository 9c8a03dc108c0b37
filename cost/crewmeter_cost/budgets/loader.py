"""Entry point ``guard`` of ``crewmeter_budget``: budgets for `instrument()`.

The ledger and the price book load in the background. The first call waits for a budget named in
code or environment, and for one the ledger is known to hold. Without any, nothing is loaded.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from crewmeter import semconv
from crewmeter_cost.budgets.loop_limits import LoopGuard
from crewmeter_cost.budgets.plan import BudgetPlan, plan_of, read_plan
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crewmeter_cost.budgets.definition import Budget
    from crewmeter_cost.budgets.enforcement import BudgetEnforcer, Reservation
    from crewmeter_cost.budgets.local_balance import BalanceStore
    from crewmeter_cost.budgets.loop_limits import LoopVerdict
    from crewmeter_cost.budgets.reservations import BudgetRefusal

__all__ = ["BudgetLoader", "guard", "has_budgets"]

log = logging.getLogger("crewmeter")

LOAD_SECONDS = 10.0
"""How long the first call waits for a budget it must obey. Then ``on_unknown`` decides."""
LOOK_SECONDS = 30.0
"""How often a process without budgets looks whether the ledger holds one meanwhile."""


def guard(
    budget: object,
    *,
    ledger: str | None = None,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> BudgetLoader:
    """Return what enforces ``budget``, the environment's and the ledger's budgets.

    With ``endpoint`` the sidecar there holds the accounts. Raises ValueError for a ``budget`` that
    is malformed. A malformed environment variable must not stop the app: it is logged as an error.
    """
    try:
        plan = plan_of(budget)
    except CrewMeterError as error:
        raise ValueError(f"{error.message} ({error.hint})") from error
    more = _plan_of_environment()
    if more.budgets:
        from crewmeter_cost.budgets.repository import combine

        plan = BudgetPlan(
            combine(plan.budgets, more.budgets),
            plan.limits,
        )
    plan = BudgetPlan(
        plan.budgets,
        plan.limits or more.limits,
    )
    return BudgetLoader(plan, ledger, endpoint=endpoint, headers=headers)


def _plan_of_environment() -> BudgetPlan:
    """Return the plan of ``CREWMETER_BUDGETS``, an empty one where it is malformed."""
    text = os.environ.get("CREWMETER_BUDGETS", "").strip()
    if not text:
        return BudgetPlan()
    try:
        return read_plan(text)
    except CrewMeterError as error:
        log.error("%s (%s); NO budget of that variable is enforced", error.message, error.hint)
        return BudgetPlan()


def has_budgets(ledger: str | None) -> bool | None:
    """Return whether a SQLite ledger holds any budget.

    It takes the standard library alone.

        False where there is no file yet. None for a server, which only a driver can query.
    """
    location = ledger or os.environ.get("CREWMETER_LEDGER")
    text = location or str(Path.home() / ".crewmeter" / "ledger.db")
    if "://" in text and not text.startswith("sqlite:///"):
        return None
    path = Path(text.removeprefix("sqlite:///")).expanduser()
    if not path.is_file():
        return False
    # Read-only and with a short timeout: this runs while the app starts.
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=0.2)
        try:
            return connection.execute("SELECT 1 FROM budget LIMIT 1").fetchone() is not None
        finally:
            connection.close()
    except sqlite3.Error:
        return False  # no ledger, or a damaged one: the exporter reports it


class BudgetLoader:
    """Budgets that are there at once and are enforced when they are loaded."""

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
        self._enforcer: BudgetEnforcer | None = None
        self._problem: str | None = None
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._loaded: threading.Event | None = None
        """Set once the ledger was read. None while there is no reason to read it."""
        self._lock = threading.Lock()
        if self._named:
            self.start()
        elif endpoint is None:
            self._look()

    @property
    def active(self) -> bool:
        """Return False while no budget or loop limit applies to any call."""
        if self._loaded is not None or self._loops is not None:
            return True
        # Somebody may set a budget in the ledger while the app runs.
        if self._endpoint is None and time.monotonic() > self._look_at:
            self._look_at = time.monotonic() + LOOK_SECONDS
            threading.Thread(
                target=self._look,
                name="crewmeter-budgets-look",
                daemon=True,
            ).start()
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
        """Reserve as `BudgetEnforcer.reserve` does, or return None without budgets."""
        if self._loops is not None and attributes.get(semconv.OPERATION) == semconv.CHAT:
            refused = self._judged(
                self._loops.call(_run_id(attributes)),
                attributes,
            )
            if refused is not None:
                return refused
        enforcer = self._ready()
        if enforcer is None:
            return self._blocked()
        return enforcer.reserve(
            attributes, input_chars=input_chars, max_output_tokens=max_output_tokens
        )

    def exhausted(self, attributes: Mapping[str, object]) -> BudgetRefusal | None:
        """Return what `BudgetEnforcer.exhausted` does."""
        enforcer = self._ready()
        if enforcer is None:
            return self._blocked()
        return enforcer.exhausted(attributes)

    def tool(
        self, attributes: Mapping[str, object], name: str, arguments: object
    ) -> BudgetRefusal | None:
        """Return a refusal where a run uses a tool with the same arguments too often."""
        if self._loops is None:
            return None
        verdict = self._loops.tool(
            _run_id(attributes),
            name,
            str(arguments),
        )
        return self._judged(verdict, attributes)

    def settle(
        self,
        reservation: Reservation,
        attributes: Mapping[str, object] | None,
        *,
        duration_ns: int | None = None,
    ) -> None:
        """Settle as `BudgetEnforcer.settle` does."""
        if attributes is not None:
            self._count(attributes)
        if self._enforcer is not None and reservation is not None:
            self._enforcer.settle(reservation, attributes, duration_ns=duration_ns)

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """Book as `BudgetEnforcer.spend` does."""
        self._count(attributes)
        if self._enforcer is not None:
            self._enforcer.spend(attributes, duration_ns=duration_ns)

    def after_fork(self) -> None:
        """Begin anew in a forked child. A load under way stayed with the parent."""
        self._lock = threading.Lock()
        if self._loops is not None:
            self._loops.after_fork()
        if self._enforcer is not None:
            self._enforcer.after_fork()
        elif self._loaded is not None and not self._loaded.is_set():
            self._load_later()

    def close(self) -> None:
        """Return every lease."""
        if self._enforcer is not None:
            self._enforcer.close()

    def _ready(self) -> BudgetEnforcer | None:
        if self._loaded is not None and not self._loaded.is_set():
            self._loaded.wait(LOAD_SECONDS)
        return self._enforcer

    def _blocked(self) -> BudgetRefusal | None:
        """Return the refusal of a blocking budget that could not be loaded."""
        if self._loaded is None:
            return None
        for budget in self._named:
            if budget.hard and budget.on_unknown == "block":
                why = f"the ledger can't be read: {self._problem}"
                return _refusal(budget.label, budget.amount_pusd, why)
        return None

    def _count(self, attributes: Mapping[str, object]) -> None:
        """Count a finished call's tokens against the loop limits.

        A limit passed stops the next call.
        """
        if self._loops is None:
            return
        used = [attributes.get(name) for name in (semconv.INPUT_TOKENS, semconv.OUTPUT_TOKENS)]
        tokens = sum(count for count in used if isinstance(count, int))
        run = _run_id(attributes)
        if tokens and run:
            self._judged(
                self._loops.tokens(run, tokens),
                attributes,
            )

    def _judged(
        self, verdict: LoopVerdict | None, attributes: Mapping[str, object]
    ) -> BudgetRefusal | None:
        """Turn a verdict into a refusal, or into a line in the log."""
        if verdict is None or not attributes.get(semconv.RUN_ID):
            return None
        if verdict.stop:
            return _refusal("loop", None, verdict.text)
        log.warning(
            "%s: %s",
            attributes.get(semconv.RUN_NAME) or "a run",
            verdict.text,
        )
        return None

    def _look(self) -> None:
        """Load what is needed if the ledger holds budgets, or may hold some."""
        found = has_budgets(self._ledger)
        if found is False:
            return
        with self._lock:
            if self._loaded is None:
                self._load_later(visible=bool(found))

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
            balance_store, budgets = self._accounts()
            if budgets:
                self._enforcer = BudgetEnforcer(
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
                    "budgets can't be enforced (%s); "
                    "calls go on unless a budget says on_unknown = block",
                    error.message,
                )
        finally:
            loaded.set()

    def _accounts(self) -> tuple[BalanceStore, Sequence[Budget]]:
        """Return the accounts, and the budgets to enforce."""
        if self._endpoint is not None:
            from crewmeter_cost.budgets.remote_balance import RemoteBalanceStore

            return RemoteBalanceStore(
                self._endpoint,
                self._headers,
            ), self._named
        from crewmeter_cost.budgets.local_balance import LocalBalanceStore
        from crewmeter_cost.budgets.repository import combine, stored_budgets
        from crewmeter_cost.ledger.store import Ledger

        self._open: Any = Ledger.open(self._ledger)
        budgets = combine(
            self._named,
            stored_budgets(self._open.engine),
        )
        return LocalBalanceStore(self._open.engine), budgets

    def _budgets_now(self) -> Sequence[Budget] | None:
        """Return the ledger's budgets as they are now, or None where it can't be read."""
        if self._endpoint is not None:
            return None
        from sqlalchemy.exc import SQLAlchemyError

        from crewmeter_cost.budgets.repository import combine, stored_budgets

        try:
            return combine(
                self._named,
                stored_budgets(self._open.engine),
            )
        except SQLAlchemyError:
            return None


def _refusal(budget: str, limit_pusd: int | None, why: str) -> BudgetRefusal:
    from crewmeter_cost.budgets.reservations import BudgetRefusal

    return BudgetRefusal(budget, None, limit_pusd, None, why)


def _run_id(attributes: Mapping[str, object]) -> str:
    return str(attributes.get(semconv.RUN_ID) or "")
