"""Match calls that several spans report.

One call is billed once, in the words that tell most.

Two spans are one call where
- different instrumentors report one response id,
- one is the parent of the other and both report the same use (an inference holds no other), or
- different instrumentors report the same use in one trace, at the same time.
Two spans of one instrumentor side by side are two calls, however alike they are. So are two spans
with different response ids.

Our own tracer knows more about a call's context than any other instrumentor, so its row replaces a
foreign one. Between foreign ones the row that tells more stays. What is left out is stored as a
step of the kind `KIND_MERGED`, so that `show` can tell and a replay changes nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crewmeter.semconv import SCOPE
from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.write.rows import CALL, CALL_COLUMNS, STEP_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.ledger.write.transaction import Transaction

__all__ = ["KIND_MERGED", "DedupPlan", "merged_rows", "plan", "stored_row"]

KIND_MERGED = "merged_call"
"""The kind of a step that stands for a further report of a call."""
RANDOM_ID_LENGTH = 20
"""A response id this long is random enough to be one call's whatever provider either instrumentor
names (Azure is often called openai). Shorter ones (`1`, `cmpl-7` of a local server) count per
provider."""
_CLOCK_NS = 50_000_000
"""How far the spans of two instrumentors may reach out of each other: one wraps the other, or both
wrap the same function one after the other."""

Positioned = tuple[int, "Row"]
"""A row, and its call's position in the batch."""
SpanKey = tuple[bytes, bytes]


@dataclass(slots=True)
class _Known:
    """A call in the ledger (id `number`) or earlier in the batch (`position`)."""

    row: Row
    number: int | None
    position: int = -1
    scopes: set[int] = field(default_factory=set)
    """The instrumentors that have reported it."""
    stored: Row | None = None
    """The row as it is in the ledger."""


@dataclass(slots=True)
class DedupPlan:
    """What to do with a batch's calls."""

    insert: list[Positioned] = field(default_factory=list)
    replace: list[tuple[int, Row, Row]] = field(default_factory=list)
    """(id, row as it is stored, row that replaces it)."""
    merged: list[tuple[Row, Row]] = field(default_factory=list)
    """(row left out, row that stays for both)."""


def plan(transaction: Transaction, rows: list[Positioned]) -> DedupPlan:
    """Sort a batch into new calls and replacements of another instrumentor's.

    Calls that are known already are left out.
    """
    if not transaction.remembered.foreign_scopes:
        return DedupPlan(insert=rows)
    matching = _Matching(transaction.labels.of["scope"][SCOPE])
    matching.load(transaction, rows)
    for position, row in rows:
        matching.add(position, row)
    return matching.plan(rows)


_PARTS = (
    CALL.cache_read_tokens,
    CALL.cache_write_5m_tokens,
    CALL.cache_write_1h_tokens,
    CALL.reasoning_tokens,
    CALL.other_usage,
)
"""Parts of usage: the report with more of them tells more."""


