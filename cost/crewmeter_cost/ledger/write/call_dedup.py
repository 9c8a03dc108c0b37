"""One call reported by two instrumentors is one call: found by its response id, kept as ours tells it.

Two spans of one scope with one response id are two calls (a provider, or a cache before it, repeats itself). Two spans of
different scopes with one are the same call seen twice. Our own tracer knows more about a call's place than any other
instrumentor, so its row replaces a foreign one; between foreign ones, the first stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from crewmeter.semconv import SCOPE
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.rows import CALL, CALL_COLUMNS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from crewmeter_cost.ledger.write.dimensions import Labels
    from crewmeter_cost.ledger.write.rows import Row

__all__ = ["DedupPlan", "settle", "stored_row"]

TELLING = 20
"""A response id this long is random enough to be one call's whatever provider either instrumentor names (Azure is
often called openai); shorter ones (``1``, ``cmpl-7`` of a local server) count per provider."""

_CALL, _LABEL = core_tables.call, core_tables.label
_CHUNK = 1000
_SCOPES = select(func.count()).where(_LABEL.c.kind == "scope")
Positioned = tuple[int, "Row"]


@dataclass(slots=True)
class _Known:
    """A call that is in the ledger (`number` is its id) or earlier in the batch (`position`)."""

    row: Row
    number: int | None
    position: int = -1


@dataclass(slots=True)
class DedupPlan:
    """What to do with a batch's calls."""

    insert: list[Positioned] = field(default_factory=list)
    replace: list[tuple[int, Row, Row]] = field(default_factory=list)
    """(id, row as it stands, row of ours to stand instead)."""


def settle(connection: Connection, labels: Labels, rows: list[Positioned]) -> DedupPlan:
    """Sort a batch's rows into new calls, calls that replace another instrumentor's, and (left out) calls already known."""
    if not _several_scopes(connection):
        return DedupPlan(insert=rows)
    ours = labels.of["scope"][SCOPE]
    known = _stored(
        connection,
        {row[CALL.response_key] for _, row in rows if row[CALL.response_key] is not None},
    )
    dropped: set[int] = set()
    replace: dict[int, tuple[int, Row, Row]] = {}
    for position, row in rows:
        key = row[CALL.response_key]
        if key is None:
            continue
        mates = known.setdefault(key, [])
        if any(_span(mate.row) == _span(row) for mate in mates):
            continue  # a replay: the insert will ignore it
        duplicates = [
            mate
            for mate in mates
            if mate.row[CALL.scope] != row[CALL.scope] and _same_call(mate.row, row)
        ]
        if not duplicates:
            mates.append(_Known(row, None, position))
        elif row[CALL.scope] != ours:
            dropped.add(position)
        else:
            duplicate = duplicates[0]
            if duplicate.number is None:  # both are in this batch: only ours goes in
                dropped.add(duplicate.position)
                duplicate.position = position
            else:
                replace[position] = (duplicate.number, duplicate.row, row)
            duplicate.row = row
    kept = [
        (position, row)
        for position, row in rows
        if position not in dropped and position not in replace
    ]
    return DedupPlan(kept, list(replace.values()))


def _several_scopes(connection: Connection) -> bool:
    """Whether more than one instrumentor ever wrote here; most ledgers know one, and are spared the look-ups."""
    return int(connection.execute(_SCOPES).scalar_one()) > 1


def stored_row(values: Any) -> Row:
    """A row read from the database in the shape `CallRows.row` makes: binary columns as bytes."""
    return tuple(bytes(value) if isinstance(value, memoryview) else value for value in values)


def _stored(connection: Connection, keys: set[int]) -> dict[int, list[_Known]]:
    known: dict[int, list[_Known]] = {}
    columns = [_CALL.c[name] for name in CALL_COLUMNS]
    wanted = sorted(keys)
    for start in range(0, len(wanted), _CHUNK):
        query = (
            select(_CALL.c.id, *columns)
            .where(_CALL.c.response_key.in_(wanted[start : start + _CHUNK]))
            .order_by(_CALL.c.id)
        )
        for number, *values in connection.execute(query):
            row = stored_row(values)
            known.setdefault(row[CALL.response_key], []).append(_Known(row, number))
    return known


def _span(row: Row) -> tuple[bytes, bytes]:
    return row[CALL.trace_id], row[CALL.span_id]


def _same_call(one: Row, other: Row) -> bool:
    text = one[CALL.response_id]
    if text != other[CALL.response_id]:
        return False  # two ids with one hash
    providers = {one[CALL.provider], other[CALL.provider]}
    return len(providers) == 1 or None in providers or len(text) >= TELLING
