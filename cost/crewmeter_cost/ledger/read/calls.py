"""Every billed call, one after the other, for other programs: constant memory however large the ledger is.

`calls` yields the contract's records; a format is a function from records to lines, kept in `FORMATS`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

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

    from sqlalchemy.engine import Connection

    from crewmeter_cost.filters import Filter
    from crewmeter_cost.ledger.store import Ledger

__all__ = ["FIELDS", "FORMATS", "Billed", "billed", "calls"]

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
"""Calls read at a time; between pages no read transaction is held, so writers' WAL can be folded back."""

_REMEMBERED = 50_000
_CALL, _RUN, _LABEL, _TAGS, _PRICE = (
    core_tables.call,
    core_tables.run,
    core_tables.label,
    core_tables.tag_set,
    core_tables.price_version,
)
_NS = 10**9
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


class Billed(NamedTuple):
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
    """Whether the cost is unknown; a call the provider rejected has none to know."""
    frozen: FrozenRates | None
    """The rates it was charged at; None where it has no price."""


class _Names:
    """Texts behind ids, remembered from page to page (afresh where there are too many)."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Any] = {}

    def learn(
        self, connection: Connection, table: str, column: Any, text: Any, ids: Iterable[int | None]
    ) -> None:
        """Read the texts of ids not known yet."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        wanted = sorted(
            {number for number in ids if number is not None and (table, number) not in self._known}
        )
        for start in range(0, len(wanted), 5000):
            for row in connection.execute(
                select(column, *text).where(column.in_(wanted[start : start + 5000]))
            ):
                self._known[table, row[0]] = row[1] if len(row) == 2 else tuple(row[1:])

    def __call__(self, table: str, number: int | None) -> Any:
        return None if number is None else self._known.get((table, number))


def pages(
    ledger: Ledger,
    names: _Names,
    *,
    since: datetime | None,
    until: datetime | None,
    where: Filter | None = None,
) -> Iterator[Sequence[Mapping[Any, Any]]]:
    """The rows of `call` that started in [since, until), in order of their second, a page at a time; `names` knows what they name."""
    start, end = nanoseconds(since), nanoseconds(until)
    c, seconds = _CALL.c, rounded(_CALL.c.started_ns, _NS)
    last: tuple[int, int] | None = None
    while True:
        query = select(_CALL).order_by(seconds, c.id).limit(PAGE)
        if start is not None:
            query = query.where(seconds >= start // _NS, c.started_ns >= start)
        if end is not None:
            query = query.where(seconds <= end // _NS, c.started_ns < end)
        if last is not None:
            query = query.where(
                seconds >= last[0], or_(seconds > last[0], and_(seconds == last[0], c.id > last[1]))
            )
        with ledger.reading() as connection:
            if where is not None and where.terms:
                query = query.where(*call_conditions(connection, where))
            page = connection.execute(query).mappings().all()
            names.learn(
                connection,
                "label",
                _LABEL.c.id,
                (_LABEL.c.value,),
                (row[name] for row in page for name in _NAMED),
            )
            names.learn(
                connection, "run", _RUN.c.id, (_RUN.c.run_id,), (row["run"] for row in page)
            )
            names.learn(
                connection, "tags", _TAGS.c.id, (_TAGS.c.tags,), (row["tag_set"] for row in page)
            )
            names.learn(
                connection, "price", _PRICE.c.id, _FROZEN, (row["price_version"] for row in page)
            )
        yield page
        if len(page) < PAGE:
            return
        last = (page[-1]["started_ns"] // _NS, page[-1]["id"])


def calls(
    ledger: Ledger,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    where: Filter | None = None,
) -> Iterator[dict[str, object]]:
    """Every billed call that started in [since, until), in order of its second, as records with the keys `FIELDS`."""
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
) -> Iterator[Billed]:
    """The same calls with what is needed to charge them again."""
    names = _Names()
    for page in pages(ledger, names, since=since, until=until, where=where):
        for row in page:
            frozen = names("price", row["price_version"])
            yield Billed(
                record=_record(row, names),
                started_ns=row["started_ns"],
                duration_ns=row["duration_ns"],
                usage=_usage(row, names),
                streamed=row["ttft_ns"] is not None,
                host=names("label", row["host"]),
                service_tier=names("label", row["service_tier"]),
                cost_pusd=row["cost_pusd"],
                unpriced=row["cost_pusd"] is None and row["state"] != CallState.REJECTED,
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
    record = {
        "started_at": moment(row["started_ns"]),
        "duration_seconds": row["duration_ns"] / 1e9,
        "run_id": name("run", row["run"]),
        "trace_id": bytes(row["trace_id"]).hex(),
        "span_id": bytes(row["span_id"]).hex(),
        **{field: name("label", row[field]) for field in _NAMED},
        "tags": json.loads(tags) if tags else {},
        "status": "ok" if row["state"] == 0 else "error",
        **{field: row[field] for field in _COUNTS},
        "cost_usd": None if row["cost_pusd"] is None else exact_usd(row["cost_pusd"]),
        "price_source": source,
        "price_version": version,
    }
    status = str(record["cost_status"])
    record["cost_status"] = OLD_STATUSES.get(status, status)
    return {field: record[field] for field in FIELDS}


def _jsonl(records: Iterable[dict[str, object]]) -> Iterator[str]:
    for record in records:
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _csv(records: Iterable[dict[str, object]]) -> Iterator[str]:
    yield csv_line(FIELDS)
    for record in records:
        record["tags"] = (
            json.dumps(record["tags"], ensure_ascii=False, sort_keys=True)
            if record["tags"]
            else None
        )
        yield csv_line(record[field] for field in FIELDS)


FORMATS: Mapping[str, Callable[[Iterable[dict[str, object]]], Iterator[str]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
}
"""Format → lines of text from records. A further one (FOCUS) needs an entry here and nothing else."""
