"""Budgets stored in the ledger, which hold for every app that writes it.

``crewmeter budget set`` stores them.

A row may have been written by a newer version. Keys this version does not know are ignored, and a
budget it cannot enforce is skipped with a warning that names it, so that one row never stops the
others.
"""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from crewmeter_cost.budgets.definition import Budget, parse_budget
from crewmeter_cost.budgets.period import bounds
from crewmeter_cost.budgets.period_spend import spent_pusd
from crewmeter_cost.budgets.plan import read_budgets
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.session import session_on
from crewmeter_cost.money import exact_usd, utc_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

__all__ = [
    "MOST_PERIODS",
    "BudgetStatus",
    "budgets_of_environment",
    "combine",
    "definition_document",
    "history",
    "in_force",
    "remove",
    "save",
    "status",
    "status_document",
    "stored_budgets",
    "stored_since",
]

log = logging.getLogger("crewmeter")

_budget = core_tables.budget
_FIELDS = {field.name for field in fields(Budget)}
_skipped: set[str] = set()
"""Names of rows that were warned about, once per process."""

MOST_PERIODS = 1_000
"""Periods of the past that one response lists."""


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """What is spent of a budget (pico-USD) in the period that began at `since`.

    Both moments are UTC. None where the period has no such end.
    """

    budget: Budget
    spent_pusd: int
    since: datetime | None
    resets_at: datetime | None

    @property
    def exceeded(self) -> bool:
        """Return whether the amount is spent."""
        return self.spent_pusd >= self.budget.amount_pusd

    @property
    def percent(self) -> float:
        """Return the spent share of the amount, in percent."""
        return 100 * self.spent_pusd / self.budget.amount_pusd


def save(engine: Engine, budget: Budget, *, now_ns: int) -> bool:
    """Store a budget under its label and return whether it replaced one.

    It replaces one of the same name, and one of the same scope, period and severity.
    """
    replaced = {budget.label}
    for other in stored_budgets(engine):
        if _subject(other) == _subject(budget):
            replaced.add(other.label)
    definition = json.dumps(asdict(budget), sort_keys=True)
    with engine.begin() as connection:
        deleted = connection.execute(delete(_budget).where(_budget.c.name.in_(sorted(replaced))))
        row = {"name": budget.label, "definition": definition, "created_ns": now_ns}
        connection.execute(insert(_budget).values(row))
    return bool(deleted.rowcount)


def stored_budgets(engine: Engine) -> tuple[Budget, ...]:
    """Return the budgets of this ledger, oldest first."""
    return tuple(stored_since(engine))


def stored_since(engine: Engine) -> dict[Budget, int]:
    """Return the budgets of this ledger, oldest first, with when each was set.

    Times are unix nanoseconds.
    """
    columns = select(
        _budget.c.name,
        _budget.c.definition,
        _budget.c.created_ns,
    )
    with engine.connect() as connection:
        rows = connection.execute(
            columns.order_by(
                _budget.c.created_ns,
                _budget.c.id,
            )
        ).all()
    found = {}
    for row in rows:
        budget = _budget_of(row.name, row.definition)
        if budget is not None:
            found[budget] = int(row.created_ns)
    return found


def remove(engine: Engine, name: str) -> None:
    """Delete a budget by its name or label.

    Raises `CrewMeterError` naming those there are.
    """
    with engine.begin() as connection:
        deleted = connection.execute(delete(_budget).where(_budget.c.name == name))
    if deleted.rowcount:
        return
    names = ", ".join(repr(budget.label) for budget in stored_budgets(engine)) or "none"
    raise CrewMeterError(
        f"no budget {name!r} in this ledger",
        hint=f"budgets stored here: {names}; "
        "those of a file or $CREWMETER_BUDGETS are changed there",
    )


def budgets_of_environment() -> tuple[Budget, ...]:
    """Return the budgets of ``CREWMETER_BUDGETS``.

    Raises `CrewMeterError` for a malformed one.
    """
    text = os.environ.get("CREWMETER_BUDGETS", "").strip()
    return read_budgets(text) if text else ()


def in_force(engine: Engine) -> tuple[Budget, ...]:
    """Return the ledger's budgets and those of ``CREWMETER_BUDGETS``.

    The environment wins where both name the same scope, period and severity.
    """
    return combine(budgets_of_environment(), stored_budgets(engine))


def combine(nearer: Sequence[Budget], farther: Sequence[Budget]) -> tuple[Budget, ...]:
    """Return both, without those of `farther` that `nearer` replaces.

    A budget replaces another of the same scope, period and severity.
    """
    taken = {_subject(budget) for budget in nearer}
    return (*nearer, *(budget for budget in farther if _subject(budget) not in taken))


