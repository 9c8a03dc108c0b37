"""Re-pricing of recorded calls, as audited adjustments that can be undone.

Every sum moves with them. Calls are visited in pages, each page one transaction, so that writers
never wait long. A second run finds nothing left to change, also after a crash in the middle.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, insert, select, update

from crewmeter.usage.token_usage import TokenUsage, usage_status
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.columns import CALL as CALL_TABLE
from crewmeter_cost.ledger.write.call_dedup import stored_row
from crewmeter_cost.ledger.write.rows import CALL, CALL_COLUMNS, LARGEST, CallState, other_usage
from crewmeter_cost.money import exact_usd, nanoseconds
from crewmeter_cost.pricing.charge import charge_call
from crewmeter_cost.pricing.charge_result import Charge
from crewmeter_cost.records import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.store import Ledger, Work
    from crewmeter_cost.ledger.write.dimensions import Labels
    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.pricing.charge_result import Outcome
    from crewmeter_cost.pricing.price_book import PriceBook

__all__ = ["ModelChange", "Repriced", "Undone", "reprice", "undo"]

PAGE = 2000
_CHUNK = 5000
_CALL, _LABEL = core_tables.call, core_tables.label
_JOB, _ADJUSTMENT = core_tables.repricing, core_tables.adjustment
_COLUMNS = tuple(_CALL.c[name] for name in CALL_COLUMNS)
_PRICE = ("cost_pusd", "cost_status", "cost_flags", "price_version")
"""The columns a repricing sets."""
Price = tuple[Any, ...]
"""Values of the columns `_PRICE`."""
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
    """What a repricing means for one model.

    Money in pico-USD, over the calls in the window.
    """

    calls: int = 0
    changed: int = 0
    before_pusd: int = 0
    after_pusd: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0

    def count(self, old_pusd: int | None, new_pusd: int | None, *, rejected: bool) -> None:
        """Add one call. What the provider rejected has no cost to know."""
        self.calls += 1
        self.before_pusd += old_pusd or 0
        self.after_pusd += new_pusd or 0
        if not rejected:
            self.unpriced_before += old_pusd is None
            self.unpriced_after += new_pusd is None


@dataclass(slots=True)
class Repriced:
    """The outcome of a repricing."""

    job: int | None = None
    """Names it for `undo`. None where nothing changed or nothing was written."""
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


class _Change(NamedTuple):
    """A call whose outcome is another one now."""

    number: int
    row: Row
    outcome: Outcome


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
    """Charge every call that started in [since, until) again.

    Args:
        ledger: The ledger, which others may write meanwhile.
        book: The prices of today.
        since: Begin of the window, None for the first call.
        until: End of the window, None for the last call.
        dry_run: Only say what would change.
        reason: Why, for the auditors.
        progress: Called with the number of calls visited by each page.

    Returns:
        What changed, by model.

    Raises:
        CrewMeterError: The ledger cannot be written. Pages written so far stay, under one job.
    """
    done = Repriced()
    last = 0
    while True:
        with ledger.reading() as connection:
            page = _page(connection, last, nanoseconds(since), nanoseconds(until))
            names = _names(connection, (row for _, row in page))
        compared = (_compare(number, row, names, book, done) for number, row in page)
        changes = [change for change in compared if change is not None]
        if changes and not dry_run:
            with ledger.writing(book.frozen) as work:
                _apply(work, changes, done, reason)
        if progress is not None:
            progress(len(page))
        # A short page is the last one.
        if len(page) < PAGE:
            return done
        last = page[-1][0]


def _page(
    connection: Connection, last: int, since: int | None, until: int | None
) -> list[tuple[int, Row]]:
    c = _CALL.c
    query = select(c.id, *_COLUMNS).where(c.id > last)
    query = query.order_by(c.id).limit(PAGE)
    if since is not None:
        query = query.where(c.started_ns >= since)
    if until is not None:
        query = query.where(c.started_ns < until)
    return _stored(connection, query)


def _stored(connection: Connection, query: Select[Any]) -> list[tuple[int, Row]]:
    """Return calls by number, from a query of `id` and `_COLUMNS`."""
    found = connection.execute(query)
    return [(number, stored_row(values)) for number, *values in found]


def _names(connection: Connection, rows: Iterable[Row]) -> Mapping[int, str]:
    """Return the names of the labels that pricing reads, by id."""
    positions = [getattr(CALL, name) for name in _NAMES]
    found: set[int | None] = set()
    for row in rows:
        found.update(row[position] for position in positions)
    wanted = sorted(each for each in found if each is not None)
    names: dict[int, str] = {}
    every = select(_LABEL.c.id, _LABEL.c.value)
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        query = every.where(_LABEL.c.id.in_(chunk))
        names.update((number, value) for number, value in connection.execute(query))
    return names


def _compare(
    number: int, row: Row, names: Mapping[int, str], book: PriceBook, done: Repriced
) -> _Change | None:
    """Return the call's new outcome if it differs, and count it in its model's sums."""
    outcome = charge_call(call_of(row, names), book)
    old = row[CALL.cost_pusd]
    new = _amount(outcome)
    provider = names.get(row[CALL.provider])
    requested = names.get(row[CALL.request_model])
    answered = names.get(row[CALL.response_model])
    change = done.by_model[provider, requested or answered]
    rejected = row[CALL.state] == CallState.REJECTED
    change.count(old, new, rejected=rejected)
    too_large = new is None and isinstance(outcome, Charge)
    status = names[row[CALL.cost_status]]
    if old == new and (too_large or status == outcome.status):
        return None
    change.changed += 1
    return _Change(number, row, outcome)


def _amount(outcome: Outcome) -> int | None:
    """Return the cost, None where there is none or 64 bits cannot hold it."""
    if not isinstance(outcome, Charge) or outcome.cost_pusd > LARGEST:
        return None
    return outcome.cost_pusd


def call_of(row: Row, names: Mapping[int, str]) -> Call:
    """Return a stored call as pricing sees calls. Its context does not matter here."""

    def name(column: str) -> str | None:
        return names.get(row[getattr(CALL, column)])

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
        usage=_usage_of(row, name("usage_status"), name("usage_flags")),
        error=row[CALL.state] > 0,
        error_type=name("error_type"),
        finish_reason=name("finish_reason"),
        service_tier=name("service_tier"),
        reported_cost_usd=_reported(row[CALL.reported_cost_pusd]),
        time_to_first_token_ns=row[CALL.ttft_ns],
        origin=str(name("origin")),
        scope=name("scope") or "",
    )


def _usage_of(row: Row, status: str | None, flags: str | None) -> TokenUsage:
    return TokenUsage(
        input=row[CALL.input_tokens],
        output=row[CALL.output_tokens],
        cache_read=row[CALL.cache_read_tokens] or 0,
        cache_write_5m=row[CALL.cache_write_5m_tokens] or 0,
        cache_write_1h=row[CALL.cache_write_1h_tokens] or 0,
        reasoning=row[CALL.reasoning_tokens] or 0,
        status=usage_status(status) or "missing",
        flags=tuple(flags.split(",")) if flags else (),
        **other_usage(row[CALL.other_usage]),
    )


def _reported(pusd: int | None) -> str | None:
    return None if pusd is None else exact_usd(pusd)


def _apply(work: Work, changes: list[_Change], done: Repriced, reason: str) -> None:
    """Write one page's changes, with their adjustments, totals and roll-ups."""
    connection = work.connection
    if done.job is None:
        newest = connection.execute(select(func.max(_JOB.c.id))).scalar()
        done.job = (newest or 0) + 1
        job = {
            "id": done.job,
            "created_ns": time.time_ns(),
            "reason": reason,
        }
        connection.execute(insert(_JOB).values(**job))
    labels = work.transaction.labels
    prices = {change.number: _price(change.outcome, labels) for change in changes}
    adjustments = []
    for number, old, new in _move(work, prices):
        adjustment = {"repricing": done.job, "call": number}
        for name, before, after in zip(_ADJUSTED, old, new, strict=True):
            adjustment[f"old_{name}"] = before
            adjustment[f"new_{name}"] = after
        adjustments.append(adjustment)
    connection.execute(insert(_ADJUSTMENT), adjustments)


