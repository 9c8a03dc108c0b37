"""Match calls that several spans report.

One call is billed once, in the words that tell most.

Two spans are one call where
- different instrumentors report one response id,
- one is the parent of the other and both report the same use (an inference holds no other), or
- different instrumentors report the same use in one trace, at the same time.
Two spans of one instrumentor side by side are two calls, however alike they are. So are two spans
with different response ids.

A span that sums up calls (an agent's, or an inference with others inside) counts only where the
calls themselves are not reported, see decision 0150.

Our own tracer knows more about a call's context than any other instrumentor, so its row replaces a
foreign one. Between foreign ones the row that tells more stays. What is left out is stored as a
step of the kind `KIND_MERGED`, so that `show` can tell and a replay changes nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crewmeter.semconv import CHAT, GENERATE_CONTENT, INVOKE_AGENT, SCOPE, TEXT_COMPLETION
from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.write.ancestry import Ancestry
from crewmeter_cost.ledger.write.call_matching import (
    CLOSE_NS,
    bare_model,
    covers,
    has_usage,
    is_same,
    is_same_root,
    is_sum,
    repeats,
    windows_around,
)
from crewmeter_cost.ledger.write.merged_reports import KIND_MERGED
from crewmeter_cost.ledger.write.rows import CALL, CALL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.ledger.write.transaction import Transaction
    from crewmeter_cost.records import Step

__all__ = ["DedupPlan", "SpanKey", "plan", "stored_row"]

_LANGCHAIN = ".instrumentation.langchain"
"""End of the name of the instrumentors, of two houses, that know LangChain's callbacks."""
Positioned = tuple[int, "Row"]
"""A row, and its call's position in the batch."""
SpanKey = tuple[bytes, bytes]
_INFERENCES = (CHAT, TEXT_COMPLETION, GENERATE_CONTENT)


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


