"""Budgets at a sidecar: accounts for apps on other hosts, the state of the ledger's own budgets as metrics, and their notices."""

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
from crewmeter_cost.budgets.local_balance import (
    BalanceUnavailableError,
    LocalBalanceStore,
    Window,
    window_at,
)
from crewmeter_cost.budgets.repository import in_force, status
from crewmeter_cost.errors import CrewMeterError

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
"""How often, at most, the ledger is asked how its budgets stand."""
_MOST_BODY = 65_536
_MOST_SERIES = 200
_HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


def budget_routes(store: SidecarLedgers, metrics: SidecarMetrics) -> list[Route]:
    """``POST /api/budgets/lease`` and ``/settle`` (JSON, with an ingest key); besides, gauges in `metrics` and notices from now on."""
    standing = BudgetGauges(store)
    metrics.registry.register(standing)
    standing.start()
    desk = _BudgetAccounts(store)

    async def lease(request: Request) -> Response:
        return await _answer(desk, request, "lease")

    async def settle(request: Request) -> Response:
        return await _answer(desk, request, "settle")

    return [
        Route("/api/budgets/lease", lease, methods=["POST"]),
        Route("/api/budgets/settle", settle, methods=["POST"]),
    ]


async def _answer(desk: _BudgetAccounts, request: Request, verb: str) -> Response:
    if (
        request.headers.get("content-type", "").partition(";")[0].strip().lower()
        != "application/json"
    ):
        return _problem(415, "Content-Type must be application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BODY:
            return _problem(413, f"the body is larger than {_MOST_BODY} bytes")
    try:
        balance = await run_in_threadpool(desk.serve, verb, bytes(body))
    except CrewMeterError as error:
        return _problem(400, error.message, error.hint)
    except BalanceUnavailableError as error:
        return _problem(503, f"the ledger can't be asked ({error})")
    about = {
        "spent_pusd": balance.spent_pusd,
        "leased_pusd": balance.leased_pusd,
        "granted_pusd": balance.granted_pusd,
    }
    return JSONResponse(about, headers=_HEADERS)


def _problem(status_code: int, message: str, hint: str | None = None) -> Response:
    return JSONResponse({"error": message, "hint": hint}, status_code=status_code, headers=_HEADERS)


class _BudgetAccounts:
    """Serves questions about accounts, out of the ledger as it is at the moment."""

    def __init__(self, store: SidecarLedgers) -> None:
        self._store = store
        self._ledger: object = None
        self._balance_store: LocalBalanceStore

    def serve(self, verb: str, body: bytes) -> Balance:
        """The account after what was asked. Raises `CrewMeterError` for nonsense."""
        if self._ledger is not self._store.ledger:  # first of all, or a damaged file was set aside
            self._ledger, self._balance_store = (
                self._store.ledger,
                LocalBalanceStore(self._store.ledger.engine),
            )
        document = _document(body)
        budget = _budget(document.get("budget"))
        window = _window(budget, document.get("period_start"))
        holder = document.get("holder")
        if not isinstance(holder, str) or not 0 < len(holder) <= 200:
            raise CrewMeterError(f"holder is {holder!r}, not a short name")
        if verb == "lease":
            return self._balance_store.lease(
                budget,
                window,
                holder=holder,
                need_pusd=_amount(document, "need_pusd", least=1),
            )
        spent, returned = (
            _amount(document, "spent_pusd", least=0),
            _amount(document, "returned_pusd", least=-MOST_PUSD),
        )
        return self._balance_store.book(
            budget,
            window,
            holder=holder,
            spent_pusd=spent,
            returned_pusd=returned,
            look=True,
        )


def _document(body: bytes) -> dict[str, object]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CrewMeterError("the body is not JSON") from error
    if not isinstance(document, dict):
        raise CrewMeterError(
            "the body is no JSON object", hint='{"budget": {…}, "period_start": …, "holder": …, …}'
        )
    return document


def _budget(source: object) -> Budget:
    """The budget as the app has it, checked as if a person had written it."""
    known = {field.name for field in fields(Budget)}
    if not isinstance(source, dict) or not set(source) <= known:
        raise CrewMeterError(
            "budget must be an object", hint=f"its keys are {', '.join(sorted(known))}"
        )
    try:
        claimed = Budget(**source)
        scope = claimed.scope if claimed.value is None else f"{claimed.scope}:{claimed.value}"
        rest = {
            "hard": claimed.hard,
            "on_unknown": claimed.on_unknown,
            "timezone": claimed.timezone,
            "name": claimed.name,
        }
        return parse_budget({"amount": claimed.amount_text, "scope": scope, **rest}, where="budget")
    except (TypeError, ArithmeticError, ValueError) as error:
        raise CrewMeterError(
            "budget is not understood", hint="send amount_pusd, period, scope and value"
        ) from error


def _window(budget: Budget, start: object) -> Window:
    if budget.period in ("run", "total"):
        if budget.period == "run" or start is not None:
            raise CrewMeterError(f"a budget per {budget.period} has no period_start here")
        return Window(None, None)
    if (
        not isinstance(start, int)
        or isinstance(start, bool)
        or not 0 <= start <= time.time() + 86_400
    ):
        raise CrewMeterError(
            f"period_start is {start!r}", hint="send the unix seconds at which the period began"
        )
    window = window_at(budget, start)
    if window.start != start:
        raise CrewMeterError(f"no {budget.period} began at {start} in {budget.timezone}")
    return window


def _amount(document: dict[str, object], key: str, *, least: int) -> int:
    value = document.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST_PUSD:
        raise CrewMeterError(f"{key} is {value!r}, not an amount in whole pico-USD")
    return value


class BudgetGauges:
    """How the budgets in force stand: a prometheus-client collector, and a thread that announces thresholds."""

    def __init__(self, store: SidecarLedgers) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._found: list[BudgetStatus] = []
        self._looked_at = float("-inf")

    def start(self) -> None:
        """Look every `EVERY_SECONDS`, in the background."""
        threading.Thread(target=self._for_ever, name="crewmeter-budgets", daemon=True).start()

    def collect(self) -> Iterator[Metric]:
        """``crewmeter_budget_spent_usd`` and ``crewmeter_budget_limit_usd`` by budget."""
        spent = GaugeMetricFamily(
            semconv.PROM_BUDGET_SPENT,
            "Spent of a budget in its current period, in USD.",
            labels=["budget"],
        )
        limit = GaugeMetricFamily(
            semconv.PROM_BUDGET_LIMIT, "Amount of a budget per period, in USD.", labels=["budget"]
        )
        for each in self._now()[:_MOST_SERIES]:
            spent.add_metric([each.budget.label], each.spent_pusd / 1e12)
            limit.add_metric([each.budget.label], each.budget.amount_pusd / 1e12)
        yield spent
        yield limit

    def _now(self) -> list[BudgetStatus]:
        """The standings, no older than `EVERY_SECONDS` unless the ledger can't be asked."""
        with self._lock:
            if time.monotonic() - self._looked_at >= EVERY_SECONDS:
                self._looked_at = time.monotonic()
                engine = self._store.ledger.engine
                try:
                    self._found = status(engine, in_force(engine), now=datetime.now(UTC))
                except (SQLAlchemyError, CrewMeterError) as error:
                    log.warning("budgets can't be read: %s", type(error).__name__)
            return self._found

    def _for_ever(self) -> None:
        while True:
            balance_store = LocalBalanceStore(self._store.ledger.engine)
            for each in self._now():
                try:
                    window = window_at(each.budget, time.time())
                    balance_store.notice(each.budget, window, each.spent_pusd)
                except SQLAlchemyError as error:
                    log.warning(
                        "budget %s: no notice could be given: %s",
                        each.budget.label,
                        type(error).__name__,
                    )
            time.sleep(EVERY_SECONDS)
