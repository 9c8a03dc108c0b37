"""One look at a ledger for the live view: what runs, what was spent, what failed a moment ago."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from crewmeter_cost.budgets.definition import Budget
from crewmeter_cost.budgets.period_spend import spent_pusd
from crewmeter_cost.budgets.repository import BudgetStatus, in_force, status
from crewmeter_cost.ledger.read.runs import Run, runs
from crewmeter_cost.money import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["Failure", "Snapshot", "look"]

ALIVE = timedelta(hours=1)
"""A run without an end is shown as running for an hour after it began; then its process is taken to be gone."""
RATE_SECONDS = 60
_EVERYTHING = Budget(amount_pusd=1, period="total")
"""Whose spend is asked for: everyone's."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed call or tool use; `time` in unix seconds."""

    time: int
    what: str
    error_type: str
    where: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the live view shows, as of one moment. Money in integer pico-USD."""

    at: datetime
    since: datetime
    """Where `spent_pusd` and `unpriced_calls` begin: midnight (UTC), unless asked otherwise."""
    running: tuple[Run, ...]
    finished: tuple[Run, ...]
    calls_per_minute: int
    tokens_per_minute: int
    hour_pusd: int
    spent_pusd: int
    unpriced_calls: int
    """Calls in the window that are in no sum, because no price is known."""
    failures: tuple[Failure, ...]
    budgets: Sequence[BudgetStatus]


_RATE = (
    "SELECT count(*), coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)), 0) "
    "FROM calls WHERE time >= :since AND time < :until"
)
_UNPRICED_HOURS = "SELECT coalesce(sum(unpriced_calls), 0) FROM total_hourly WHERE time >= :since AND time < :until"
_UNPRICED_CALLS = (
    "SELECT count(*) FROM calls WHERE unpriced = 1 AND time >= :since AND time < :until"
)
_FAILED_CALLS = (
    "SELECT time, coalesce(request_model, operation), coalesce(error_type, 'error'), coalesce(agent, crew, '') "
    "FROM calls WHERE status = 'error' AND time >= :since AND time < :until ORDER BY time DESC LIMIT :most"
)
_FAILED_TOOLS = (
    "SELECT time, name, coalesce(error_type, 'error'), coalesce(agent, crew, '') "
    "FROM steps WHERE status = 'error' AND kind = 'tool' AND time >= :since AND time < :until ORDER BY time DESC LIMIT :most"
)


def look(
    book: Ledger, *, now: datetime, since: datetime | None = None, past: bool = False, most: int = 8
) -> Snapshot:
    """What the ledger says of the time up to `now`, at most `most` lines of each kind; `past` if there may be later calls.

    Without `since` the spend is today's (UTC), failures are the last day's, and the newest runs are shown however old.
    """
    moment, midnight = (
        int(now.timestamp()) + 1,
        now.replace(hour=0, minute=0, second=0, microsecond=0),
    )
    begin = since or midnight
    running, finished = _runs(book, now, since, most)
    with book.reading() as connection:
        calls, tokens = connection.execute(
            text(_RATE), {"since": moment - RATE_SECONDS, "until": moment}
        ).one()
        first = int((since or now - timedelta(days=1)).timestamp())
        span = {"since": first, "until": moment, "most": most}
        failed = [
            *connection.execute(text(_FAILED_CALLS), span),
            *connection.execute(text(_FAILED_TOOLS), span),
        ]
        start, hour = int(begin.timestamp()), moment // 3600 * 3600
        unpriced = _unpriced(connection, start, moment)
    return Snapshot(
        at=now,
        since=begin,
        running=running,
        finished=finished,
        calls_per_minute=int(calls),
        tokens_per_minute=int(tokens),
        hour_pusd=spent_pusd(book.engine, _EVERYTHING, start=hour, end=moment if past else None),
        spent_pusd=spent_pusd(book.engine, _EVERYTHING, start=start, end=moment if past else None),
        unpriced_calls=unpriced,
        failures=tuple(Failure(*row) for row in sorted(failed, key=lambda row: -row[0])[:most]),
        budgets=status(book.engine, in_force(book.engine), now=now, as_of=now if past else None),
    )


def _unpriced(connection: Connection, start: int, end: int) -> int:
    """Calls without a price in [start, end), unix seconds: whole hours from the roll-ups, the rest from the calls."""
    first, last = -(-start // 3600) * 3600, end // 3600 * 3600
    parts = [
        (_UNPRICED_CALLS, start, min(first, end)),
        (_UNPRICED_HOURS, first, last),
        (_UNPRICED_CALLS, max(last, first), end),
    ]
    spans = [
        (statement, {"since": low, "until": high}) for statement, low, high in parts if low < high
    ]
    return sum(int(connection.scalar(text(statement), span) or 0) for statement, span in spans)


def _runs(
    book: Ledger, now: datetime, since: datetime | None, most: int
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The runs that were on at `now`, and those over by then; each newest first."""
    at_ns, until = nanoseconds(now) or 0, now + timedelta(microseconds=1)
    recent = runs(book, since=max(now - ALIVE, since or now - ALIVE), until=until, limit=None)
    running = [
        run
        for run in recent
        if run.status == "running" or run.started_ns + (run.duration_ns or 0) > at_ns
    ]
    over = runs(book, since=since, until=until, limit=most + len(running), over=True)
    finished = [run for run in over if run.started_ns + (run.duration_ns or 0) <= at_ns]
    return tuple(running[:most]), tuple(finished[:most])
