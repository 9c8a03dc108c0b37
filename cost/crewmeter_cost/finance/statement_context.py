"""What stands beside a statement's sums.

Its period in words, last month, the budgets and the forecast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from crewmeter_cost.analysis.budget_forecast import outlook
from crewmeter_cost.budgets.repository import in_force, status
from crewmeter_cost.finance.statement import build
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.session import session_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine

    from crewmeter_cost.analysis.forecast import Projection
    from crewmeter_cost.finance.statement import Statement

__all__ = ["StatementContext", "read_context"]

_CALL, _LABEL = core_tables.call, core_tables.label
_REJECTED = 2
_NS = 10**9


@dataclass(frozen=True, slots=True)
class StatementContext:
    """What a reader compares a statement with. Money in integer pico-USD."""

    drawn_up: datetime
    organisation: str | None = None
    previous: Mapping[str, int] = field(default_factory=dict)
    """Payer → spend in the same days of the month before; empty for any other window."""
    budgets: Mapping[str, int] = field(default_factory=dict)
    """Payer → its monthly budget."""
    forecast: Projection | None = None
    """Month-end spend of everybody, where the month is not over."""
    unpriced_tokens: int = 0
    """Tokens of calls without a price, which no sum includes."""

    def change(self, name: str, total_pusd: int) -> float | None:
        """Return a payer's change against last month in per cent, None without one."""
        before = self.previous.get(name)
        if not before:
            return None
        return 100 * (total_pusd - before) / before


def read_context(
    engine: Engine, statement: Statement, *, now: datetime, organisation: str | None = None
) -> StatementContext:
    """Return what stands beside a statement, as of `now`."""
    month = statement.month
    previous: dict[str, int] = {}
    forecast = None
    if month is not None:
        first = datetime(
            month.year,
            month.month,
            1,
            tzinfo=UTC,
        )
        before = (first - timedelta(days=1)).replace(day=1)
        # A month to date is compared with the same days of the month before.
        length = min(statement.until, now) - first
        end = (
            min(
                before + length,
                first,
            )
            if now < statement.until
            else first
        )
        if end > before:
            earlier = build(
                engine,
                since=before,
                until=end,
                by=statement.by,
            )
            previous = {account.name: account.total_pusd for account in earlier.everyone}
        if first <= now < statement.until:
            with session_on(engine) as session:
                forecast = outlook(session, now=now)
    return StatementContext(
        drawn_up=now,
        organisation=organisation,
        previous=previous,
        budgets=_monthly_budgets(engine, statement.by, now),
        forecast=forecast,
        unpriced_tokens=_unpriced_tokens(engine, statement),
    )


def _monthly_budgets(engine: Engine, by: str, now: datetime) -> dict[str, int]:
    """Return each payer's smallest budget a month."""
    found: dict[str, int] = {}
    for each in status(engine, in_force(engine), now=now):
        budget = each.budget
        if budget.scope == by and budget.period == "month" and budget.value is not None:
            smallest = found.get(budget.value, budget.amount_pusd)
            found[budget.value] = min(smallest, budget.amount_pusd)
    return found


def _unpriced_tokens(engine: Engine, statement: Statement) -> int:
    """Return the tokens of the calls of the window that have no price."""
    c = _CALL.c
    seconds = c.started_ns // _NS
    start = int(statement.since.timestamp())
    end = int(statement.until.timestamp())
    tokens = func.coalesce(c.input_tokens, 0) + func.coalesce(c.output_tokens, 0)
    query = select(func.coalesce(func.sum(tokens), 0)).where(
        c.cost_pusd.is_(None), c.state < _REJECTED, seconds >= start, seconds < end
    )
    with engine.connect() as connection:
        return int(connection.scalar(query) or 0)
