"""Budgets at a sidecar: accounts for apps on other hosts, metrics and notices."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route

from crewmeter import semconv
from crewmeter_cost.budgets.definition import Budget, parse_budget
from crewmeter_cost.budgets.leases import MOST_PUSD
from crewmeter_cost.budgets.local_balance import LocalBalanceStore, Window, window_at
from crewmeter_cost.budgets.repository import in_force, status
from crewmeter_cost.errors import BalanceUnavailableError, CrewMeterError
from crewmeter_cost.sidecar.background import SupervisedThread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric
    from starlette.requests import Request
    from starlette.responses import Response

    from crewmeter_cost.budgets.leases import Balance
    from crewmeter_cost.budgets.repository import BudgetStatus
    from crewmeter_cost.sidecar.metrics.registry import SidecarMetrics
    from crewmeter_cost.sidecar.tenant_ledgers import SidecarLedgers

__all__ = ["EVERY_SECONDS", "BudgetGauges", "budget_routes"]

log = logging.getLogger("crewmeter.sidecar")

EVERY_SECONDS = 15.0
"""How often, at most, the ledger's budgets are read."""
_MOST_BODY = 65_536
_MOST_SERIES = 200
_MOST_HOLDER = 200
_DAY_SECONDS = 86_400
_HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


def budget_routes(ledgers: SidecarLedgers) -> list[Route]:
    """Return ``POST /api/budgets/lease`` and ``/settle`` (JSON, with an ingest key)."""
    accounts = _BudgetAccounts(ledgers)

    async def lease(request: Request) -> Response:
        return await _response(accounts, request, "lease")

    async def settle(request: Request) -> Response:
        return await _response(accounts, request, "settle")

    return [
        Route("/api/budgets/lease", lease, methods=["POST"]),
        Route("/api/budgets/settle", settle, methods=["POST"]),
    ]


