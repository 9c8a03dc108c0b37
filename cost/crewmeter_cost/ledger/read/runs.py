"""The runs in the ledger: listed newest first, found by the start of their id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.read.query import rounded
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.money import exact_usd, moment, nanoseconds
from crewmeter_cost.pricing.charge import PICO

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Select

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


@dataclass(frozen=True, slots=True)
class Run:
    """One run and its totals. `cost_pusd` is None where a call's price is unknown and none is known; of refused calls only, it is 0."""

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
    priced_calls: int

    def document(self) -> dict[str, object]:
        """The run as the contract's JSON has it."""
        return {
            "run_id": self.run_id,
            "kind": self.kind,
            "name": self.name,
            "status": self.status,
            "started_at": moment(self.started_ns),
            "duration_seconds": None if self.duration_ns is None else self.duration_ns / 1e9,
            "calls": self.calls,
            "tool_calls": self.tool_calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": None if self.cost_pusd is None else exact_usd(self.cost_pusd),
            "unpriced_calls": self.unpriced_calls,
        }


def run_query() -> Select[Any]:
    """Return the query of runs with the texts of their names and errors."""
    names, errors = _LABEL.alias("names"), _LABEL.alias("errors")
    joined = _RUN.outerjoin(names, names.c.id == _RUN.c.name).outerjoin(
        errors, errors.c.id == _RUN.c.error_type
    )
    return select(
        _RUN, names.c.value.label("name_text"), errors.c.value.label("error_text")
    ).select_from(joined)


def read_run(row: Mapping[Any, Any]) -> Run:
    """Return the run in one row of `run_query`."""
    unknown = row["unpriced_calls"] and not row["priced_calls"]
    counts = (
        "calls",
        "failed_calls",
        "unpriced_calls",
        "tool_calls",
        "failed_tool_calls",
        "input_tokens",
        "output_tokens",
        "priced_calls",
    )
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
        **{name: row[name] for name in counts},
        cost_pusd=None if unknown else row["cost_whole_usd"] * PICO + row["cost_pusd"],
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
    """Runs that started in [since, until), newest first, at most `limit` of them; with `over`, only those that are not running."""
    c, query = _RUN.c, run_query()
    start, end = nanoseconds(since), nanoseconds(until)
    if start is not None:
        query = query.where(rounded(c.started_ns, _NS) >= start // _NS, c.started_ns >= start)
    if end is not None:
        query = query.where(rounded(c.started_ns, _NS) <= end // _NS, c.started_ns < end)
    if status is not None:
        query = query.where(c.status == status)
    if over:
        query = query.where(c.status != "running")
    query = query.order_by(
        rounded(c.started_ns, _NS).desc(), c.started_ns.desc(), c.id.desc()
    ).limit(limit)
    with ledger.reading() as connection:
        return [read_run(row) for row in connection.execute(query).mappings()]


def find_run(
    ledger: Ledger, wanted: str, *, since: datetime | None = None, until: datetime | None = None
) -> Run:
    """The run whose id is or starts with `wanted`; ``last`` is the newest that started in [since, until).

    Raises `CrewMeterError` where there is none, or several.
    """
    if wanted == "last":
        newest = runs(ledger, since=since, until=until, limit=1)
        if not newest and (since is not None or until is not None):
            raise CrewMeterError(
                "no run started in that time", hint="`crewmeter runs` lists them all"
            )
        if not newest:
            raise CrewMeterError(
                "there is no run in this ledger yet",
                hint="run `crewmeter demo`, or an app with crewmeter.instrument()",
            )
        return newest[0]
    with ledger.reading() as connection:
        found = (
            connection.execute(run_query().where(_RUN.c.run_id == wanted)).mappings().one_or_none()
        )
        if found is not None:
            return read_run(found)
        query = (
            run_query()
            .where(_RUN.c.run_id.startswith(wanted, autoescape=True))
            .order_by(_RUN.c.run_id)
            .limit(6)
        )
        matches = [read_run(row) for row in connection.execute(query).mappings()]
    if not matches:
        raise CrewMeterError(
            f"no run starts with {wanted!r}",
            hint="`crewmeter runs` lists them; `crewmeter show last` is the newest",
        )
    if len(matches) > 1:
        listed = ", ".join(run.run_id for run in matches[:5]) + (", …" if len(matches) > 5 else "")
        raise CrewMeterError(
            f"several runs start with {wanted!r}: {listed}", hint="type more of it"
        )
    return matches[0]
