"""Budgets kept in the ledger (``crewmeter budget set``): they hold for every app that writes it."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from crewmeter_cost.budgets.definition import Budget, read_budgets
from crewmeter_cost.budgets.period import bounds
from crewmeter_cost.budgets.period_spend import spent_pusd
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.schema.tables import BudgetRow, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

__all__ = [
    "MOST_PERIODS",
    "BudgetStatus",
    "combine",
    "history",
    "in_force",
    "named",
    "remove",
    "save",
    "status",
    "stored_budgets",
    "stored_since",
]

_budget = table_of(BudgetRow)

MOST_PERIODS = 1_000
"""Periods of the past that one answer lists."""


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """Where a budget stands: integer pico-USD spent in the period that began at `since` and ends at `resets_at` (UTC)."""

    budget: Budget
    spent_pusd: int
    since: datetime | None
    resets_at: datetime | None

    @property
    def exceeded(self) -> bool:
        """Whether the amount is spent."""
        return self.spent_pusd >= self.budget.amount_pusd

    @property
    def percent(self) -> float:
        """Spent share of the amount, in percent."""
        return 100 * self.spent_pusd / self.budget.amount_pusd


def save(engine: Engine, budget: Budget, *, now_ns: int) -> bool:
    """Keep a budget under its label; True where it replaced one of the same name, or of the same scope, period and severity."""
    same_scope = [
        other.label for other in stored_budgets(engine) if _about(other) == _about(budget)
    ]
    with engine.begin() as connection:
        replaced = connection.execute(
            delete(_budget).where(_budget.c.name.in_([budget.label, *same_scope]))
        ).rowcount
        definition = json.dumps(asdict(budget), sort_keys=True)
        connection.execute(
            insert(_budget).values(name=budget.label, definition=definition, created_ns=now_ns)
        )
    return bool(replaced)


def stored_budgets(engine: Engine) -> tuple[Budget, ...]:
    """The budgets of this ledger, oldest first."""
    return tuple(stored_since(engine))


def stored_since(engine: Engine) -> dict[Budget, int]:
    """The budgets of this ledger, oldest first, and when each was set (unix nanoseconds)."""
    with engine.connect() as connection:
        rows = connection.execute(
            select(_budget.c.definition, _budget.c.created_ns).order_by(
                _budget.c.created_ns, _budget.c.id
            )
        ).all()
    return {Budget(**json.loads(row.definition)): int(row.created_ns) for row in rows}


def remove(engine: Engine, name: str) -> None:
    """Forget a budget by its name or label. Raises `CrewMeterError` naming those there are."""
    with engine.begin() as connection:
        gone = connection.execute(delete(_budget).where(_budget.c.name == name)).rowcount
    if not gone:
        names = ", ".join(repr(budget.label) for budget in stored_budgets(engine)) or "none"
        raise CrewMeterError(
            f"no budget {name!r} in this ledger",
            hint=f"budgets kept here: {names}; those of a file or $CREWMETER_BUDGETS are changed there",
        )


def named() -> tuple[Budget, ...]:
    """The budgets of ``CREWMETER_BUDGETS``. Raises `CrewMeterError` for what can't be read."""
    text = os.environ.get("CREWMETER_BUDGETS", "").strip()
    return read_budgets(text) if text else ()


def in_force(engine: Engine) -> tuple[Budget, ...]:
    """The ledger's budgets and those of ``CREWMETER_BUDGETS``; the environment wins where both name the same scope and period."""
    return combine(named(), stored_budgets(engine))


def combine(nearer: Sequence[Budget], farther: Sequence[Budget]) -> tuple[Budget, ...]:
    """Both, without those of `farther` that `nearer` has for the same scope, period and severity."""
    taken = {_about(budget) for budget in nearer}
    return (*nearer, *(budget for budget in farther if _about(budget) not in taken))


def status(
    engine: Engine, budgets: Sequence[Budget], *, now: datetime, as_of: datetime | None = None
) -> list[BudgetStatus]:
    """Where each budget stands at `now`. A budget per run has no standing of its own and is left out.

    `as_of`: a moment in the past; what was spent after it does not count.
    """
    found = []
    for budget in budgets:
        if budget.period == "run":
            continue
        since, resets_at = bounds(budget.period, (as_of or now).astimezone(UTC), budget.zone)
        spent = spent_pusd(
            engine, budget, start=_unix(since), end=_unix(resets_at if as_of is None else as_of)
        )
        found.append(BudgetStatus(budget, spent, since, resets_at))
    return found


def history(
    engine: Engine, budgets: Sequence[Budget], *, since: datetime, until: datetime
) -> list[BudgetStatus]:
    """Where each budget stood at the end of every period that overlaps [since, until), oldest first; the last one as of `until`.

    Raises `CrewMeterError` for more than `MOST_PERIODS` of them.
    """
    found: list[BudgetStatus] = []
    for budget in budgets:
        periods: list[BudgetStatus] = []
        end: datetime | None = until
        while end is not None and end > since and budget.period != "run":
            begin, resets_at = bounds(budget.period, end - timedelta(microseconds=1), budget.zone)
            periods.append(
                BudgetStatus(
                    budget,
                    spent_pusd(engine, budget, start=_unix(begin), end=_unix(end)),
                    begin,
                    resets_at,
                )
            )
            end = begin
            if len(found) + len(periods) > MOST_PERIODS:
                raise CrewMeterError(
                    f"more than {MOST_PERIODS:,} periods of the budgets are in that time",
                    hint="give a later --since",
                )
        found += reversed(periods)
    return found


def _about(budget: Budget) -> tuple[str, str | None, str, bool]:
    return budget.scope, budget.value, budget.period, budget.hard


def _unix(moment: datetime | None) -> int | None:
    """Whole seconds; a part of one counts as begun, so that a call of this very second is in."""
    return None if moment is None else math.ceil(moment.timestamp())
