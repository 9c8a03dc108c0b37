"""Every billed call, one after the other, for other programs, in constant memory.

`calls` yields the contract's records. A format is a function from records to lines: see `FORMATS`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select

from crewmeter.usage.token_usage import TokenUsage, usage_status
from crewmeter_cost.csv_text import csv_line
from crewmeter_cost.ledger.read.filter_sql import call_conditions
from crewmeter_cost.ledger.read.query import rounded
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.rows import CallState, other_usage
from crewmeter_cost.money import exact_usd, moment, nanoseconds
from crewmeter_cost.pricing.charge_result import OLD_STATUSES, FrozenRates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from crewmeter_cost.filters import Filter
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["FIELDS", "FORMATS", "BilledCall", "billed", "calls"]

FIELDS = (
    "started_at",
    "duration_seconds",
    "run_id",
    "trace_id",
    "span_id",
    "operation",
    "provider",
    "request_model",
    "response_model",
    "crew",
    "flow",
    "task",
    "agent",
    "user",
    "team",
    "session",
    "tags",
    "status",
    "error_type",
    "finish_reason",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "cost_status",
    "price_source",
    "price_version",
)
"""Keys of an exported call, in the contract's order."""

PAGE = 2000
"""Calls read at a time.

Between pages no read transaction is held, so the WAL can be folded back.
"""

_REMEMBERED = 50_000
_CHUNK = 5000
_CALL, _RUN = core_tables.call, core_tables.run
_LABEL, _TAGS = core_tables.label, core_tables.tag_set
_PRICE = core_tables.price_version
_NS = 10**9
_second = rounded(_CALL.c.started_ns, _NS)
_NAMED = (
    "operation",
    "provider",
    "request_model",
    "response_model",
    "crew",
    "flow",
    "task",
    "agent",
    "user",
    "team",
    "session",
    "error_type",
    "finish_reason",
    "cost_status",
    "host",
    "service_tier",
    "usage_status",
)
_FROZEN = tuple(_PRICE.c[name] for name in FrozenRates._fields)
_COUNTS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


@dataclass(frozen=True, slots=True)
class BilledCall:
    """One billed call read back: its record, and what a charge needs."""

    record: dict[str, object]
    started_ns: int
    duration_ns: int
    usage: TokenUsage
    streamed: bool
    """Whether somebody saw the first token before the last."""
    host: str | None
    service_tier: str | None
    cost_pusd: int | None
    unpriced: bool
    """Whether the cost is unknown. A call the provider rejected has none to know."""
    frozen: FrozenRates | None
    """The rates it was charged at, None where it has no price."""


class _Names:
    """Texts behind ids, remembered from page to page, afresh where there are too many."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Any] = {}

    def read(
        self, connection: Connection, table: str, query: Select[Any], ids: Iterable[int | None]
    ) -> None:
        """Read the texts of ids not known yet. `query` selects the id, then its texts."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        column = query.selected_columns[0]
        known = self._known
        wanted = sorted({each for each in ids if each is not None and (table, each) not in known})
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            for number, *texts in connection.execute(query.where(column.in_(chunk))):
                known[table, number] = texts[0] if len(texts) == 1 else tuple(texts)

    def __call__(self, table: str, number: int | None) -> Any:
        if number is None:
            return None
        return self._known.get((table, number))


def pages(
    ledger: Ledger,
    names: _Names,
    *,
    since: datetime | None,
    until: datetime | None,
    where: Filter | None = None,
) -> Iterator[Sequence[Mapping[Any, Any]]]:
    """Yield the rows of `call` that started in [since, until), a page at a time.

    They come in order of their second. `names` knows what they name.
    """
    query = _in_window(nanoseconds(since), nanoseconds(until))
    filtered = where is None or not where.terms
    last: tuple[int, int] | None = None
    while True:
        with ledger.reading() as connection:
            if where is not None and not filtered:
                query = query.where(*call_conditions(connection, where))
                filtered = True
            page = connection.execute(query if last is None else _after(query, *last))
            rows = page.mappings().all()
            _read_names(connection, names, rows)
        yield rows
        if len(rows) < PAGE:
            return
        last = rows[-1]["started_ns"] // _NS, rows[-1]["id"]


def _in_window(start: int | None, end: int | None) -> Select[Any]:
    c = _CALL.c
    query = select(_CALL).order_by(_second, c.id).limit(PAGE)
    if start is not None:
        query = query.where(
            _second >= start // _NS,
            c.started_ns >= start,
        )
    if end is not None:
        query = query.where(
            _second <= end // _NS,
            c.started_ns < end,
        )
    return query


