"""Search for runs by filter and text, in any order, with bounded reading."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import Filter, parse_filter
from crewmeter_cost.ledger.read.filter_sql import cost_order, run_conditions, search_condition
from crewmeter_cost.ledger.read.query import rounded, started_within
from crewmeter_cost.ledger.read.runs import NEWEST_FIRST, Run, read_runs
from crewmeter_cost.ledger.sql import Sql, sql, where
from crewmeter_cost.money import moment, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from crewmeter_cost.ledger.session import Session
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["ORDERS", "SCANNED_RUNS", "Order", "RunPage", "find_runs", "read_order"]

Order = Literal["time", "cost", "duration", "calls"]
ORDERS: tuple[Order, ...] = get_args(Order)

SCANNED_RUNS = 200_000
"""Newest runs that a search looks through. Plain listings by time read only what they return."""

_NS = 10**9
_MAX_SEARCH = 200
_WHOLE_USD, _REST_PUSD = cost_order()
_ORDER_BY: Mapping[Order, str] = {
    "time": NEWEST_FIRST,
    "cost": f"{_WHOLE_USD} DESC, {_REST_PUSD} DESC, {NEWEST_FIRST}",
    "duration": f"run.duration_ns DESC NULLS LAST, {NEWEST_FIRST}",
    "calls": f"run.calls DESC NULLS LAST, {NEWEST_FIRST}",
}
"""Order → columns to sort by. Runs that are equal come newest first."""


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs that match.

    `scanned_back_to` is set where older runs were not looked at (unix ns).
    """

    runs: tuple[Run, ...]
    scanned_back_to: int | None = None

    @property
    def note(self) -> str | None:
        """What a reader must know about the search, None where every run was looked at."""
        if self.scanned_back_to is None:
            return None
        return (
            f"searched the newest {SCANNED_RUNS:,} runs, back to "
            f"{moment(self.scanned_back_to)[:16]}Z; narrow the time with --until to search "
            "older ones"
        )


def find_runs(
    ledger: Ledger,
    *,
    where: Filter | str | Iterable[str] | None = None,
    search: str | None = None,
    order: Order = "time",
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = 50,
    offset: int = 0,
) -> RunPage:
    """Return the runs that started in [since, until) and match, best first by `order`.

    `search` is a text in a run's id or in a name of the run, its crew, agents, tasks, tools, models
    or user. Raises `CrewMeterError` for a filter, order or search that cannot be read.
    """
    wanted = parse_filter(where)
    read_order(order)
    if search is not None and len(search) > _MAX_SEARCH:
        raise CrewMeterError(f"the search text has over {_MAX_SEARCH} characters")
    if search is not None and "\0" in search:
        raise CrewMeterError("the search text has a NUL character", hint="no name has one")
    times = started_within("run", nanoseconds(since), nanoseconds(until))
    with ledger.read_session() as session:
        conditions = run_conditions(session, wanted)
        candidates = [*times, *conditions.indexed]
        scanning = [*conditions.scanning]
        if search:
            scanning.append(search_condition(search.strip()))
        scans = bool(scanning) or order != "time"
        oldest = _oldest_scanned(session, candidates) if scans else None
        candidates += started_within("run", oldest, None)
        found = read_runs(
            session,
            [*candidates, *scanning],
            order=_ORDER_BY[order],
            limit=limit,
            offset=offset,
        )
    return RunPage(tuple(found), oldest)


def read_order(word: str) -> Order:
    """Return the order that a word names.

    Raises `CrewMeterError` naming a word that is none.
    """
    for order in ORDERS:
        if word == order:
            return order
    near = difflib.get_close_matches(word.lower(), ORDERS, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}? " if near else ""
    raise CrewMeterError(f"cannot order by {word!r}", hint=f"{meant}one of {', '.join(ORDERS)}")


def _oldest_scanned(session: Session, candidates: Sequence[Sql]) -> int | None:
    """Return the start of the oldest run to look at, or None for all.

    It is in nanoseconds, exact to the second.
    """
    # Whole seconds alone are in the index, which is then all that is read.
    second = rounded("run.started_ns", _NS)
    last = Sql("LIMIT 1 OFFSET ?", (SCANNED_RUNS - 1,))
    query = sql(
        "SELECT",
        second,
        "FROM run",
        where(candidates),
        f"ORDER BY {second} DESC",
        last,
    )
    found: int | None = session.value(query)
    return None if found is None else found * _NS
