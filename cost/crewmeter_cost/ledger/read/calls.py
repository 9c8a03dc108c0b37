"""Every billed call, one after the other, for other programs, in constant memory.

`calls` yields the contract's records. A format is a function from records to lines: see `FORMATS`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crewmeter.usage.token_usage import TokenUsage, usage_status
from crewmeter_cost.csv_text import csv_line
from crewmeter_cost.ledger.read.filter_sql import call_conditions
from crewmeter_cost.ledger.read.query import rounded, started_within
from crewmeter_cost.ledger.sql import Sql, listed, one_of, sql, where
from crewmeter_cost.ledger.write.rows import CallState, other_usage
from crewmeter_cost.money import exact_usd, moment, nanoseconds
from crewmeter_cost.pricing.charge_result import OLD_STATUSES, FrozenRates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from crewmeter_cost.filters import Filter
    from crewmeter_cost.ledger.session import Session
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
_NS = 10**9
_SECOND = rounded("call.started_ns", _NS)
_PAGE = f"ORDER BY {_SECOND}, call.id LIMIT {PAGE}"
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
_TEXTS = {
    "label": sql("SELECT id, value FROM label"),
    "run": sql("SELECT id, run_id FROM run"),
    "tag_set": sql("SELECT id, tags FROM tag_set"),
    "price_version": sql("SELECT", listed(["id", *FrozenRates._fields]), "FROM price_version"),
}
"""Table → query of its ids with their texts."""
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

    def read(self, session: Session, table: str, ids: Iterable[int | None]) -> None:
        """Read the texts of a table's ids that are not known yet."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        known = self._known
        unknown = set()
        for each in ids:
            if each is not None and (table, each) not in known:
                unknown.add(each)
        wanted = sorted(unknown)
        for start in range(0, len(wanted), _CHUNK):
            chunk = one_of("id", wanted[start : start + _CHUNK])
            query = sql(_TEXTS[table], where([chunk]))
            for number, *texts in session.rows(query):
                text = texts[0] if len(texts) == 1 else tuple(texts)
                known[table, number] = text

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
    wanted: Filter | None = None,
) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Yield the rows of `call` that started in [since, until), a page at a time.

    They come in order of their second. `names` knows what they name.
    """
    conditions = started_within("call", nanoseconds(since), nanoseconds(until))
    filtered = wanted is None or not wanted.terms
    after: list[Sql] = []
    # Each page is a transaction of its own: a long one would keep the log from being folded.
    while True:
        with ledger.read_session() as session:
            if wanted is not None and not filtered:
                conditions += call_conditions(session, wanted)
                filtered = True
            query = sql("SELECT call.* FROM call", where([*conditions, *after]), _PAGE)
            rows = session.mappings(query)
            _read_names(session, names, rows)
        yield rows
        if len(rows) < PAGE:
            return
        after = _after(rows[-1]["started_ns"] // _NS, rows[-1]["id"])


def _after(second: int, number: int) -> list[Sql]:
    """Return the conditions of the calls after that one."""
    later = f"{_SECOND} > ? OR ({_SECOND} = ? AND call.id > ?)"
    return [Sql(f"{_SECOND} >= ?", (second,)), Sql(later, (second, second, number))]


def _read_names(session: Session, names: _Names, rows: Sequence[Mapping[str, Any]]) -> None:
    names.read(session, "label", (row[name] for row in rows for name in _NAMED))
    for column in ("run", "tag_set", "price_version"):
        names.read(session, column, (row[column] for row in rows))


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
    for page in pages(
        ledger,
        names,
        since=since,
        until=until,
        wanted=where,
    ):
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
    for page in pages(
        ledger,
        names,
        since=since,
        until=until,
        wanted=where,
    ):
        for row in page:
            yield _billed(row, names)


def _billed(row: Mapping[str, Any], names: _Names) -> BilledCall:
    frozen = names("price_version", row["price_version"])
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


def _usage(row: Mapping[str, Any], name: _Names) -> TokenUsage:
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


def _record(row: Mapping[str, Any], name: _Names) -> dict[str, object]:
    tags = name("tag_set", row["tag_set"])
    frozen = name("price_version", row["price_version"])
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
        text = (
            json.dumps(
                tags,
                ensure_ascii=False,
                sort_keys=True,
            )
            if tags
            else None
        )
        yield csv_line({**record, "tags": text}[field] for field in FIELDS)


FORMATS: Mapping[str, Callable[[Iterable[dict[str, object]]], Iterator[str]]] = {
    "jsonl": _jsonl,
    "csv": _csv,
}
"""Format → lines of text from records. A further one (FOCUS) is an entry here."""