class _Matching:
    """One batch being matched with the calls that are known."""

    def __init__(self, ours: int) -> None:
        self._ours = ours
        self._by_key: defaultdict[int, list[_Known]] = defaultdict(list)
        self._by_trace: defaultdict[bytes, list[_Known]] = defaultdict(list)
        self._merged_spans: set[SpanKey] = set()
        self._left_out: set[int] = set()
        self._replaced: dict[int, _Known] = {}
        self._merged: list[tuple[Row, _Known]] = []

    def load(self, transaction: Transaction, rows: list[Positioned]) -> None:
        """Read the calls that the batch may repeat."""
        keys = {row[CALL.response_key] for _, row in rows} - {None}
        traces = sorted({row[CALL.trace_id] for _, row in rows})
        seen: dict[int, _Known] = {}
        names = ("id", *CALL_COLUMNS)
        wanted = {"response_key": sorted(keys), "trace_id": traces}
        for by, values in wanted.items():
            found = transaction.statements.select(
                transaction.session, columns.CALL, names, by, values
            )
            for number, *stored in found:
                row = stored_row(stored)
                if number not in seen:
                    seen[number] = _Known(row, number, stored=row)
                    self._index(seen[number])
        self._load_merged(transaction, traces, seen)

    def _load_merged(
        self, transaction: Transaction, traces: list[bytes], seen: dict[int, _Known]
    ) -> None:
        """Read which spans were left out before, and for which calls."""
        kind = int(transaction.labels.of["kind"][KIND_MERGED])
        names = ("trace_id", "span_id", "details")
        found = transaction.statements.select(
            transaction.session,
            columns.STEP,
            names,
            "trace_id",
            traces,
            and_where=f" AND kind = {kind}",
        )
        by_span = {_span(known.row): known for known in seen.values()}
        for trace, span, details in found:
            self._merged_spans.add((bytes(trace), bytes(span)))
            reported = json.loads(details)
            owner = by_span.get((bytes(trace), bytes.fromhex(reported["same_call_as"])))
            if owner is not None:
                owner.scopes.add(int(reported["scope"]))

    def _index(self, known: _Known) -> None:
        row = known.row
        known.scopes.add(row[CALL.scope])
        self._by_trace[row[CALL.trace_id]].append(known)
        if row[CALL.response_key] is not None:
            self._by_key[row[CALL.response_key]].append(known)

    def add(self, position: int, row: Row) -> None:
        """Match one row."""
        span = _span(row)
        if span in self._merged_spans:
            self._left_out.add(position)
            return
        candidates = self._candidates(row)
        if any(_span(each.row) == span for each in candidates):
            return  # a replay: the insert will ignore it
        duplicate = next(
            (each for each in candidates if _is_same(each, row)),
            None,
        )
        if duplicate is None:
            self._index(_Known(row, None, position))
            return
        duplicate.scopes.add(row[CALL.scope])
        if self._rank(row) > self._rank(duplicate.row):
            self._take_over(duplicate, position, row)
        else:
            self._left_out.add(position)
            self._merged.append((row, duplicate))

    def _candidates(self, row: Row) -> list[_Known]:
        key = row[CALL.response_key]
        found = list(self._by_key.get(key, ())) if key is not None else []
        same_trace = self._by_trace.get(
            row[CALL.trace_id],
            (),
        )
        return [
            *found,
            *(each for each in same_trace if each not in found),
        ]

    def _rank(self, row: Row) -> tuple[bool, bool, int, bool]:
        """Return how much a row tells."""
        reported = sum(bool(row[part]) for part in _PARTS)
        has_tokens = row[CALL.input_tokens] is not None
        has_usage = has_tokens or row[CALL.other_usage] is not None
        has_id = row[CALL.response_id] is not None
        is_ours = row[CALL.scope] == self._ours
        return is_ours, has_usage, reported, has_id

    def _take_over(self, duplicate: _Known, position: int, row: Row) -> None:
        """Let a row replace one that tells less, in the ledger or in this batch."""
        self._merged.append((duplicate.row, duplicate))
        if duplicate.position >= 0:
            self._left_out.add(duplicate.position)
            self._replaced.pop(duplicate.position, None)
        duplicate.position = position
        duplicate.row = row
        if duplicate.number is not None:
            self._replaced[position] = duplicate
        if row[CALL.response_key] is not None:
            self._by_key[row[CALL.response_key]].append(duplicate)

    def plan(self, rows: list[Positioned]) -> DedupPlan:
        """Return what is to be done."""
        left_out = self._left_out | self._replaced.keys()
        insert = [(position, row) for position, row in rows if position not in left_out]
        replace = [
            (known.number, known.stored, known.row)
            for known in self._replaced.values()
            if known.number is not None and known.stored is not None
        ]
        merged = [(row, known.row) for row, known in self._merged]
        return DedupPlan(insert, replace, merged)


