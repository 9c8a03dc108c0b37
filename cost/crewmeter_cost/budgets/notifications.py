"""Notices that 50, 80 or 100 % of a budget is spent, once per period.

They go to the log, to the budget's webhook and into the ledger.

A notice is delivered at least once: it is claimed in the ledger first, with the negative of the
time, and the time itself is written when the webhook has taken it. A claim that stays negative is
of a process that died, or of a webhook that failed, and anybody may claim it again.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from crewmeter_cost.budgets import webhook
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.money import utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Engine

    from crewmeter_cost.budgets.definition import Budget

__all__ = ["PERCENTS", "announce", "crossed", "plain_usd", "undelivered"]

log = logging.getLogger("crewmeter")

PERCENTS = (50, 80, 100)
RETRY_NS = 120 * 10**9
"""When an undelivered notice may be claimed again. One delivery takes at most 35 seconds."""

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
    send: Callable[[str, Mapping[str, object]], bool] = webhook.post,
) -> tuple[int, ...]:
    """Announce each newly reached threshold and return them.

    The ledger's unique key makes one process do it, whichever comes first, and another one where
    that did not deliver it. A jump over several thresholds is announced as the highest, and the
    lower ones are recorded as announced. `send` returns whether the webhook took it.
    """
    reached = crossed(spent_pusd, budget.amount_pusd)
    claims: list[_Claim] = []
    for percent in reached:
        claim = _claim(engine, account, percent, now_ns)
        if claim is not None:
            claims.append(claim)
    if not claims:
        return ()
    new = [claim.percent for claim in claims]
    highest = max(new)
    document = _document(
        budget,
        highest,
        spent_pusd=spent_pusd,
        resets_at=resets_at,
        now_ns=now_ns,
    )
    if any(claim.is_first for claim in claims):
        log.warning(
            "budget %s: %d %% spent (%s of %s USD)",
            budget.label,
            highest,
            document["spent_usd"],
            document["limit_usd"],
        )
    url = budget.webhook
    if not url:
        _delivered(engine, account, new, now_ns)
        return tuple(new)

    def deliver() -> None:
        if send(url, document):
            _delivered(engine, account, new, now_ns)

    threading.Thread(
        target=deliver,
        name="crewmeter-notice",
        daemon=True,
    ).start()
    return tuple(new)


def _document(
    budget: Budget, percent: int, *, spent_pusd: int, resets_at: datetime | None, now_ns: int
) -> dict[str, object]:
    """Return what the webhook gets."""
    resets = None if resets_at is None else utc_text(resets_at)
    moment = datetime.fromtimestamp(now_ns / 1e9, UTC)
    key = f"{budget.label}/{budget.scope_text}/{budget.period}/{resets}/{percent}"
    digest = hashlib.sha256(key.encode())
    return {
        "kind": "budget",
        "id": digest.hexdigest()[:32],
        "budget": budget.label,
        "percent": percent,
        "scope": budget.scope_text,
        "period": budget.period,
        "spent_usd": plain_usd(spent_pusd),
        "limit_usd": plain_usd(budget.amount_pusd),
        "hard": budget.hard,
        "resets_at": resets,
        "at": utc_text(moment),
    }


@dataclass(frozen=True, slots=True)
class _Claim:
    """A notice that this process is to deliver."""

    percent: int
    is_first: bool
    """False where somebody claimed it before and did not deliver it."""


def _claim(engine: Engine, account: int, percent: int, now_ns: int) -> _Claim | None:
    """Claim a notice, unless it is delivered or another process is about to."""
    found = _sent_ns(engine, account, percent)
    if found is None:
        if _insert(engine, account, percent, sent_ns=-now_ns):
            return _Claim(percent, is_first=True)
        return None
    if found >= 0:
        return None
    # The distance, since a clock that was set back must not hold a claim for ever.
    age_ns = abs(now_ns + found)
    if age_ns >= RETRY_NS and _take_over(engine, account, percent, found, sent_ns=-now_ns):
        return _Claim(percent, is_first=False)
    return None


def _sent_ns(engine: Engine, account: int, percent: int) -> int | None:
    """Return the time in a notice's row, None where there is no row."""
    query = select(_notice.c.sent_ns)
    query = query.where(_notice.c.account == account)
    query = query.where(_notice.c.percent == percent)
    with engine.connect() as connection:
        found: int | None = connection.execute(query).scalar()
    return found


def _insert(engine: Engine, account: int, percent: int, *, sent_ns: int) -> bool:
    """Insert a notice's row, and return False where another process was quicker."""
    row = {
        "account": account,
        "percent": percent,
        "sent_ns": sent_ns,
    }
    statement = insert(_notice).values(row)
    try:
        with engine.begin() as connection:
            connection.execute(statement)
    except IntegrityError:
        return False
    return True


def _take_over(engine: Engine, account: int, percent: int, found: int, *, sent_ns: int) -> bool:
    """Replace a claim by ours, and return False where it is no longer there."""
    statement = update(_notice)
    statement = statement.where(_notice.c.account == account)
    statement = statement.where(_notice.c.percent == percent)
    statement = statement.where(_notice.c.sent_ns == found)
    statement = statement.values(sent_ns=sent_ns)
    with engine.begin() as connection:
        taken = connection.execute(statement)
    return taken.rowcount == 1


def _delivered(engine: Engine, account: int, percents: Sequence[int], now_ns: int) -> None:
    """Record that notices need not be sent again, as far as that is possible."""
    statement = update(_notice)
    statement = statement.where(_notice.c.account == account)
    statement = statement.where(_notice.c.percent.in_(percents))
    statement = statement.values(sent_ns=now_ns)
    try:
        with engine.begin() as connection:
            connection.execute(statement)
    except SQLAlchemyError as error:
        reason = type(error).__name__
        log.warning("a budget notice may be sent again: %s", reason)


def undelivered(engine: Engine, account: int) -> bool:
    """Return whether a notice was claimed and is not known to be delivered."""
    query = select(_notice.c.id)
    query = query.where(_notice.c.account == account)
    query = query.where(_notice.c.sent_ns < 0)
    with engine.connect() as connection:
        first = connection.execute(query.limit(1)).first()
    return first is not None


def plain_usd(pusd: int) -> str:
    """Return integer pico-USD as an exact decimal string in USD."""
    if pusd < 0:
        return f"-{plain_usd(-pusd)}"
    whole, rest = divmod(pusd, 10**12)
    exact = f"{whole}.{rest:012d}"
    return exact.rstrip("0").rstrip(".")