async def _response(accounts: _BudgetAccounts, request: Request, verb: str) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return _problem(415, "Content-Type must be application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BODY:
            return _problem(413, f"the body is larger than {_MOST_BODY} bytes")
    try:
        balance = await run_in_threadpool(
            accounts.serve,
            verb,
            bytes(body),
        )
    except CrewMeterError as error:
        return _problem(400, error.message, error.hint)
    except BalanceUnavailableError as error:
        return _problem(503, f"the ledger can't be read ({error})")
    document = {
        "spent_pusd": balance.spent_pusd,
        "leased_pusd": balance.leased_pusd,
        "granted_pusd": balance.granted_pusd,
    }
    return JSONResponse(document, headers=_HEADERS)


def _problem(status_code: int, message: str, hint: str | None = None) -> Response:
    return JSONResponse(
        {"error": message, "hint": hint},
        status_code=status_code,
        headers=_HEADERS,
    )


class _BudgetAccounts:
    """Leases and settles on the ledger as it is at the moment."""

    def __init__(self, ledgers: SidecarLedgers) -> None:
        self._ledgers = ledgers
        self._ledger: object = None
        self._balance_store: LocalBalanceStore

    def serve(self, verb: str, body: bytes) -> Balance:
        """Return the account after the request.

        Raises `CrewMeterError` for a malformed request.
        """
        ledger = self._ledgers.ledger
        if self._ledger is not ledger:  # the first request, or the ledger was exchanged
            self._ledger = ledger
            self._balance_store = LocalBalanceStore(ledger.engine)
        document = _document(body)
        budget = _budget(document.get("budget"))
        window = _window(budget, document.get("period_start"))
        holder = document.get("holder")
        if not isinstance(holder, str) or not 0 < len(holder) <= _MOST_HOLDER:
            raise CrewMeterError(f"holder is {str(holder)[:80]!r}, not a short name")
        if verb == "lease":
            need = _amount(document, "need_pusd", least=1)
            return self._balance_store.lease(
                budget,
                window,
                holder=holder,
                need_pusd=need,
            )
        return self._balance_store.book(
            budget,
            window,
            holder=holder,
            spent_pusd=_amount(document, "spent_pusd", least=0),
            returned_pusd=_amount(document, "returned_pusd", least=-MOST_PUSD),
            rows_pusd=self._balance_store.rows_pusd(budget, window),
        )


def _document(body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CrewMeterError("the body is not JSON") from error
    if not isinstance(document, dict):
        hint = '{"budget": {…}, "period_start": …, "holder": …, …}'
        raise CrewMeterError("the body is no JSON object", hint=hint)
    return document


def _budget(source: object) -> Budget:
    """Return the budget as the app has it, checked as if a person had written it."""
    known = {field.name for field in fields(Budget)}
    if not isinstance(source, dict):
        raise CrewMeterError(
            "budget must be an object", hint=f"its keys are {', '.join(sorted(known))}"
        )
    # An app of a newer version may send keys that this version does not know.
    claims = {key: value for key, value in source.items() if key in known}
    try:
        claimed = Budget(**claims)
        return parse_budget(
            {
                "amount": claimed.amount_text,
                "scope": claimed.scope_text,
                "hard": claimed.hard,
                "on_unknown": claimed.on_unknown,
                "timezone": claimed.timezone,
                "name": claimed.name,
            },
            where="budget",
        )
    except (TypeError, ArithmeticError, ValueError, AttributeError) as error:
        raise CrewMeterError(
            "budget is not understood", hint="send amount_pusd, period, scope and value"
        ) from error


def _window(budget: Budget, start: object) -> Window:
    """Return the period that began at `start`. Raises `CrewMeterError` where none did."""
    if budget.period in ("run", "total"):
        if budget.period == "run" or start is not None:
            raise CrewMeterError(f"a budget per {budget.period} has no period_start here")
        return Window(None, None)
    is_integer = isinstance(start, int) and not isinstance(start, bool)
    if not is_integer or not 0 <= start <= time.time() + _DAY_SECONDS:  # type: ignore[operator]
        raise CrewMeterError(
            f"period_start is {str(start)[:80]}",
            hint="send the unix seconds at which the period began",
        )
    window = window_at(budget, start)  # type: ignore[arg-type]
    if window.start != start:
        raise CrewMeterError(f"no {budget.period} began at {start} in {budget.timezone}")
    return window


def _amount(document: dict[str, object], key: str, *, least: int) -> int:
    value = document.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST_PUSD:
        raise CrewMeterError(f"{key} is {str(value)[:80]!r}, not an amount in whole pico-USD")
    return value


class BudgetGauges:
    """What is spent of the budgets in force: a prometheus-client collector.

    A thread of its own announces thresholds.
    """

    def __init__(self, ledgers: SidecarLedgers, metrics: SidecarMetrics) -> None:
        self._ledgers = ledgers
        self._lock = threading.Lock()
        self._found: list[BudgetStatus] = []
        self._read_at = float("-inf")
        self._warned: str | None = None
        self._stop = threading.Event()
        self.thread = SupervisedThread(
            "crewmeter-budgets", self._run, died=metrics.thread_died, daemon=True
        )
        metrics.registry.register(self)

    def start(self) -> None:
        """Read the budgets every `EVERY_SECONDS`, in the background."""
        self.thread.start()

    def stop(self) -> None:
        """End the thread, at the latest when its current look is over."""
        self._stop.set()

    def collect(self) -> Iterator[Metric]:
        """Return the gauges of what is spent and of the limit, by budget."""
        spent = GaugeMetricFamily(
            semconv.PROM_BUDGET_SPENT,
            "Spent of a budget in its current period, in USD.",
            labels=["budget"],
        )
        limit = GaugeMetricFamily(
            semconv.PROM_BUDGET_LIMIT, "Amount of a budget per period, in USD.", labels=["budget"]
        )
        for each in self._now()[:_MOST_SERIES]:
            spent.add_metric(
                [each.budget.label],
                each.spent_pusd / 1e12,
            )
            limit.add_metric(
                [each.budget.label],
                each.budget.amount_pusd / 1e12,
            )
        yield spent
        yield limit

    def _now(self) -> list[BudgetStatus]:
        """Return the status of each budget.

        It is no older than `EVERY_SECONDS`, unless the ledger can't be read. A page of metrics must
        never fail because of one budget, so every error leaves the last status in use.
        """
        with self._lock:
            if time.monotonic() - self._read_at < EVERY_SECONDS:
                return self._found
            self._read_at = time.monotonic()
            engine = self._ledgers.ledger.engine
            try:
                self._found = status(
                    engine,
                    in_force(engine),
                    now=datetime.now(UTC),
                )
                self._warned = None
            except (SQLAlchemyError, CrewMeterError, ValueError, ArithmeticError) as error:
                self._warn_once(f"budgets can't be read: {error}")
            return self._found

    def _run(self) -> None:
        while not self._stop.is_set():
            balance_store = LocalBalanceStore(self._ledgers.ledger.engine)
            for each in self._now():
                try:
                    window = window_at(each.budget, time.time())
                    balance_store.notice(each.budget, window, each.spent_pusd)
                except SQLAlchemyError as error:
                    self._warn_once(
                        f"budget {each.budget.label}: no notice could be given: "
                        f"{type(error).__name__}"
                    )
            self._stop.wait(EVERY_SECONDS)

    def _warn_once(self, message: str) -> None:
        if message != self._warned:
            self._warned = message
            log.warning("%s", message)
