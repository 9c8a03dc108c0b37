"""The runs in the ledger: listed newest first, found by the start of their id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.read.query import rounded, started_within
from crewmeter_cost.ledger.sql import (
    Sql,
    one_of,
    one_of_ids,
    placeholders,
    sql,
    starts_with,
    where,
)
from crewmeter_cost.money import PICO, exact_usd, moment, nanoseconds
from crewmeter_cost.pricing.charge_result import EXACT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.store import Ledger

__all__ = [
    "NEWEST_FIRST",
    "RUN_COLUMNS",
    "Run",
    "find_run",
    "inexact_runs",
    "read_runs",
    "runs",
]

RUN_COLUMNS = (
    "run_id",
    "kind",
    "name",
    "status",
    "started_at",
    "duration_seconds",
    "calls",
    "tool_calls",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "unpriced_calls",
)
"""Keys of a run in JSON and CSV, as in the contract."""

_NS = 10**9
_SECOND = rounded("run.started_ns", _NS)
NEWEST_FIRST = f"{_SECOND} DESC, run.started_ns DESC, run.id DESC"
"""An order that the index on whole seconds serves."""
_COUNTS = (
    "calls",
    "failed_calls",
    "unpriced_calls",
    "tool_calls",
    "failed_tool_calls",
    "input_tokens",
    "output_tokens",
    "priced_calls",
)
_RUNS = """
    SELECT run.*, names.value AS name_text, errors.value AS error_text,
      teams.value AS team_text, users.value AS user_text, sessions.value AS session_text FROM run
    LEFT JOIN label AS names ON names.id = run.name
    LEFT JOIN label AS errors ON errors.id = run.error_type
    LEFT JOIN label AS teams ON teams.id = run.team
    LEFT JOIN label AS users ON users.id = run."user"
    LEFT JOIN label AS sessions ON sessions.id = run.session
"""
_INEXACT = """
    SELECT DISTINCT call.run FROM call JOIN label ON label.id = call.cost_status
"""
_RUNS_AT_ONCE = 500
_NO_LIMIT = 2**62
"""SQLite takes no OFFSET without a LIMIT."""
_LISTED = 5
"""How many runs an error names whose ids begin alike."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run and its totals."""

    number: int
    run_id: str
    trace_id: str
    kind: str | None
    name: str | None
    status: str
    error_type: str | None
    started_ns: int
    duration_ns: int | None
    calls: int
    failed_calls: int
    unpriced_calls: int
    tool_calls: int
    failed_tool_calls: int
    input_tokens: int
    output_tokens: int
    cost_pusd: int | None
    """None where a call's price is unknown and none is known. 0 for refused calls only."""
    priced_calls: int
    team: str | None = None
    user: str | None = None
    session: str | None = None

    @property
    def cost_usd(self) -> str | None:
        """The cost as an exact decimal string."""
        if self.cost_pusd is None:
            return None
        return exact_usd(self.cost_pusd)

    @property
    def duration_seconds(self) -> float | None:
        """None while it is running."""
        if self.duration_ns is None:
            return None
        return self.duration_ns / _NS

    @property
    def started_at(self) -> str:
        """The start as RFC 3339 in UTC."""
        return moment(self.started_ns)

    def document(self) -> dict[str, object]:
        """Return the run as the contract's JSON has it."""
        return {name: getattr(self, name) for name in RUN_COLUMNS}


def read_runs(
    session: Session,
    conditions: Sequence[Sql],
    *,
    order: str = NEWEST_FIRST,
    limit: int | None = None,
    offset: int = 0,
) -> list[Run]:
    """Return the runs that meet some conditions, with their names.

    Args:
        session: Where to read.
        conditions: What must hold of each run.
        order: The ORDER BY clause.
        limit: The most runs to return, None for all.
        offset: How many runs to skip.
    """
    most = _NO_LIMIT if limit is None else limit
    sorting = f"ORDER BY {order}"
    chosen = sql(
        "SELECT run.id FROM run",
        where(conditions),
        sorting,
        Sql("LIMIT ? OFFSET ?", (most, offset)),
    )
    # Names are joined to the runs of the page only, not to all that were sorted for it.
    query = sql(
        _RUNS,
        where([one_of("run.id", chosen)]),
        sorting,
    )
    return [_read_run(row) for row in session.mappings(query)]


