"""Price the history again under today's book: audited adjustments that can be undone, and sums that move with them.

Calls are visited in pages, each page one transaction, so that writers are never kept waiting for long. A second run finds
nothing left to change, also after a crash in the middle.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from crewmeter.usage.token_usage import TokenUsage, usage_status
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.batch import Change
from crewmeter_cost.ledger.write.call_dedup import stored_row
from crewmeter_cost.ledger.write.dimensions import names_of
from crewmeter_cost.ledger.write.rows import CALL, CALL_COLUMNS, other_usage
from crewmeter_cost.money import nanoseconds
from crewmeter_cost.pricing.charge import Charge, charge_call
from crewmeter_cost.records import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.store import Ledger, Work
    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.pricing.charge import Outcome
    from crewmeter_cost.pricing.price_book import PriceBook

__all__ = ["ModelChange", "Repriced", "Undone", "reprice", "undo"]

PAGE = 2000
_INT64 = 2**63 - 1
_CALL, _JOB, _ADJUSTMENT = core_tables.call, core_tables.repricing, core_tables.adjustment
_NS = 10**9
_PRICE = ("cost_pusd", "cost_status", "cost_flags", "price_version")
"""The columns a repricing sets."""
_NAMES = (
    "operation",
    "origin",
    "scope",
    "provider",
    "host",
    "request_model",
    "response_model",
    "error_type",
    "finish_reason",
    "service_tier",
    "usage_status",
    "usage_flags",
    "cost_status",
)


@dataclass(slots=True)
class ModelChange:
    """What a repricing means for one model. Money in pico-USD, over the calls in the window."""

    calls: int = 0
    changed: int = 0
    before_pusd: int = 0
    after_pusd: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0


@dataclass(slots=True)
class Repriced:
    """The outcome: `job` names it for `undo`, None where nothing changed or nothing was written."""

    job: int | None = None
    by_model: defaultdict[tuple[str | None, str | None], ModelChange] = field(
        default_factory=lambda: defaultdict(ModelChange)
    )
    """(provider, model) → change."""

    @property
    def changed(self) -> int:
        """How many calls have another cost or status now."""
        return sum(change.changed for change in self.by_model.values())


@dataclass(frozen=True, slots=True)
class Undone:
    """How many calls an undo set back."""

    job: int
    calls: int


def reprice(
    ledger: Ledger,
    book: PriceBook,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool = False,
    reason: str = "",
    progress: Callable[[int], None] | None = None,
) -> Repriced:
    """Charge every call that started in [since, until) again. `dry_run` only says what would change; `progress` hears calls visited."""
    done, last = Repriced(), 0
    while True:
        with ledger.reading() as connection:
            page = _page(connection, last, nanoseconds(since), nanoseconds(until))
            names = _names(connection, (row for _, row in page))
        changes = [
            change
            for number, row in page
            if (change := _changed(number, row, names, book, done)) is not None
        ]
        if changes and not dry_run:
            with ledger.writing(book.frozen) as work:
                _apply(work, changes, done, reason)
        if progress is not None:
            progress(len(page))
        if len(page) < PAGE:
            return done
        last = page[-1][0]


def _page(
    connection: Connection, last: int, since: int | None, until: int | None
) -> list[tuple[int, Row]]:
    c = _CALL.c
    query = (
        select(c.id, *(c[name] for name in CALL_COLUMNS))
        .where(c.id > last)
        .order_by(c.id)
        .limit(PAGE)
    )
    if since is not None:
        query = query.where(c.started_ns >= since)
    if until is not None:
        query = query.where(c.started_ns < until)
    return [(number, stored_row(values)) for number, *values in connection.execute(query)]


def _names(connection: Connection, rows: Any) -> Mapping[int, str]:
    positions = [getattr(CALL, name) for name in _NAMES]
    return names_of(connection, {row[position] for row in rows for position in positions})


def _changed(
    number: int, row: Row, names: Mapping[int, str], book: PriceBook, done: Repriced
) -> tuple[int, Row, Outcome] | None:
    """The call's new outcome if it differs from what is stored; its model's sums are counted either way."""
    outcome = charge_call(call_of(row, names), book)
    old, new = row[CALL.cost_pusd], outcome.cost_pusd if isinstance(outcome, Charge) else None
    if new is not None and new > _INT64:
        new = None
    model = names.get(row[CALL.request_model]) or names.get(row[CALL.response_model])
    change = done.by_model[names.get(row[CALL.provider]), model]
    rejected = row[CALL.state] == 2
    change.calls += 1
    change.before_pusd += old or 0
    change.after_pusd += new or 0
    change.unpriced_before += old is None and not rejected
    change.unpriced_after += new is None and not rejected
    if old == new and (
        names[row[CALL.cost_status]] == outcome.status
        or (new is None and isinstance(outcome, Charge))
    ):
        return None
    change.changed += 1
    return number, row, outcome


def call_of(row: Row, names: Mapping[int, str]) -> Call:
    """A stored call as pricing sees calls: usage, who billed it, what and when. Its place does not matter here."""

    def name(column: str) -> str | None:
        return names.get(row[getattr(CALL, column)])

    flags = name("usage_flags")
    usage = TokenUsage(
        input=row[CALL.input_tokens],
        output=row[CALL.output_tokens],
        cache_read=row[CALL.cache_read_tokens] or 0,
        cache_write_5m=row[CALL.cache_write_5m_tokens] or 0,
        cache_write_1h=row[CALL.cache_write_1h_tokens] or 0,
        reasoning=row[CALL.reasoning_tokens] or 0,
        status=usage_status(name("usage_status")) or "missing",
        flags=tuple(flags.split(",")) if flags else (),
        **other_usage(row[CALL.other_usage]),
    )
    reported = row[CALL.reported_cost_pusd]
    return Call(
        trace_id=row[CALL.trace_id].hex(),
        span_id=row[CALL.span_id].hex(),
        parent_span_id=None,
        started_ns=row[CALL.started_ns],
        ended_ns=row[CALL.started_ns] + row[CALL.duration_ns],
        operation=str(name("operation")),
        provider=name("provider"),
        host=name("host"),
        request_model=name("request_model"),
        response_model=name("response_model"),
        response_id=row[CALL.response_id],
        usage=usage,
        error=row[CALL.state] > 0,
        error_type=name("error_type"),
        finish_reason=name("finish_reason"),
        service_tier=name("service_tier"),
        reported_cost_usd=None
        if reported is None
        else f"{reported // 10**12}.{reported % 10**12:012d}",
        time_to_first_token_ns=row[CALL.ttft_ns],
        origin=str(name("origin")),
        scope=name("scope") or "",
    )


def _apply(
    work: Work, changes: list[tuple[int, Row, Outcome]], done: Repriced, reason: str
) -> None:
    """Write one page's changes, with their adjustments, totals and roll-ups."""
    connection, labels = work.connection, work.labels
    if done.job is None:
        done.job = (connection.execute(select(func.max(_JOB.c.id))).scalar() or 0) + 1
        connection.execute(
            insert(_JOB).values(id=done.job, created_ns=time.time_ns(), reason=reason)
        )
    prices = []
    for number, _, outcome in changes:
        charge = outcome if isinstance(outcome, Charge) and outcome.cost_pusd <= _INT64 else None
        status = (
            outcome.status
            if charge is not None or not isinstance(outcome, Charge)
            else "invalid_usage"
        )
        version = None if charge is None else labels.price_version[charge.version]
        flags = labels.flags[outcome.flags] if outcome.flags else None
        prices.append(
            (
                number,
                (charge and charge.cost_pusd, labels.of["cost_status"][status], flags, version),
            )
        )
    moved = _move(work, prices)
    connection.execute(
        insert(_ADJUSTMENT),
        [
            {"repricing": done.job, "call": number}
            | {f"old_{name}": value for name, value in zip(_ADJUSTED, old, strict=True)}
            | {f"new_{name}": value for name, value in zip(_ADJUSTED, new, strict=True)}
            for number, old, new in moved
        ],
    )