_ADJUSTED = ("cost_pusd", "status", "flags", "price_version")
"""Names in `adjustment` of the columns `_PRICE`."""


def _price(outcome: Outcome, labels: Labels) -> Price:
    """Return the columns `_PRICE` of an outcome."""
    cost = _amount(outcome)
    status = outcome.status
    version = None
    if isinstance(outcome, Charge):
        if cost is None:
            status = "invalid_usage"
        else:
            version = labels.price_version[outcome.version]
    flags = labels.flags[outcome.flags] if outcome.flags else None
    return cost, labels.of["cost_status"][status], flags, version


def _move(work: Work, prices: Mapping[int, Price]) -> list[tuple[int, Price, Price]]:
    """Give calls new prices and move every sum. Returns (call, old price, new price).

    Rows are read again, because they may have moved on.
    """
    connection, transaction = work.connection, work.transaction
    rows = _stored(connection, select(_CALL.c.id, *_COLUMNS).where(_CALL.c.id.in_(prices)))
    runs = {row[CALL.run] for _, row in rows}
    transaction.runs.load_numbers(runs)
    positions = [getattr(CALL, name) for name in _PRICE]
    moved = []
    changed = []
    for number, row in rows:
        new = prices[number]
        new_row = list(row)
        for position, value in zip(positions, new, strict=True):
            new_row[position] = value
        # Sums move by taking the old row away and adding the new one.
        transaction.count_call(row, -1)
        transaction.count_call(tuple(new_row))
        old = tuple(row[position] for position in positions)
        moved.append((number, old, new))
        changed.append((number, *new))
    transaction.statements.change(
        transaction.session,
        CALL_TABLE,
        _PRICE,
        changed,
    )
    transaction.save_sums()
    return moved


