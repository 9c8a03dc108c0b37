"""Match calls that two instrumentors report.

One call is billed once, in the words of ours.

Two spans of one scope with one response id are two calls (a provider, or a cache before it, repeats
itself). Two spans of different scopes with one response id are the same call seen twice. Our own
tracer knows more about a call's context than any other instrumentor, so its row replaces a foreign
one. Between foreign ones, the first stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crewmeter.semconv import SCOPE
from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.write.rows import CALL, CALL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.ledger.write.transaction import Transaction

__all__ = ["DedupPlan", "plan", "stored_row"]

RANDOM_ID_LENGTH = 20
"""A response id this long is random enough to be one call's whatever provider either instrumentor
names (Azure is often called openai). Shorter ones (`1`, `cmpl-7` of a local server) count per
provider."""

Positioned = tuple[int, "Row"]
"""A row, and its call's position in the batch."""


@dataclass(slots=True)
class _Known:
    """A call in the ledger (id `number`) or earlier in the batch (`position`)."""

    row: Row
    number: int | None
    position: int = -1


@dataclass(slots=True)
class DedupPlan:
    """What to do with a batch's calls."""

    insert: list[Positioned] = field(default_factory=list)
    replace: list[tuple[int, Row, Row]] = field(default_factory=list)
    """(id, row as it is stored, our row that replaces it)."""


def plan(transaction: Transaction, rows: list[Positioned]) -> DedupPlan:
    """Sort a batch into new calls and replacements of another instrumentor's.

    Calls that are known already are left out.
    """
    if not transaction.remembered.several_scopes:
        return DedupPlan(insert=rows)
    keys = {row[CALL.response_key] for _, row in rows} - {None}
    matching = _Matching(transaction.labels.of["scope"][SCOPE], _stored(transaction, keys))
    for position, row in rows:
        matching.add(position, row)
    return matching.plan(rows)


class _Matching:
    """One batch being matched with the calls that are known."""

    def __init__(self, ours: int, known: dict[int, list[_Known]]) -> None:
        self._ours = ours
        self._known = known
        self._dropped: set[int] = set()
        self._replace: dict[int, tuple[int, Row, Row]] = {}

    def add(self, position: int, row: Row) -> None:
        """Match one row. Rows without a response id are nobody's duplicate."""
        key = row[CALL.response_key]
        if key is None:
            return
        same_key = self._known.setdefault(key, [])
        if any(_span(each.row) == _span(row) for each in same_key):
            return  # a replay: the insert will ignore it
        duplicate = next((each for each in same_key if _same_call(each.row, row)), None)
        if duplicate is None:
            same_key.append(_Known(row, None, position))
        elif row[CALL.scope] != self._ours:
            self._dropped.add(position)
        else:
            self._take_over(duplicate, position, row)

    def _take_over(self, duplicate: _Known, position: int, row: Row) -> None:
        """Let our row replace a foreign one, in the ledger or in this batch."""
        if duplicate.number is None:
            self._dropped.add(duplicate.position)
            duplicate.position = position
        else:
            self._replace[position] = (duplicate.number, duplicate.row, row)
        duplicate.row = row

    def plan(self, rows: list[Positioned]) -> DedupPlan:
        """Return what is to be done."""
        left_out = self._dropped | self._replace.keys()
        insert = [(position, row) for position, row in rows if position not in left_out]
        return DedupPlan(insert, list(self._replace.values()))


def stored_row(values: Sequence[Any]) -> Row:
    """Return a row read from the database in the shape of `CallRows.row`.

    Binary as bytes.
    """
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in values)


def _stored(transaction: Transaction, keys: set[int]) -> dict[int, list[_Known]]:
    known: dict[int, list[_Known]] = {}
    names = ("id", *CALL_COLUMNS)
    found = transaction.statements.select(
        transaction.session, columns.CALL, names, "response_key", sorted(keys)
    )
    for number, *values in found:
        row = stored_row(values)
        known.setdefault(row[CALL.response_key], []).append(_Known(row, number))
    return known


def _span(row: Row) -> tuple[bytes, bytes]:
    return row[CALL.trace_id], row[CALL.span_id]


def _same_call(one: Row, other: Row) -> bool:
    if one[CALL.scope] == other[CALL.scope]:
        return False
    text = one[CALL.response_id]
    if text != other[CALL.response_id]:
        return False  # two ids with one hash
    providers = {one[CALL.provider], other[CALL.provider]}
    return len(providers) == 1 or None in providers or len(text) >= RANDOM_ID_LENGTH