def _is_same(known: _Known, row: Row) -> bool:
    """Return whether a row reports a call that is known."""
    other = known.row
    if row[CALL.response_id] and row[CALL.response_id] == other[CALL.response_id]:
        if row[CALL.scope] not in known.scopes and _share_id(other, row):
            return True
        return _nested(other, row) and _alike(other, row)
    if row[CALL.response_id] and other[CALL.response_id]:
        return False
    if row[CALL.trace_id] != other[CALL.trace_id] or not _alike(other, row):
        return False
    if _nested(other, row):
        return True
    return row[CALL.scope] not in known.scopes and _simultaneous(other, row)


def _share_id(one: Row, other: Row) -> bool:
    """Return whether one response id means one call."""
    providers = {one[CALL.provider], other[CALL.provider]}
    is_random = len(one[CALL.response_id]) >= RANDOM_ID_LENGTH
    return bool(len(providers) == 1 or None in providers or is_random)


def _nested(one: Row, other: Row) -> bool:
    """Return whether one span is the parent of the other."""
    if one[CALL.trace_id] != other[CALL.trace_id]:
        return False
    return bool(
        one[CALL.parent_span_id] == other[CALL.span_id]
        or other[CALL.parent_span_id] == one[CALL.span_id]
    )


def _alike(one: Row, other: Row) -> bool:
    """Return whether two rows report one model and the same use.

    A count that one of them does not have is like any.
    """
    models = _models(one)
    other_models = _models(other)
    if models and other_models and models.isdisjoint(other_models):
        return False
    for count in (CALL.input_tokens, CALL.output_tokens):
        first = one[count]
        second = other[count]
        if first != second and first is not None and second is not None:
            return False
    return True


def _models(row: Row) -> set[int]:
    """Return the labels of the models that a row names."""
    requested = row[CALL.request_model]
    answered = row[CALL.response_model]
    return {requested, answered} - {None}


def _simultaneous(one: Row, other: Row) -> bool:
    """Return whether one span lies within the other in time, but for the clock."""
    return _encloses(one, other) or _encloses(other, one)


def _encloses(outer: Row, inner: Row) -> bool:
    start = outer[CALL.started_ns] - _CLOCK_NS
    end = outer[CALL.started_ns] + outer[CALL.duration_ns] + _CLOCK_NS
    inner_start = inner[CALL.started_ns]
    inner_end = inner_start + inner[CALL.duration_ns]
    return bool(start <= inner_start and inner_end <= end)


def merged_rows(transaction: Transaction, merged: Iterable[tuple[Row, Row]]) -> list[Row]:
    """Return the steps that stand for the reports that were left out."""
    pairs = list(merged)
    if not pairs:
        return []
    of = transaction.labels.of
    kind = of["kind"][KIND_MERGED]
    scopes = {row[CALL.scope] for row, _ in pairs} - {None}
    names = dict(
        transaction.statements.select(
            transaction.session, columns.LABEL, ("id", "value"), "id", sorted(scopes)
        )
    )
    rows = []
    for left_out, stays in pairs:
        details = {
            "same_call_as": stays[CALL.span_id].hex(),
            "scope": left_out[CALL.scope],
        }
        values = {
            "kind": kind,
            "name": of["step"][names.get(left_out[CALL.scope]) or "another instrumentor"],
            "details": json.dumps(details, sort_keys=True),
            "state": min(left_out[CALL.state], 1),
        }
        row = []
        for name in STEP_COLUMNS:
            if name in values:
                row.append(values[name])
            else:
                row.append(left_out[getattr(CALL, name)])
        rows.append(tuple(row))
    return rows


def stored_row(values: Sequence[Any]) -> Row:
    """Return a row read from the database in the shape of `CallRows.row`.

    Binary as bytes.
    """
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in values)


def _span(row: Row) -> SpanKey:
    return row[CALL.trace_id], row[CALL.span_id]
