"""The entry point ``guard`` of ``crewmeter_budget``: what `crewmeter.instrument` puts in front of calls.

The ledger and the price book load in the background. A budget named in code or environment is waited for by the first call;
whether the ledger keeps one of its own is found out meanwhile, and until then calls go.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from crewmeter_cost.budgets.definition import Budget, parse_budget, read_budgets
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from crewmeter_cost.budgets.guard import Guard, Reservation
    from crewmeter_cost.budgets.pool import Refusal

__all__ = ["LoadingGuard", "guard"]

log = logging.getLogger("crewmeter")

LOAD_SECONDS = 10.0
"""How long the first call waits for a budget it must keep to. Then ``on_unknown`` decides."""


def guard(budget: object, *, ledger: str | None = None) -> LoadingGuard:
    """A guard for ``budget`` (a short form, a mapping, or a list of them), ``CREWMETER_BUDGETS`` and what the ledger keeps.

    Raises ValueError for a budget that can't be meant.
    """
    try:
        named = _named(budget)
        text = os.environ.get("CREWMETER_BUDGETS", "").strip()
        if text:
            named += read_budgets(text)
    except CrewMeterError as error:
        raise ValueError(f"{error.message} ({error.hint})") from error
    return LoadingGuard(named, ledger)


def _named(budget: object) -> tuple[Budget, ...]:
    match budget:
        case None:
            return ()
        case str() | Mapping() | Budget():
            return (parse_budget(budget),)
        case Sequence():
            return tuple(one for each in budget for one in _named(each))
    raise CrewMeterError(f"budget is {budget!r}", hint='give "5 USD/day", a mapping, or a list of them')


class LoadingGuard:
    """A `Guard` that is there at once and knows its budgets a moment later."""

    def __init__(self, named: tuple[Budget, ...], ledger: str | None) -> None:
        self._named = named
        self._ledger = ledger
        self._guard: Guard | None = None
        self._loaded = threading.Event()
        self._problem: str | None = None
        threading.Thread(target=self._load, name="crewmeter-budgets-load", daemon=True).start()

    @property
    def active(self) -> bool:
        """False once it is known that there is no budget to keep to; calls need not ask then."""
        return bool(self._named) or self._guard is not None

    def reserve(
        self, attributes: Mapping[str, object], *, input_chars: int, max_output_tokens: int | None = None
    ) -> Reservation | Refusal | None:
        """See `Guard.reserve`; None where there is nothing to keep to (yet)."""
        if self._named:
            self._loaded.wait(LOAD_SECONDS)
        if self._guard is not None:
            return self._guard.reserve(attributes, input_chars=input_chars, max_output_tokens=max_output_tokens)
        if strict := next((budget for budget in self._named if budget.hard and budget.on_unknown == "block"), None):
            from crewmeter_cost.budgets.pool import Refusal

            return Refusal(strict.label, None, strict.amount_pusd, None, f"the ledger can't be asked what is spent: {self._problem}")
        return None

    def settle(self, reservation: Reservation, attributes: Mapping[str, object] | None, *, duration_ns: int | None = None) -> None:
        """See `Guard.settle`."""
        if self._guard is not None:
            self._guard.settle(reservation, attributes, duration_ns=duration_ns)

    def spend(self, attributes: Mapping[str, object], *, duration_ns: int | None = None) -> None:
        """See `Guard.spend`."""
        if self._guard is not None:
            self._guard.spend(attributes, duration_ns=duration_ns)

    def close(self) -> None:
        """Return every lease."""
        if self._loaded.is_set() and self._guard is not None:
            self._guard.close()

    def _load(self) -> None:
        from crewmeter_cost.budgets.guard import Guard
        from crewmeter_cost.budgets.store import combine, kept
        from crewmeter_cost.ledger.store import Ledger
        from crewmeter_cost.pricing.book import PriceBook

        try:
            book = Ledger.open(self._ledger)
            budgets = combine(self._named, kept(book.engine))
            if budgets:
                self._guard = Guard(budgets, engine=book.engine, book=PriceBook.load())
            else:
                book.close()
        except CrewMeterError as error:
            self._problem = error.message
            if self._named:
                log.warning("crewmeter: budgets can't be kept (%s); calls go on unless a budget says on_unknown = block", error.message)
        finally:
            self._loaded.set()
