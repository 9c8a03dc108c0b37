"""Notices that 50, 80 or 100 % of a budget is spent, once per period.

They go to the log, to the budget's webhook and into the ledger.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from crewmeter_cost.budgets import webhook
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.money import utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Engine

    from crewmeter_cost.budgets.definition import Budget

__all__ = ["PERCENTS", "announce", "crossed", "plain_usd"]

log = logging.getLogger("crewmeter")

PERCENTS = (50, 80, 100)

_notice = core_tables.budget_notice


def crossed(spent_pusd: int, limit_pusd: int) -> tuple[int, ...]:
    """Return the thresholds reached, in percent.

    Integer arithmetic, so that 80 % is reached at exactly 80 %.
    """
    return tuple(percent for percent in PERCENTS if spent_pusd * 100 >= limit_pusd * percent)


def announce(
    engine: Engine,
    budget: Budget,
    *,
    account: int,
    spent_pusd: int,
    resets_at: datetime | None,
    now_ns: int,
    send: Callable[[str, Mapping[str, object]], object] = webhook.post,
) -> tuple[int, ...]:
    """Announce each newly reached threshold and return them.

    The ledger's unique key makes it once, whichever process comes first. A jump over several
    thresholds is announced as the highest, and the lower ones are recorded as announced.
    """
    reached = crossed(spent_pusd, budget.amount_pusd)
    new = [
        percent
        for percent in reached
        if _record(
            engine,
            account,
            percent,
            now_ns,
        )
    ]
    if not new:
        return ()
    document = {
        "kind": "budget",
        "budget": budget.label,
        "percent": max(new),
        "scope": budget.scope_text,
        "period": budget.period,
        "spent_usd": plain_usd(spent_pusd),
        "limit_usd": plain_usd(budget.amount_pusd),
        "hard": budget.hard,
        "resets_at": None if resets_at is None else utc_text(resets_at),
        "at": utc_text(datetime.fromtimestamp(now_ns / 1e9, UTC)),
    }
    log.warning(
        "budget %s: %d %% spent (%s of %s USD)",
        budget.label,
        max(new),
        document["spent_usd"],
        document["limit_usd"],
    )
    if budget.webhook:
        threading.Thread(
            target=send, args=(budget.webhook, document), name="crewmeter-notice", daemon=True
        ).start()
    return tuple(new)


def _record(engine: Engine, account: int, percent: int, now_ns: int) -> bool:
    """Record a notice in the ledger and return whether it is the first of its kind."""
    row = {"account": account, "percent": percent, "sent_ns": now_ns}
    try:
        with engine.begin() as connection:
            connection.execute(insert(_notice).values(row))
    except IntegrityError:
        return False
    return True


def plain_usd(pusd: int) -> str:
    """Return integer pico-USD as an exact decimal string in USD."""
    if pusd < 0:
        return f"-{plain_usd(-pusd)}"
    whole, rest = divmod(pusd, 10**12)
    return f"{whole}.{rest:012d}".rstrip("0").rstrip(".")