def _after(query: Select[Any], second: int, number: int) -> Select[Any]:
    """Return the query for the rows after that one."""
    later_in_second = and_(
        _second == second,
        _CALL.c.id > number,
    )
    return query.where(
        _second >= second,
        or_(_second > second, later_in_second),
    )


def _read_names(connection: Connection, names: _Names, rows: Sequence[Mapping[Any, Any]]) -> None:
    labels = (row[name] for row in rows for name in _NAMED)
    names.read(
        connection,
        "label",
        select(_LABEL.c.id, _LABEL.c.value),
        labels,
    )
    names.read(
        connection,
        "run",
        select(_RUN.c.id, _RUN.c.run_id),
        (row["run"] for row in rows),
    )
    tag_sets = (row["tag_set"] for row in rows)
    names.read(
        connection,
        "tags",
        select(_TAGS.c.id, _TAGS.c.tags),
        tag_sets,
    )
    versions = (row["price_version"] for row in rows)
    names.read(
        connection,
        "price",
        select(_PRICE.c.id, *_FROZEN),
        versions,
    )


def calls(
    ledger: Ledger,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    where: Filter | None = None,
) -> Iterator[dict[str, object]]:
    """Yield every billed call that started in [since, until), in order of its second.

    Each is a record with the keys `FIELDS`.
    """
    names = _Names()
    for page in pages(ledger, names, since=since, until=until, where=where):
        for row in page:
            yield _record(row, names)


def billed(
    ledger: Ledger,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    where: Filter | None = None,
) -> Iterator[BilledCall]:
    """Yield the same calls with what is needed to charge them again."""
    names = _Names()
    for page in pages(ledger, names, since=since, until=until, where=where):
        for row in page:
            yield _billed(row, names)


def _billed(row: Mapping[Any, Any], names: _Names) -> BilledCall:
    frozen = names("price", row["price_version"])
    unpriced = row["cost_pusd"] is None and row["state"] != CallState.REJECTED
    return BilledCall(
        record=_record(row, names),
        started_ns=row["started_ns"],
        duration_ns=row["duration_ns"],
        usage=_usage(row, names),
        streamed=row["ttft_ns"] is not None,
        host=names("label", row["host"]),
        service_tier=names("label", row["service_tier"]),
        cost_pusd=row["cost_pusd"],
        unpriced=unpriced,
        frozen=None if frozen is None else FrozenRates(*frozen),
    )


def _usage(row: Mapping[Any, Any], name: _Names) -> TokenUsage:
    return TokenUsage(
        input=row["input_tokens"],
        output=row["output_tokens"],
        cache_read=row["cache_read_tokens"] or 0,
        cache_write_5m=row["cache_write_5m_tokens"] or 0,
        cache_write_1h=row["cache_write_1h_tokens"] or 0,
        reasoning=row["reasoning_tokens"] or 0,
        status=usage_status(name("label", row["usage_status"])) or "missing",
        **other_usage(row["other_usage"]),
    )


def _record(row: Mapping[Any, Any], name: _Names) -> dict[str, object]:
    tags = name("tags", row["tag_set"])
    frozen = name("price", row["price_version"])
    version, source = frozen[:2] if frozen else (None, None)
    cost = row["cost_pusd"]
    cost_usd = None if cost is None else exact_usd(cost)
    status = "ok" if row["state"] == CallState.OK else "error"
    record = {
        "started_at": moment(row["started_ns"]),
        "duration_seconds": row["duration_ns"] / 1e9,
        "run_id": name("run", row["run"]),
        "trace_id": bytes(row["trace_id"]).hex(),
        "span_id": bytes(row["span_id"]).hex(),
        "tags": json.loads(tags) if tags else {},
        "status": status,
        "cost_usd": cost_usd,
        "price_source": source,
        "price_version": version,
    }
    record |= {field: name("label", row[field]) for field in _NAMED}
    record |= {field: row[field] for field in _COUNTS}
    cost_status = str(record["cost_status"])
    record["cost_status"] = OLD_STATUSES.get(cost_status, cost_status)
    return {field: record[field] for field in FIELDS}


def _jsonl(records: Iterable[dict[str, object]]) -> Iterator[str]:
    for record in records:
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _csv(records: Iterable[dict[str, object]]) -> Iterator[str]:
    yield csv_line(FIELDS)
    for record in records:
        tags = record["tags"]
        text = json.dumps(tags, ensure_ascii=False, sort_keys=True) if tags else None
        yield csv_line({**record, "tags": text}[field] for field in FIELDS)


FORMATS: Mapping[str, Callable[[Iterable[dict[str, object]]], Iterator[str]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
}
"""Format → lines of text from records. A further one (FOCUS) is an entry here."""