def _read_run(row: Mapping[str, Any]) -> Run:
    unknown = row["unpriced_calls"] and not row["priced_calls"]
    cost = row["cost_whole_usd"] * PICO + row["cost_pusd"]
    return Run(
        number=row["id"],
        run_id=row["run_id"],
        trace_id=bytes(row["trace_id"]).hex(),
        kind=row["kind"],
        name=row["name_text"],
        status=row["status"],
        error_type=row["error_text"],
        started_ns=row["started_ns"],
        duration_ns=row["duration_ns"],
        **{name: row[name] for name in _COUNTS},
        cost_pusd=None if unknown else cost,
        team=row["team_text"],
        user=row["user_text"],
        session=row["session_text"],
    )


def runs(
    ledger: Ledger,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = 50,
    status: str | None = None,
    over: bool = False,
) -> list[Run]:
    """Return runs that started in [since, until), newest first.

    Args:
        ledger: The ledger to read.
        since: Begin of the window, None for the first run.
        until: End of the window, None for the last run.
        limit: The most runs to return, None for all.
        status: Only runs with this status.
        over: Only runs that are not running.

    Returns:
        The runs with their totals.

    Raises:
        CrewMeterError: The ledger cannot be read.
    """
    conditions = started_within("run", nanoseconds(since), nanoseconds(until))
    if status is not None:
        conditions.append(Sql("run.status = ?", (status,)))
    if over:
        conditions.append(Sql("run.status <> 'running'"))
    with ledger.read_session() as session:
        return read_runs(session, conditions, limit=limit)


def inexact_runs(ledger: Ledger, found: Sequence[Run]) -> frozenset[str]:
    """Return the ids of those runs whose cost has bounds or estimates in it."""
    numbers = [run.number for run in found if run.priced_calls]
    priced = Sql("call.cost_pusd IS NOT NULL")
    estimated = Sql(
        f"label.value NOT IN ({placeholders(EXACT)})",
        tuple(sorted(EXACT)),
    )
    inexact: set[int] = set()
    with ledger.read_session() as session:
        for first in range(0, len(numbers), _RUNS_AT_ONCE):
            last = first + _RUNS_AT_ONCE
            some = one_of_ids("call.run", numbers[first:last])
            query = sql(
                _INEXACT,
                where([some, priced, estimated]),
            )
            for (number,) in session.rows(query):
                inexact.add(number)
    return frozenset(run.run_id for run in found if run.number in inexact)


def find_run(
    ledger: Ledger, wanted: str, *, since: datetime | None = None, until: datetime | None = None
) -> Run:
    """Return the run whose id is or starts with `wanted`.

    `last` is the newest that started in [since, until). Raises `CrewMeterError` where there is
    none, or several.
    """
    if wanted == "last":
        return _newest(ledger, since, until)
    with ledger.read_session() as session:
        matches = _matching(session, wanted)
    if not matches:
        raise CrewMeterError(
            f"no run starts with {wanted!r}",
            hint="`crewmeter runs` lists them; `crewmeter show last` is the newest",
        )
    if len(matches) > 1:
        listed = ", ".join(run.run_id for run in matches[:_LISTED])
        more = ", …" if len(matches) > _LISTED else ""
        raise CrewMeterError(
            f"several runs start with {wanted!r}: {listed}{more}", hint="type more of it"
        )
    return matches[0]


def _newest(ledger: Ledger, since: datetime | None, until: datetime | None) -> Run:
    newest = runs(ledger, since=since, until=until, limit=1)
    if newest:
        return newest[0]
    if since is not None or until is not None:
        raise CrewMeterError("no run started in that time", hint="`crewmeter runs` lists them all")
    raise CrewMeterError(
        "there is no run in this ledger yet",
        hint="run `crewmeter demo`, or an app with crewmeter.instrument()",
    )


def _matching(session: Session, wanted: str) -> list[Run]:
    """Return the run with this id, else some of those whose ids start with it."""
    exact = read_runs(session, [Sql("run.run_id = ?", (wanted,))])
    if exact:
        return exact
    starts = starts_with("run.run_id", wanted)
    return read_runs(session, [starts], order="run.run_id", limit=_LISTED + 1)