def status(
    engine: Engine, budgets: Sequence[Budget], *, now: datetime, as_of: datetime | None = None
) -> list[BudgetStatus]:
    """Return what is spent of each budget at `now`.

    A budget per run is left out, since each run has its own sum. `as_of` is a moment in the past:
    what was spent after it does not count.
    """
    found = []
    for budget in budgets:
        if budget.period == "run":
            continue
        since, resets_at = bounds(
            budget.period,
            (as_of or now).astimezone(UTC),
            budget.zone,
        )
        end = resets_at if as_of is None else as_of
        window = (_unix_seconds(since), _unix_seconds(end))
        with session_on(engine) as session:
            spent = spent_pusd(session, budget, start=window[0], end=window[1])
        found.append(
            BudgetStatus(
                budget,
                spent,
                since,
                resets_at,
            )
        )
    return found


def history(
    engine: Engine, budgets: Sequence[Budget], *, since: datetime, until: datetime
) -> list[BudgetStatus]:
    """Return each budget's status at the end of every period in [since, until).

    Oldest first, the last one as of `until`. Raises `CrewMeterError` for more than `MOST_PERIODS`.
    """
    found: list[BudgetStatus] = []
    for budget in budgets:
        if budget.period == "run":
            continue
        periods: list[BudgetStatus] = []
        for begin, end, resets_at in _periods_backwards(budget, since, until):
            window = (_unix_seconds(begin), _unix_seconds(end))
            with session_on(engine) as session:
                spent = spent_pusd(session, budget, start=window[0], end=window[1])
            periods.append(
                BudgetStatus(
                    budget,
                    spent,
                    begin,
                    resets_at,
                )
            )
            if len(found) + len(periods) > MOST_PERIODS:
                raise CrewMeterError(
                    f"more than {MOST_PERIODS:,} periods of the budgets are in that time",
                    hint="give a later --since",
                )
        found += reversed(periods)
    return found


def definition_document(budget: Budget) -> dict[str, object]:
    """Return a budget's settings."""
    return {
        "budget": budget.label,
        "scope": budget.scope_text,
        "amount_usd": exact_usd(budget.amount_pusd),
        "period": budget.period,
        "hard": budget.hard,
        "on_unknown": budget.on_unknown,
        "timezone": budget.timezone,
        "webhook": budget.webhook,
    }


def status_document(each: BudgetStatus) -> dict[str, object]:
    """Return what is spent of a budget in one period."""
    budget = each.budget
    starts_at = None if each.since is None else utc_text(each.since)
    resets_at = None if each.resets_at is None else utc_text(each.resets_at)
    return {
        "budget": budget.label,
        "scope": budget.scope_text,
        "period": budget.period,
        "spent_usd": exact_usd(each.spent_pusd),
        "amount_usd": exact_usd(budget.amount_pusd),
        "percent": round(each.percent, 2),
        "exceeded": each.exceeded,
        "starts_at": starts_at,
        "resets_at": resets_at,
    }


def _periods_backwards(
    budget: Budget, since: datetime, until: datetime
) -> Iterator[tuple[datetime | None, datetime, datetime | None]]:
    """Yield (begin, end, reset) of the periods in [since, until), newest first."""
    end: datetime | None = until
    while end is not None and end > since:
        begin, resets_at = bounds(
            budget.period,
            end - timedelta(microseconds=1),
            budget.zone,
        )
        yield begin, end, resets_at
        end = begin


def _budget_of(name: str, definition: str) -> Budget | None:
    """Return the budget of a row, or None where this version cannot enforce it."""
    try:
        document = json.loads(definition)
        known = {key: value for key, value in document.items() if key in _FIELDS}
        budget = Budget(**known)
        # Parsing what it says checks period, scope, severity and time zone.
        parse_budget(
            {
                "amount": budget.amount_text,
                "scope": budget.scope_text,
                "hard": budget.hard,
                "on_unknown": budget.on_unknown,
                "timezone": budget.timezone,
                "webhook": budget.webhook,
                "name": budget.name,
            }
        )
    except (ValueError, TypeError, AttributeError, ArithmeticError, CrewMeterError) as error:
        if name not in _skipped:
            _skipped.add(name)
            log.warning(
                "budget %r is not enforced: this version of crewmeter does not understand it (%s); "
                "update crewmeter, or remove it with: crewmeter budget remove",
                name,
                error,
            )
        return None
    return budget


def _subject(budget: Budget) -> tuple[str, str | None, str, bool]:
    return budget.scope, budget.value, budget.period, budget.hard


def _unix_seconds(moment: datetime | None) -> int | None:
    """Return whole seconds, rounded up, so that a call of this very second is counted."""
    if moment is None:
        return None
    return math.ceil(moment.timestamp())