_ADJUSTED = ("cost_pusd", "status", "flags", "price_version")
"""Names in `adjustment` of the columns `_PRICE`."""


def _move(
    work: Work, prices: list[tuple[int, tuple[Any, ...]]]
) -> list[tuple[int, tuple[Any, ...], tuple[Any, ...]]]:
    """Give calls new prices and move every sum; returns (call, old price, new price). Rows are read again: they may have moved on."""
    connection = work.connection
    wanted = dict(prices)
    query = select(_CALL.c.id, *(_CALL.c[name] for name in CALL_COLUMNS)).where(
        _CALL.c.id.in_(wanted)
    )
    rows = [(number, stored_row(values)) for number, *values in connection.execute(query)]
    change = Change(connection, work.bulk, work.labels)
    change.runs.load_numbers({row[CALL.run] for _, row in rows} - {None})
    positions = [getattr(CALL, name) for name in _PRICE]
    moved = []
    for number, row in rows:
        fields = list(row)
        for position, value in zip(positions, wanted[number], strict=True):
            fields[position] = value
        change.call(row, -1)
        change.call(tuple(fields))
        moved.append((number, tuple(row[position] for position in positions), wanted[number]))
    work.bulk.change(connection, _CALL, _PRICE, [(number, *new) for number, _, new in moved])
    change.save()
    return moved


def undo(ledger: Ledger, job: int) -> Undone:
    """Set back every call that repricing `job` changed, in one transaction.

    Raises `CrewMeterError` for a job there is not, one already undone, and one that a later repricing builds on.
    """
    with ledger.writing() as work:
        connection = work.connection
        found = connection.execute(select(_JOB).where(_JOB.c.id == job)).one_or_none()
        if found is None:
            raise CrewMeterError(
                f"there is no repricing {job}", hint="`crewmeter reprice` prints the number of each"
            )
        if found.undone_ns is not None:
            raise CrewMeterError(
                f"repricing {job} was undone already", hint="nothing needs to be done"
            )
        a, later = _ADJUSTMENT.c, _ADJUSTMENT.alias("later")
        jobs = select(_JOB.c.id).where(_JOB.c.id > job, _JOB.c.undone_ns.is_(None))
        mine = select(a.call).where(a.repricing == job)
        query = select(func.max(later.c.repricing)).where(
            later.c.repricing.in_(jobs), later.c.call.in_(mine)
        )
        blocking = connection.execute(query).scalar()
        if blocking is not None:
            raise CrewMeterError(
                f"repricing {blocking} changed some of the same calls after {job}",
                hint=f"undo {blocking} first",
            )
        old = select(a.call, *(a[f"old_{name}"] for name in _ADJUSTED)).where(a.repricing == job)
        prices = [(number, tuple(price)) for number, *price in connection.execute(old)]
        for start in range(0, len(prices), PAGE):
            _move(work, prices[start : start + PAGE])
        connection.execute(update(_JOB).where(_JOB.c.id == job).values(undone_ns=time.time_ns()))
        return Undone(job, len(prices))
