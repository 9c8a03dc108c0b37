"""The runs in the ledger: listed newest first, found by the start of their id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.read.query import rounded
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.money import PICO, exact_usd, moment, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["RUN_COLUMNS", "Run", "find_run", "read_run", "run_query", "runs"]

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

_RUN, _LABEL = core_tables.run, core_tables.label
_NS = 10**9
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


def run_query() -> Select[Any]:
    """Return the query of runs with the texts of their names and errors."""
    names = _LABEL.alias("names")
    errors = _LABEL.alias("errors")
    named = _RUN.outerjoin(
        names,
        names.c.id == _RUN.c.name,
    )
    joined = named.outerjoin(
        errors,
        errors.c.id == _RUN.c.error_type,
    )
    texts = names.c.value.label("name_text"), errors.c.value.label("error_text")
    return select(_RUN, *texts).select_from(joined)


def read_run(row: Mapping[Any, Any]) -> Run:
    """Return the run in one row of `run_query`."""
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
    c = _RUN.c
    query = run_query()
    seconds = rounded(c.started_ns, _NS)
    start = nanoseconds(since)
    end = nanoseconds(until)
    if start is not None:
        query = query.where(
            seconds >= start // _NS,
            c.started_ns >= start,
        )
    if end is not None:
        query = query.where(
            seconds <= end // _NS,
            c.started_ns < end,
        )
    if status is not None:
        query = query.where(c.status == status)
    if over:
        query = query.where(c.status != "running")
    query = query.order_by(
        seconds.desc(),
        c.started_ns.desc(),
        c.id.desc(),
    ).limit(limit)
    with ledger.reading() as connection:
        return [read_run(row) for row in connection.execute(query).mappings()]


def find_run(
    ledger: Ledger, wanted: str, *, since: datetime | None = None, until: datetime | None = None
) -> Run:
    """Return the run whose id is or starts with `wanted`.

    `last` is the newest that started in [since, until). Raises `CrewMeterError` where there is
    none, or several.
    """
    if wanted == "last":
        return _newest(ledger, since, until)
    with ledger.reading() as connection:
        matches = _matching(connection, wanted)
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


def _matching(connection: Connection, wanted: str) -> list[Run]:
    """Return the run with this id, else some of those whose ids start with it."""
    exact = connection.execute(run_query().where(_RUN.c.run_id == wanted)).mappings().one_or_none()
    if exact is not None:
        return [read_run(exact)]
    starts = _RUN.c.run_id.startswith(wanted, autoescape=True)
    query = run_query().where(starts).order_by(_RUN.c.run_id).limit(_LISTED + 1)
    return [read_run(row) for row in connection.execute(query).mappings()]
