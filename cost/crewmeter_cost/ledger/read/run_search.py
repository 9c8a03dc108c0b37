"""Search for runs by filter and text, in any order, with bounded reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import select

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.filters import Filter, parse_filter
from crewmeter_cost.ledger.read.filter_sql import cost_order, run_conditions, search_condition
from crewmeter_cost.ledger.read.query import rounded
from crewmeter_cost.ledger.read.runs import Run, read_run, run_query
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.money import moment, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.store import Ledger

__all__ = ["ORDERS", "SCANNED_RUNS", "Order", "RunPage", "find_runs"]

Order = Literal["time", "cost", "duration", "calls"]
ORDERS: tuple[Order, ...] = get_args(Order)

SCANNED_RUNS = 200_000
"""Newest runs that a search looks through. Plain listings by time read only what they return."""

_RUN = core_tables.run
_NS = 10**9
_MAX_SEARCH = 200


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
    if order not in ORDERS:
        raise CrewMeterError(f"cannot order by {order!r}", hint=f"one of {', '.join(ORDERS)}")
    if search is not None and len(search) > _MAX_SEARCH:
        raise CrewMeterError(f"the search text has over {_MAX_SEARCH} characters")
    times = _started(since, until)
    with ledger.reading() as connection:
        conditions = run_conditions(connection, wanted)
        if search:
            conditions.append(search_condition(search.strip()))
        scans = bool(conditions) or order != "time"
        oldest = _oldest_scanned(connection, times) if scans else None
        query = run_query().where(
            *times,
            *conditions,
        )
        if oldest is not None:
            query = query.where(*_from(oldest))
        query = query.order_by(*_order_columns(order)).limit(limit).offset(offset)
        rows = connection.execute(query).mappings()
        return RunPage(
            tuple(read_run(row) for row in rows),
            oldest,
        )


def _started(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    """Return the window's conditions, written to use the index on whole seconds."""
    start = nanoseconds(since)
    end = nanoseconds(until)
    conditions: list[ColumnElement[bool]] = []
    if start is not None:
        conditions += _from(start)
    if end is not None:
        second = rounded(_RUN.c.started_ns, _NS)
        conditions += [
            second <= end // _NS,
            _RUN.c.started_ns < end,
        ]
    return conditions


def _from(start_ns: int) -> list[ColumnElement[bool]]:
    """Return the condition that a run started at that moment or later."""
    second = rounded(_RUN.c.started_ns, _NS)
    return [
        second >= start_ns // _NS,
        _RUN.c.started_ns >= start_ns,
    ]


def _oldest_scanned(connection: Connection, times: list[ColumnElement[bool]]) -> int | None:
    """Return the start of the oldest run to look at, or None for all of them."""
    second = rounded(_RUN.c.started_ns, _NS)
    query = select(_RUN.c.started_ns).where(*times)
    query = query.order_by(
        second.desc(),
        _RUN.c.started_ns.desc(),
    )
    found: int | None = connection.scalar(query.offset(SCANNED_RUNS - 1).limit(1))
    return found


def _order_columns(order: Order) -> tuple[Any, ...]:
    """Return the columns to sort by.

    Runs that are equal come newest first.
    """
    c = _RUN.c
    newest = (rounded(c.started_ns, _NS).desc(), c.started_ns.desc(), c.id.desc())
    if order == "time":
        return newest
    if order == "cost":
        return (*(column.desc() for column in cost_order()), *newest)
    column = c.duration_ns if order == "duration" else c.calls
    return (column.desc().nulls_last(), *newest)