def undo(ledger: Ledger, job: int) -> Undone:
    """Set back every call that repricing `job` changed, in one transaction.

    Raises `CrewMeterError` for a job there is not, one already undone, and one that a later
    repricing builds on.
    """
    with ledger.writing() as work:
        connection = work.connection
        _check_undoable(connection, job)
        a = _ADJUSTMENT.c
        old_prices = [a[f"old_{name}"] for name in _ADJUSTED]
        query = select(a.call, *old_prices).where(a.repricing == job)
        found = connection.execute(query)
        old = [(number, tuple(price)) for number, *price in found]
        for start in range(0, len(old), PAGE):
            page = old[start : start + PAGE]
            _move(work, dict(page))
        mark = update(_JOB).where(_JOB.c.id == job)
        connection.execute(mark.values(undone_ns=time.time_ns()))
        return Undone(job, len(old))


def _check_undoable(connection: Connection, job: int) -> None:
    found = connection.execute(select(_JOB).where(_JOB.c.id == job)).one_or_none()
    if found is None:
        raise CrewMeterError(
            f"there is no repricing {job}", hint="`crewmeter reprice` prints the number of each"
        )
    if found.undone_ns is not None:
        raise CrewMeterError(f"repricing {job} was undone already", hint="nothing needs to be done")
    later = _ADJUSTMENT.alias("later")
    jobs = select(_JOB.c.id).where(_JOB.c.id > job, _JOB.c.undone_ns.is_(None))
    mine = select(_ADJUSTMENT.c.call).where(_ADJUSTMENT.c.repricing == job)
    query = select(func.max(later.c.repricing))
    query = query.where(later.c.repricing.in_(jobs), later.c.call.in_(mine))
    blocking = connection.execute(query).scalar()
    if blocking is not None:
        raise CrewMeterError(
            f"repricing {blocking} changed some of the same calls after {job}",
            hint=f"undo {blocking} first",
        )
