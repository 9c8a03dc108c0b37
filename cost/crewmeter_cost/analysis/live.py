"""A snapshot of a ledger for the live view.

Active runs, spend, and the latest failures.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from crewmeter_cost.budgets.definition import Budget
from crewmeter_cost.budgets.period_spend import spent_pusd
from crewmeter_cost.budgets.repository import BudgetStatus, in_force, status
from crewmeter_cost.filters import MODEL_CALL_KEYS, Filter
from crewmeter_cost.ledger.read.filter_sql import call_conditions, step_conditions
from crewmeter_cost.ledger.read.query import rounded, started_within
from crewmeter_cost.ledger.read.report import report
from crewmeter_cost.ledger.read.rollup_windows import hour_parts
from crewmeter_cost.ledger.read.run_search import find_runs
from crewmeter_cost.ledger.read.runs import Run, runs
from crewmeter_cost.ledger.schema.rollup_dimensions import HOUR
from crewmeter_cost.ledger.sql import Sql, sql
from crewmeter_cost.ledger.sql import where as sql_where
from crewmeter_cost.money import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from crewmeter_cost.ledger.read.report import ReportRow
    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["Failure", "Snapshot", "look"]

ALIVE = timedelta(hours=1)
"""A run without an end counts as running for an hour. Then its process is taken to be gone."""
RATE_SECONDS = 60
_NS = 10**9
_FAILED_WITHIN = timedelta(days=1)
_RECENT = 500
"""Newest matching runs among which the active ones are looked for."""
_NO_FILTER = Filter(())
_EVERYTHING = Budget(amount_pusd=1, period="total")
"""Whose spend is summed: everyone's."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed call or tool use. `time` is in unix seconds."""

    time: int
    what: str
    error_type: str
    where: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the live view displays, as of one moment. Money in integer pico-USD."""

    at: datetime
    since: datetime
    """Where `spent_pusd` and `unpriced_calls` begin: midnight (UTC) by default."""
    running: tuple[Run, ...]
    finished: tuple[Run, ...]
    calls_per_minute: int
    tokens_per_minute: int
    hour_pusd: int
    spent_pusd: int
    unpriced_calls: int
    """Calls in the window that no sum includes, because no price is known."""
    failures: tuple[Failure, ...]
    budgets: Sequence[BudgetStatus]


_RATE = (
    "SELECT count(*), coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)), 0) "
    "FROM calls WHERE time >= ? AND time < ?"
)
_UNPRICED_HOURS = (
    "SELECT coalesce(sum(unpriced_calls), 0) FROM total_hourly WHERE time >= ? AND time < ?"
)
_UNPRICED_CALLS = "SELECT count(*) FROM calls WHERE unpriced = 1 AND time >= ? AND time < ?"
_FAILED_CALLS = """
    SELECT call.started_ns, coalesce(model.value, operation.value),
      coalesce(error.value, 'error'), coalesce(agent.value, crew.value, '') FROM call
    LEFT JOIN label AS model ON model.id = call.request_model
    LEFT JOIN label AS operation ON operation.id = call.operation
    LEFT JOIN label AS error ON error.id = call.error_type
    LEFT JOIN label AS agent ON agent.id = call.agent
    LEFT JOIN label AS crew ON crew.id = call.crew
"""
_FAILED_TOOLS = """
    SELECT step.started_ns, name.value,
      coalesce(error.value, 'error'), coalesce(agent.value, crew.value, '') FROM step
    LEFT JOIN run ON run.id = step.run
    LEFT JOIN label AS name ON name.id = step.name
    LEFT JOIN label AS error ON error.id = step.error_type
    LEFT JOIN label AS agent ON agent.id = step.agent
    LEFT JOIN label AS crew ON crew.id = step.crew
