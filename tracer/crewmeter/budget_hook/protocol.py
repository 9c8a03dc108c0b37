"""Budgets as the app meets them: the error that stops a call, and the guard behind it, found through an entry point.

The guard is the money side's: entry point ``guard`` of the group ``crewmeter_budget``, called as
``guard(budget, ledger=…, endpoint=…, headers=…)``.
"""

from __future__ import annotations

import logging
import os
import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from crewmeter.budget_hook.before_call import Guard
    from crewmeter.settings import TracerSettings

__all__ = ["GROUP", "BudgetExceeded", "DeferredGuard", "guard_with"]

logger = logging.getLogger("crewmeter")

GROUP = "crewmeter_budget"
FIRST_LOOK_S = 0.3
"""How long (s) the very first call waits to learn whether the ledger keeps a budget. Mostly that is known long before."""


class BudgetExceeded(Exception):
    """A call was not made because a budget (or the loop guard) says so. Money is a decimal string in USD, None where unknown."""

    def __init__(
        self,
        message: str,
        *,
        budget: str,
        spent_usd: str | None = None,
        limit_usd: str | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.budget = budget
        """Its name, or what it says: ``team:growth 500 USD/month``; ``loop`` for the loop guard."""
        self.spent_usd = spent_usd
        self.limit_usd = limit_usd
        self.resets_at = resets_at
        """When there is money again (UTC); None for a budget that never resets by the clock."""

    def __reduce__(self) -> tuple[Callable[..., BudgetExceeded], tuple[object, ...]]:
        """Pickle as this class, also where it was raised as one of CrewAI's too."""
        return _rebuilt, (str(self), self.budget, self.spent_usd, self.limit_usd, self.resets_at)


def _rebuilt(
    message: str,
    budget: str,
    spent_usd: str | None,
    limit_usd: str | None,
    resets_at: datetime | None,
) -> BudgetExceeded:
    return BudgetExceeded(
        message, budget=budget, spent_usd=spent_usd, limit_usd=limit_usd, resets_at=resets_at
    )


def guard_with(budget: object, settings: TracerSettings) -> Guard | None:
    """The guard for ``budget=`` and ``CREWMETER_BUDGETS``, else one that sees later whether the ledger keeps budgets of its own.

    None where no ledger is at hand to keep any. Raises ValueError where a budget is asked for and can't be meant, or no guard
    is installed.
    """
    where = _where(settings)
    if budget is None and not os.environ.get("CREWMETER_BUDGETS", "").strip():
        return DeferredGuard(lambda: _made(None, where)) if "endpoint" not in where else None
    made = _made(budget, where)
    if made is None:
        raise ValueError(
            "budget= needs a budget guard (entry point 'guard' of 'crewmeter_budget'); none is installed: leave budget out"
        )
    return made


def _made(budget: object, where: Mapping[str, object]) -> Guard | None:
    for point in entry_points(group=GROUP):
        if point.name == "guard":
            made: Guard | None = point.load()(budget, **where)
            return made
    return None


def _where(settings: TracerSettings) -> dict[str, object]:
    """Where the ledger is: here, or behind an endpoint."""
    from crewmeter.settings import EMBEDDED

    asked = os.environ.get("CREWMETER_BUDGETS_URL")
    if not asked and EMBEDDED in settings.exporters:
        return {"ledger": settings.ledger}
    outside = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    endpoint = asked or settings.endpoint or outside
    return (
        {"endpoint": endpoint, "headers": dict(settings.headers)}
        if endpoint
        else {"ledger": settings.ledger}
    )


class DeferredGuard:
    """A `Guard` that is looked for in the background once CrewAI is there, since looking takes longer than `instrument` may."""

    def __init__(self, find: Callable[[], Guard | None]) -> None:
        self._find = find
        self._guard: Guard | None = None
        self._known = threading.Event()
        self._waited = False
        self._started = False

    @property
    def active(self) -> bool:
        """Whether there is a budget to keep to."""
        if self._started and not self._waited:
            self._known.wait(FIRST_LOOK_S)
            self._waited = True
        return self._guard is not None and self._guard.active

    @property
    def undecided(self) -> bool:
        """Whether it is still being found out if there is a budget."""
        return not self._known.is_set()

    def start(self) -> None:
        """Begin to look."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._look, name="crewmeter-budgets-look", daemon=True).start()

    def _look(self) -> None:
        try:
            self._guard = self._find()
        except Exception as error:  # noqa: BLE001  # a broken environment must cost a log line, not the app
            logger.warning("crewmeter: could not look for budgets: %s", type(error).__name__)
        finally:
            self._known.set()

    def reserve(
        self,
        attributes: Mapping[str, object],
        *,
        input_chars: int,
        max_output_tokens: int | None = None,
    ) -> Any:
        """See `Guard`."""
        guard = self._guard
        return (
            None
            if guard is None
            else guard.reserve(
                attributes, input_chars=input_chars, max_output_tokens=max_output_tokens
            )
        )

    def exhausted(self, attributes: Mapping[str, object]) -> Any:
        """See `Guard`."""
        return None if self._guard is None else self._guard.exhausted(attributes)

    def tool(self, attributes: Mapping[str, object], name: str, arguments: object) -> Any:
        """See `Guard`."""
        return None if self._guard is None else self._guard.tool(attributes, name, arguments)

    def settle(
        self,
        reservation: Any,
        attributes: Mapping[str, object] | None,
        *,
        duration_ns: int | None = None,
    ) -> None:
        """See `Guard`."""
        if self._guard is not None:
            self._guard.settle(reservation, attributes, duration_ns=duration_ns)

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """See `Guard`."""
        if self._guard is not None:
            self._guard.spend(attributes, duration_ns=duration_ns)

    def after_fork(self) -> None:
        """See `Guard`. A look that was under way stayed with the parent, so it begins anew."""
        if self._guard is not None:
            self._guard.after_fork()
        elif self._started:
            self._known, self._started = threading.Event(), False
            self.start()

    def close(self) -> None:
        """See `Guard`."""
        if self._guard is not None:
            self._guard.close()
