"""The mirror's tables and views, with the names and columns of the ledger's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crewmeter_cost.clickhouse.mirrored_tables import MirrorTable

__all__ = ["statements"]

_EXACT_SUM = f"toInt128(cost_whole_usd) * {PICO} + cost_pusd"
_FLOAT_SUM = f"cost_whole_usd + cost_pusd / {PICO}"
_HOURLY = (
    "calls, failed_calls, unpriced_calls, input_tokens, cache_read_tokens, cache_write_tokens, "
    "output_tokens, reasoning_tokens,\n"
    f"  {_FLOAT_SUM} AS cost_usd, duration_ns / 1000000000 AS duration_seconds, {_EXACT_SUM} AS "
    "cost_exact_pusd"
)


def statements(tables: Sequence[MirrorTable]) -> Iterator[str]:
    """Return the statements that create the mirror, harmless when run again."""
    for table in tables:
        yield _table(table)
    detail = {table.name: table for table in tables}
    yield _detail_view(
        "calls", detail["calls_copy"], ("cost_pusd", "reported_cost_pusd"), _call_money()
    )
    yield _detail_view(
        "runs",
        detail["runs_copy"],
        ("cost_whole_usd", "cost_pusd"),
        _sum_money(),
    )
    yield _detail_view("steps", detail["steps_copy"], (), "")
    for name, dimension in DIMENSIONS.items():
        keys = [
            f'{column} AS "{key}"'
            for column, key in (("key", dimension.key), ("key2", dimension.key2))
            if key is not None
        ]
        columns = ", ".join(["time", *keys])
        yield _view(
            f"{name}_hourly",
            f"{columns}, {_HOURLY}\nFROM rollup_copy FINAL WHERE dimension = '{name}'",
        )
    for name in ("latency_hourly", "latency_daily"):
        yield _view(name, f"time, dimension, key, le_seconds, count FROM {name}_copy FINAL")


def _table(table: MirrorTable) -> str:
    """Return a table's DDL.

    Sorted by time, so that a range reads its own rows only. The newest version of a key counts, a
    removed one not at all.
    """
    columns = [f'"{name}" {kind}' for name, kind in table.columns.items()]
    columns += ["fingerprint Int64", "version UInt64", "removed UInt8"]
    body = ",\n  ".join(columns)
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name} (\n  {body}\n) ENGINE = "
        "ReplacingMergeTree(version, removed)\n"
        f"PARTITION BY toYear(toDateTime(time, 'UTC')) ORDER BY ({', '.join(table.key)})"
    )


def _call_money() -> str:
    return (
        f", cost_pusd / {PICO} AS cost_usd, reported_cost_pusd / {PICO} AS reported_cost_usd"
        ", toInt128(cost_pusd) AS cost_exact_pusd, toInt128(reported_cost_pusd) AS "
        "reported_cost_exact_pusd"
    )


def _sum_money() -> str:
    return f", {_FLOAT_SUM} AS cost_usd, {_EXACT_SUM} AS cost_exact_pusd"


def _detail_view(name: str, table: MirrorTable, hidden: tuple[str, ...], money: str) -> str:
    columns = ", ".join(f'"{column}"' for column in table.columns if column not in hidden)
    return _view(
        name,
        f"{columns}{money}\nFROM {table.name} FINAL",
    )


def _view(name: str, query: str) -> str:
    return f"CREATE OR REPLACE VIEW {name} AS SELECT {query}"