def plan(transaction: Transaction, rows: list[Positioned], steps: Sequence[Step] = ()) -> DedupPlan:
    """Sort a batch into new calls and replacements of another instrumentor's.

    Calls that are known already are left out. ``steps`` are those of the batch.
    """
    if not transaction.remembered.foreign_scopes:
        return DedupPlan(insert=rows)
    matching = _Matching(transaction, Ancestry(transaction, steps))
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

    def __init__(self, transaction: Transaction, ancestry: Ancestry) -> None:
        of = transaction.labels.of
        self._transaction = transaction
        self._ancestry = ancestry
        self._inferences = {of["operation"][name] for name in _INFERENCES}
        self._ours = of["scope"][SCOPE]
        self._aggregate = of["origin"]["aggregate"]
        self._agent = of["operation"][INVOKE_AGENT]
        self._names: dict[int, str] = {}
        self._by_key: defaultdict[int, list[_Known]] = defaultdict(list)
        self._by_trace: defaultdict[bytes, list[_Known]] = defaultdict(list)
        self._pairs_roots = transaction.remembered.has_scope(_LANGCHAIN)
        self._roots: defaultdict[tuple[int, int, int | None], list[_Known]] = defaultdict(list)
        """Foreign calls without a parent, by model, time and input."""
        self._merged_spans: set[SpanKey] = set()
        self._left_out: set[int] = set()
        self._replaced: dict[int, _Known] = {}
        self._merged: list[tuple[Row, _Known]] = []

    def load(self, transaction: Transaction, rows: list[Positioned]) -> None:
        """Read the calls that the batch may repeat."""
        for _, row in rows:
            self._ancestry.add_call(row)
        keys = {row[CALL.response_key] for _, row in rows} - {None}
        traces = sorted({row[CALL.trace_id] for _, row in rows})
        seen: dict[int, _Known] = {}
        names = ("id", *CALL_COLUMNS)
        wanted = {"response_key": sorted(keys), "trace_id": traces}
        for by, values in wanted.items():
            found = transaction.statements.select(
                transaction.session, columns.CALL, names, by, values
            )
            self._take_stored(found, seen)
        self._take_stored(self._stored_roots(transaction, rows), seen)
        self._load_merged(transaction, traces, seen)

    def _take_stored(self, found: Iterable[tuple[Any, ...]], seen: dict[int, _Known]) -> None:
        for number, *stored in found:
            row = stored_row(stored)
            if number not in seen:
                seen[number] = _Known(row, number, stored=row)
                self._ancestry.add_call(row)
                self._index(seen[number])

    def _stored_roots(
        self, transaction: Transaction, rows: list[Positioned]
    ) -> Iterable[tuple[Any, ...]]:
        """Read the roots of other instrumentors from the time of the batch's."""
        starts = [row[CALL.started_ns] for _, row in rows if self._is_root(row)]
        for window in windows_around(starts):
            yield from transaction.statements.select_between(
                transaction.session,
                columns.CALL,
                ("id", *CALL_COLUMNS),
                "started_ns",
                window,
                and_where=f" AND parent_span_id IS NULL AND scope <> {self._ours:d}",
            )

    def _is_root(self, row: Row) -> bool:
        """Return whether a row is a foreign call without a parent."""
        is_foreign = row[CALL.scope] != self._ours
        return self._pairs_roots and is_foreign and row[CALL.parent_span_id] is None

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
            if owner is not None and reported["scope"] is not None:
                owner.scopes.add(int(reported["scope"]))

    def _index(self, known: _Known) -> None:
        row = known.row
        known.scopes.add(row[CALL.scope])
        self._by_trace[row[CALL.trace_id]].append(known)
        if row[CALL.response_key] is not None:
            self._by_key[row[CALL.response_key]].append(known)
        if self._is_root(row):
            moment = row[CALL.started_ns] // CLOSE_NS
            for model in {row[CALL.request_model], row[CALL.response_model]} - {None}:
                self._roots[model, moment, row[CALL.input_tokens]].append(known)

    def add(self, position: int, row: Row) -> None:
        """Match one row."""
        span = _span(row)
        if span in self._merged_spans:
            self._left_out.add(position)
            return
        candidates = self._candidates(row)
        known = next((each for each in candidates if _span(each.row) == span), None)
        if known is not None:
            self._complete(known, position, row)
        elif self._is_aggregate(row):
            self._add_aggregate(position, row)
        else:
            self._add_call(position, row, candidates)

    def _complete(self, known: _Known, position: int, row: Row) -> None:
        """Take the use from a later report of a span that had none.

        Any other repetition is a replay, which the insert ignores.
        """
        if has_usage(row) and not has_usage(known.row) and known.number is not None:
            self._replace(known, position, row)

    def _add_call(self, position: int, row: Row, candidates: list[_Known]) -> None:
        duplicate = next((each for each in candidates if self._is_duplicate(each, row)), None)
        if duplicate is None and self._is_root(row):
            duplicate = self._same_root(row)
        if duplicate is not None:
            duplicate.scopes.add(row[CALL.scope])
            if self._rank(row) > self._rank(duplicate.row):
                self._take_over(duplicate, position, row)
            else:
                self._left_out.add(position)
                self._merged.append((row, duplicate))
            return
        family = self._by_trace.get(row[CALL.trace_id], ())
        inner = [each for each in family if each.row[CALL.parent_span_id] == row[CALL.span_id]]
        if is_sum(row, [each.row for each in inner]):
            self._left_out.add(position)
            self._merged.append((row, inner[0]))
            return
        self._add_part(position, row)

    def _is_duplicate(self, known: _Known, row: Row) -> bool:
        if self._is_aggregate(known.row):
            return False
        are_foreign = self._ours not in (known.row[CALL.scope], row[CALL.scope])
        return is_same(known.row, known.scopes, row, are_foreign=are_foreign)

    def _same_root(self, row: Row) -> _Known | None:
        """Return the call that another instrumentor reported in a trace of its own."""
        moment = row[CALL.started_ns] // CLOSE_NS
        for model in {row[CALL.request_model], row[CALL.response_model]} - {None}:
            for near in (moment - 1, moment, moment + 1):
                for known in self._roots.get((model, near, row[CALL.input_tokens]), ()):
                    if self._is_pair(known, row) and is_same_root(known.row, known.scopes, row):
                        return known
        return None

    def _is_pair(self, known: _Known, row: Row) -> bool:
        """Return whether one of two rows is LangChain's and the other a client's."""
        are_langchain = {self._is_langchain(each[CALL.scope]) for each in (known.row, row)}
        return len(are_langchain) == 2

    def _is_langchain(self, scope: int) -> bool:
        return any(name.endswith(_LANGCHAIN) for name in self._texts({scope}))

    def _sums_up(self, known: _Known, row: Row) -> bool:
        """Return whether a known row is the sum of a new one and perhaps others."""
        if self._is_aggregate(known.row):
            return self._holds(known.row, row)
        if known.row[CALL.span_id] != row[CALL.parent_span_id]:
            return False
        siblings = [
            each.row
            for each in self._by_trace[row[CALL.trace_id]]
            if each.row[CALL.parent_span_id] == row[CALL.parent_span_id]
        ]
        return is_sum(known.row, [*siblings, row])

    def _holds(self, total: Row, row: Row) -> bool:
        """Return whether an aggregate has the use of a row in it."""
        may_be_in = self._is_aggregate(row) or row[CALL.operation] in self._inferences
        is_below = self._ancestry.is_below(row, total) if may_be_in else False
        if covers(total, row, self._model_names, is_below=is_below):
            return True
        is_agent = total[CALL.operation] == self._agent
        return not is_agent and not self._is_aggregate(row) and repeats(total, row)

    def _add_aggregate(self, position: int, row: Row) -> None:
        """Leave a sum out whose calls are known, and remember any other."""
        family = self._by_trace.get(row[CALL.trace_id], ())
        part = next((each for each in family if self._holds(row, each.row)), None)
        if part is not None:
            self._left_out.add(position)
            self._merged.append((row, part))
            return
        self._add_part(position, row)

    def _add_part(self, position: int, row: Row) -> None:
        """Add a row, which replaces what sums it up."""
        family = self._by_trace.get(row[CALL.trace_id], ())
        total = next((each for each in family if self._sums_up(each, row)), None)
        if total is None:
            self._index(_Known(row, None, position))
        else:
            self._take_over(total, position, row)

    def _is_aggregate(self, row: Row) -> bool:
        return bool(row[CALL.origin] == self._aggregate)

    def _model_names(self, row: Row) -> set[str]:
        """Return the names of a row's models, without provider and date."""
        labels = {row[CALL.request_model], row[CALL.response_model]}
        return set(map(bare_model, self._texts(labels)))

    def _texts(self, labels: set[int | None]) -> set[str]:
        """Return what labels stand for."""
        known = {label for label in labels if label is not None}
        unknown = sorted(known - self._names.keys())
        if unknown:
            transaction = self._transaction
            found = transaction.statements.select(
                transaction.session, columns.LABEL, ("id", "value"), "id", unknown
            )
            self._names |= dict(found)
        return {self._names[label] for label in known if label in self._names}

    def _candidates(self, row: Row) -> list[_Known]:
        key = row[CALL.response_key]
        found = list(self._by_key.get(key, ())) if key is not None else []
        same_trace = self._by_trace.get(row[CALL.trace_id], ())
        return [
            *found,
            *(each for each in same_trace if each not in found),
        ]

    def _rank(self, row: Row) -> tuple[bool, bool, int, bool]:
        """Return how much a row tells."""
        reported = sum(bool(row[part]) for part in _PARTS)
        has_id = row[CALL.response_id] is not None
        is_ours = row[CALL.scope] == self._ours
        return is_ours, has_usage(row), reported, has_id

    def _take_over(self, duplicate: _Known, position: int, row: Row) -> None:
        """Let a row replace one that tells less, in the ledger or in this batch."""
        self._merged.append((duplicate.row, duplicate))
        self._replace(duplicate, position, row)

    def _replace(self, duplicate: _Known, position: int, row: Row) -> None:
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
        # An agent's span is a step of its own already.
        merged = [
            (row, known.row) for row, known in self._merged if row[CALL.operation] != self._agent
        ]
        return DedupPlan(insert, replace, merged)


def stored_row(values: Sequence[Any]) -> Row:
    """Return a row read from the database in the shape of `CallRows.row`.

    psycopg gives binary values as memory views, which do not compare with bytes.
    """
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in values)


def _span(row: Row) -> SpanKey:
    return row[CALL.trace_id], row[CALL.span_id]