"""
_CALL_FAILED = Sql("call.state <> 0")
_TOOL_FAILED = Sql(
    "step.state = 1 AND step.kind IN (SELECT id FROM label WHERE kind = 'kind' AND value = 'tool')"
)


def look(
    ledger: Ledger,
    *,
    now: datetime,
    since: datetime | None = None,
    past: bool = False,
    most: int = 8,
    where: Filter | None = None,
) -> Snapshot:
    """Return the ledger's state up to `now`, at most `most` lines of each kind.

    Without `since` the spend is today's (UTC), failures are the last day's, and the newest runs
    are included however old. `past` says that there may be calls later than `now`. `where` leaves
    matching runs and calls; budgets are about everybody's.
    """
    if where is not None and where.terms:
        return _look_where(
            ledger,
            where,
            now=now,
            since=since,
            past=past,
            most=most,
        )
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    begin = since or midnight
    end = int(now.timestamp()) + 1
    running, finished = _runs(
        ledger,
        now,
        since,
        most,
    )
    engine = ledger.engine
    spent_until = end if past else None
    hour = end // HOUR * HOUR
    with ledger.read_session() as session:
        ((calls, tokens),) = session.rows(Sql(_RATE, (end - RATE_SECONDS, end)))
        failures = _failures(session, since or now - _FAILED_WITHIN, end, most)
        unpriced = _unpriced(session, int(begin.timestamp()), end)
        hour_pusd = spent_pusd(session, _EVERYTHING, start=hour, end=spent_until)
        spent = spent_pusd(
            session,
            _EVERYTHING,
            start=int(begin.timestamp()),
            end=spent_until,
        )
    return Snapshot(
        at=now,
        since=begin,
        running=running,
        finished=finished,
        calls_per_minute=int(calls),
        tokens_per_minute=int(tokens),
        hour_pusd=hour_pusd,
        spent_pusd=spent,
        unpriced_calls=unpriced,
        failures=failures,
        budgets=status(
            engine,
            in_force(engine),
            now=now,
            as_of=now if past else None,
        ),
    )


def _look_where(
    ledger: Ledger, where: Filter, *, now: datetime, since: datetime | None, past: bool, most: int
) -> Snapshot:
    """Return the state of matching runs and calls, summed from the calls themselves."""
    until = now + timedelta(microseconds=1)
    begin = since or now.replace(
        hour=0,
        minute=0,
        second=0,
        microsecond=0,
    )
    hour = now.replace(minute=0, second=0, microsecond=0)
    minute = now - timedelta(seconds=RATE_SECONDS)

    def total(start: datetime) -> ReportRow:
        made = report(
            ledger,
            by=(),
            since=start,
            until=until,
            where=where,
        )
        return made.total

    def newest(start: datetime | None, limit: int) -> tuple[Run, ...]:
        page = find_runs(
            ledger,
            where=where,
            since=start,
            until=until,
            limit=limit,
        )
        return page.runs

    failed_since = since or now - _FAILED_WITHIN
    recent = newest(failed_since, _RECENT)
    now_ns = nanoseconds(now) or 0
    alive_ns = nanoseconds(now - ALIVE) or 0
    running = [run for run in recent if _is_active(run, now_ns) and run.started_ns >= alive_ns]
    finished = [run for run in newest(since, 2 * most) if not _is_active(run, now_ns)]
    with ledger.read_session() as session:
        failures = _failures(
            session,
            failed_since,
            int(now.timestamp()) + 1,
            most,
            where,
        )
    engine = ledger.engine
    spent = total(begin)
    of_hour = total(hour)
    of_minute = total(minute)
    return Snapshot(
        at=now,
        since=begin,
        running=tuple(running[:most]),
        finished=tuple(finished[:most]),
        calls_per_minute=of_minute.sums["calls"],
        tokens_per_minute=of_minute.sums["input_tokens"] + of_minute.sums["output_tokens"],
        hour_pusd=of_hour.cost_pusd or 0,
        spent_pusd=spent.cost_pusd or 0,
        unpriced_calls=spent.sums["unpriced_calls"],
        failures=failures,
        budgets=status(
            engine,
            in_force(engine),
            now=now,
            as_of=now if past else None,
        ),
    )


def _is_active(run: Run, now_ns: int) -> bool:
    """Return whether a run had not ended at that moment."""
    return run.status == "running" or _end_ns(run) > now_ns


def _failures(
    session: Session, since: datetime, end: int, most: int, wanted: Filter = _NO_FILTER
) -> tuple[Failure, ...]:
    """Return the newest failed calls and tool uses that match a filter."""
    first = int(since.timestamp()) * _NS
    failed = [
        _CALL_FAILED,
        *started_within("call", first, end * _NS),
        *call_conditions(session, wanted),
    ]
    found = _newest(session, _FAILED_CALLS, "call", failed, most)
    # Tool uses have no model, provider, finish reason or cost status.
    if not any(term.key in MODEL_CALL_KEYS for term in wanted.terms):
        failed = [
            _TOOL_FAILED,
            *started_within("step", first, end * _NS),
            *step_conditions(session, wanted),
        ]
        found += _newest(session, _FAILED_TOOLS, "step", failed, most)
    found.sort(key=lambda failure: -failure.time)
    return tuple(found[:most])


def _newest(
    session: Session, select: str, table: str, conditions: Sequence[Sql], most: int
) -> list[Failure]:
    """Return the newest rows of a table that meet the conditions."""
    second = rounded(f"{table}.started_ns", _NS)
    newest = Sql(f"ORDER BY {second} DESC LIMIT ?", (most,))
    rows = session.rows(sql(select, sql_where(conditions), newest))
    return [Failure(started_ns // _NS, *names) for started_ns, *names in rows]


def _unpriced(session: Session, start: int, end: int) -> int:
    """Return the calls without a price in [start, end), unix seconds."""
    (first, last), edges = hour_parts(start, end)
    total = int(session.value(Sql(_UNPRICED_HOURS, (first, last))))
    return total + sum(int(session.value(Sql(_UNPRICED_CALLS, edge))) for edge in edges)


def _runs(
    ledger: Ledger, now: datetime, since: datetime | None, most: int
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Return the runs active at `now`, and those over by then, each newest first."""
    now_ns = nanoseconds(now) or 0
    until = now + timedelta(microseconds=1)
    alive_since = max(
        now - ALIVE,
        since or now - ALIVE,
    )
    recent = runs(ledger, since=alive_since, until=until, limit=None)
    running = [run for run in recent if _is_active(run, now_ns)]
    over = runs(
        ledger,
        since=since,
        until=until,
        limit=most + len(running),
        over=True,
    )
    finished = [run for run in over if _end_ns(run) <= now_ns]
    return tuple(running[:most]), tuple(finished[:most])


def _end_ns(run: Run) -> int:
    return run.started_ns + (run.duration_ns or 0)
