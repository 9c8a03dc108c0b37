"""What enforces budgets, and how it is found.

What enforces budgets is the money side's: entry point ``guard`` of the group ``crewmeter_budget``,
called as ``guard(budget, ledger=…, endpoint=…, headers=…)``.
"""

from __future__ import annotations

import logging
import os
import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crewmeter.settings import TracerSettings

__all__ = ["GROUP", "BudgetGuard", "BudgetLookup", "find_budgets"]

logger = logging.getLogger("crewmeter")

GROUP = "crewmeter_budget"
FIRST_LOOK_S = 0.3
"""How long (s) the very first call waits to learn whether the ledger holds a budget.

Mostly that is known long before.
"""


class BudgetGuard(Protocol):
    """What enforces budgets. ``attributes`` are a span's, under semconv's names.

    A refusal is an object with ``budget`` and ``reason``, and perhaps ``spent_usd``, ``limit_usd``
    and ``resets_at``.
    """

    @property
    def active(self) -> bool:
        """False while no budget applies.

        Then nothing else is called.
        """

    def start(self) -> None:
        """Load what the first call will need: CrewAI is there."""

    def reserve(
        self,
        attributes: Mapping[str, object],
        *,
        input_chars: int,
        max_output_tokens: int | None = None,
    ) -> Any:
        """Return a reservation or a refusal.

        A reservation that is ``urgent`` is settled as its call ends, others a moment later.
        """

    def exhausted(self, attributes: Mapping[str, object]) -> Any:
        """Return a refusal where nothing at all may be spent any more, else None."""

    def tool(self, attributes: Mapping[str, object], name: str, arguments: object) -> Any:
        """Return a refusal where this use of a tool is one too many, else None."""

    def settle(
        self,
        reservation: Any,
        attributes: Mapping[str, object] | None,
        *,
        duration_ns: int | None = None,
    ) -> None:
        """Replace a reservation by what the call cost.

        ``attributes`` is None for a call that was never made.
        """

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """Book a billed call that nobody reserved for."""

    def after_fork(self) -> None:
        """Begin anew in a forked child: locks, threads and connections are the parent's."""

    def close(self) -> None:
        """Give back what is reserved, and stop."""


class BudgetLookup:
    """Finds the guard: at once, or in the background once CrewAI is there.

    Loading the money side takes longer than `crewmeter.instrument` may.
    """

    def __init__(
        self, find: Callable[[], BudgetGuard | None], found: BudgetGuard | None = None
    ) -> None:
        self._find = find
        self._guard = found
        self._known = threading.Event()
        self._has_waited = False
        self._is_started = False
        if found is not None:
            self._known.set()

    @property
    def guard(self) -> BudgetGuard | None:
        """The guard while a budget applies. The first call waits a moment for the answer."""
        if self._is_started and not self._has_waited:
            self._known.wait(FIRST_LOOK_S)
            self._has_waited = True
        guard = self._guard
        if guard is not None and guard.active:
            return guard
        return None

    @property
    def found(self) -> BudgetGuard | None:
        """The guard, whether or not a budget applies.

        None where there is none, or not yet.
        """
        return self._guard

    @property
    def is_undecided(self) -> bool:
        """Whether it is still being found out if there is a budget."""
        return not self._known.is_set()

    def start(self) -> None:
        """Begin to look, or let the guard that is there load what it needs."""
        if self._guard is not None:
            self._guard.start()
        elif not self._is_started:
            self._is_started = True
            threading.Thread(target=self._look, name="crewmeter-budgets-look", daemon=True).start()

    def after_fork(self) -> None:
        """Begin anew in a forked child. A look that was under way stayed with the parent."""
        if self._guard is not None:
            self._guard.after_fork()
        elif self._is_started:
            self._known = threading.Event()
            self._is_started = False
            self.start()

    def _look(self) -> None:
        try:
            self._guard = self._find()
        # A broken environment must cost a log line, not the app.
        except Exception as error:  # noqa: BLE001
            logger.warning("could not look for budgets: %s", type(error).__name__)
        finally:
            self._known.set()


def find_budgets(budget: object, settings: TracerSettings) -> BudgetLookup | None:
    """Return what enforces the budgets of code, environment and ledger.

    None where no ledger is at hand to hold any.

    Raises:
        ValueError: Where a named budget is malformed, or nothing is installed to enforce it.
    """
    location = _ledger_location(settings)
    is_named = budget is not None or bool(os.environ.get("CREWMETER_BUDGETS", "").strip())
    if not is_named:
        if "endpoint" in location:
            return None
        return BudgetLookup(lambda: _load_guard(None, location))
    guard = _load_guard(budget, location)
    if guard is None:
        raise ValueError(
            f"budget= needs the entry point 'guard' of {GROUP!r}; "
            "none is installed: leave budget out"
        )
    return BudgetLookup(lambda: guard, guard)


def _load_guard(budget: object, location: Mapping[str, object]) -> BudgetGuard | None:
    for point in entry_points(group=GROUP):
        if point.name == "guard":
            guard: BudgetGuard | None = point.load()(budget, **location)
            return guard
    return None


def _ledger_location(settings: TracerSettings) -> dict[str, object]:
    """Return where the ledger is: here, or behind an endpoint."""
    from crewmeter.settings import EMBEDDED

    url = os.environ.get("CREWMETER_BUDGETS_URL")
    if not url and EMBEDDED in settings.exporters:
        return {"ledger": settings.ledger}
    outside = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    endpoint = url or settings.endpoint or outside
    if endpoint:
        return {"endpoint": endpoint, "headers": dict(settings.headers)}
    return {"ledger": settings.ledger}
