"""What is copied: each mirror table's columns, key and ledger query.

Every row carries a fingerprint: one number out of all columns of the ledger's own row, computed by
the ledger's database. Two rows with one key and one fingerprint are the same row, and equal sums
of fingerprints per slice of time mean equal slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Integer, Text, case, cast, func, select

from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.rollup_dimensions import DAY, DIMENSIONS, HOUR, LATENCY
from crewmeter_cost.ledger.schema.views import SECOND_NS, detail_selects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Select, Table

__all__ = ["MirrorTable", "mirrored_tables"]

_MODULUS = 2**31 - 1
"""Keeps a fingerprint below 2³¹, so that the sum over a slice fits 64 bits in every database."""
_STEP = 7919
"""Columns weigh 1, 1 + 7919, 1 + 2 × 7919 …: two values exchanged change the fingerprint."""
_SLICE = 600
"""Seconds of detail compared as one."""

_COUNT = "Int64"
_MAYBE = "Nullable(Int64)"
_REAL = "Float64"
_REAL_MAYBE = "Nullable(Float64)"
_ID = "String"
_TEXT = "Nullable(String)"
_NAME = "LowCardinality(Nullable(String))"

_CALLS: Mapping[str, str] = {
    "time": _COUNT,
    "trace_id": _ID,
    "span_id": _ID,
    "parent_span_id": _TEXT,
    "run_id": _TEXT,
    **dict.fromkeys(
        ("operation", "origin", "provider", "model", "request_model", "response_model"), _NAME
    ),
    **dict.fromkeys(
        ("crew", "flow", "task", "agent", "tool", "team", "service", "environment"), _NAME
    ),
    **dict.fromkeys(("user", "session", "tags"), _TEXT),
    **dict.fromkeys(("status", "error_type", "finish_reason", "cost_status"), _NAME),
    "duration_seconds": _REAL,
    "ttft_seconds": _REAL_MAYBE,
    **dict.fromkeys(
        (
            "input_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
            "output_tokens",
            "reasoning_tokens",
        ),
        _MAYBE,
    ),
    "cost_pusd": _MAYBE,
    "reported_cost_pusd": _MAYBE,
    "unpriced": _COUNT,
    "started_ms": _COUNT,
}
_RUNS: Mapping[str, str] = {
    "time": _COUNT,
    "run_id": _ID,
    "trace_id": _ID,
    **dict.fromkeys(("kind", "name", "service", "environment", "team"), _NAME),
    "user": _TEXT,
    "session": _TEXT,
    "status": _NAME,
    "error_type": _NAME,
    "duration_seconds": _REAL_MAYBE,
    **dict.fromkeys(
        ("calls", "failed_calls", "unpriced_calls", "tool_calls", "failed_tool_calls"), _COUNT
    ),
    **dict.fromkeys(("input_tokens", "output_tokens", "cost_whole_usd", "cost_pusd"), _COUNT),
}
_STEPS: Mapping[str, str] = {
    "time": _COUNT,
    "trace_id": _ID,
    "span_id": _ID,
    "parent_span_id": _TEXT,
    "run_id": _TEXT,
    **dict.fromkeys(
        ("kind", "name", "crew", "flow", "task", "agent", "status", "error_type"), _NAME
    ),
    "duration_seconds": _REAL,
    "details": _TEXT,
    "started_ms": _COUNT,
}
_SUMS = (
    "calls",
    "failed_calls",
    "unpriced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_whole_usd",
    "cost_pusd",
    "duration_ns",
)
_ROLLUPS: Mapping[str, str] = {
    "dimension": "LowCardinality(String)",
    "time": _COUNT,
    "key_id": _COUNT,
    "key2_id": _COUNT,
    "key": _TEXT,
    "key2": _TEXT,
    **dict.fromkeys(_SUMS, _COUNT),
}
_LATENCIES: Mapping[str, str] = {
    "dimension": "LowCardinality(String)",
    "time": _COUNT,
    "key_id": _COUNT,
    "bucket": _COUNT,
    "key": _TEXT,
    "le_seconds": _REAL,
    "count": _COUNT,
}


@dataclass(frozen=True, slots=True)
class MirrorTable:
    """One table of the mirror.

    `key` sorts it and identifies its rows. `rows` gives `columns` and ``fingerprint``, in that
    order.
    """

    name: str
    columns: Mapping[str, str]
    """Column → its type in ClickHouse."""
    key: tuple[str, ...]
    rows: Select[Any]
    source: Table
    time: ColumnElement[int]
    """Unix seconds, in the ledger."""
    fingerprint: ColumnElement[int]
    slice_seconds: int
    pruned: bool
    """Whether `crewmeter prune` deletes from it."""


def _fingerprint(table: Table) -> ColumnElement[int]:
    """Return one number over every column of a row but its id.

    Texts count by their length, since they are set once or grow.
    """
    total: ColumnElement[int] | None = None
    columns = [column for column in table.columns if column.name != "id"]
    for number, column in enumerate(columns):
        value: ColumnElement[Any] = column
        if isinstance(column.type, Text):
            value = func.length(column)
        elif not isinstance(column.type, Integer):
            continue  # trace and span ids are the key
        bounded = (
            cast(
                func.coalesce(value, -1),
                BigInteger,
            )
            % _MODULUS
        )
        term = bounded * (1 + number * _STEP)
        total = term if total is None else total + term
    if total is None:
        raise ValueError(f"table {table.name} has no column to compare")
    return (total % _MODULUS).label("fingerprint")


def _detail(
    name: str, table: Table, columns: Mapping[str, str], key: Sequence[str], backend: str
) -> MirrorTable:
    view = detail_selects(backend)[name]
    known = {column.name: column for column in view.selected_columns}
    own = [known[column] if column in known else table.c[column] for column in columns]
    fingerprint = _fingerprint(table)
    return MirrorTable(
        name=f"{name}_copy",
        columns=columns,
        key=("time", *key),
        rows=view.with_only_columns(*own, fingerprint),
        source=table,
        time=table.c.started_ns // SECOND_NS,
        fingerprint=fingerprint,
        slice_seconds=_SLICE,
        pruned=True,
    )


def _rollups() -> MirrorTable:
    table = core_tables.rollup_hour
    key = core_tables.label.alias("key_name")
    key2 = core_tables.label.alias("key2_name")
    c = table.c
    fingerprint = _fingerprint(table)
    source = table.outerjoin(
        key,
        key.c.id == c.key,
    )
    source = source.outerjoin(
        key2,
        key2.c.id == c.key2,
    )
    dimension = case(
        {each.code: name for name, each in DIMENSIONS.items()},
        value=c.dimension,
    )
    rows = select(
        dimension.label("dimension"),
        c.hour.label("time"),
        c.key.label("key_id"),
        c.key2.label("key2_id"),
        key.c.value.label("key"),
        key2.c.value.label("key2"),
        *(c[name] for name in _SUMS),
        fingerprint,
    )
    return MirrorTable(
        name="rollup_copy",
        columns=_ROLLUPS,
        key=("dimension", "time", "key_id", "key2_id"),
        rows=rows.select_from(source),
        source=table,
        time=c.hour,
        fingerprint=fingerprint,
        slice_seconds=HOUR,
        pruned=False,
    )


def _latencies(name: str, table: Table, start: str, slice_seconds: int) -> MirrorTable:
    key = core_tables.label.alias("key_name")
    bound = core_tables.latency_bucket
    c = table.c
    fingerprint = _fingerprint(table)
    source = table.join(
        bound,
        bound.c.bucket == c.bucket,
    )
    source = source.outerjoin(
        key,
        key.c.id == c.key,
    )
    dimension = case(
        {code: each for each, code in LATENCY.items()},
        value=c.dimension,
    )
    rows = select(
        dimension.label("dimension"),
        c[start].label("time"),
        c.key.label("key_id"),
        c.bucket,
        key.c.value.label("key"),
        bound.c.le_seconds,
        c["count"],
        fingerprint,
    )
    return MirrorTable(
        name=f"{name}_copy",
        columns=_LATENCIES,
        key=("dimension", "time", "key_id", "bucket"),
        rows=rows.select_from(source),
        source=table,
        time=c[start],
        fingerprint=fingerprint,
        slice_seconds=slice_seconds,
        pruned=False,
    )


def mirrored_tables(backend: str) -> tuple[MirrorTable, ...]:
    """Return every mirror table for ``sqlite`` or ``postgresql``.

    Detail comes first, so that sums never run ahead of it.
    """
    return (
        _detail("calls", core_tables.call, _CALLS, ("trace_id", "span_id"), backend),
        _detail("steps", core_tables.step, _STEPS, ("trace_id", "span_id"), backend),
        _detail("runs", core_tables.run, _RUNS, ("run_id",), backend),
        _rollups(),
        _latencies("latency_hourly", core_tables.latency_hour, "hour", HOUR),
        _latencies("latency_daily", core_tables.latency_day, "day", DAY),
    )
