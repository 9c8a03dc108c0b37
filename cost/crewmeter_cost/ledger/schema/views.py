"""What people and Grafana read.

Plain columns, names as text, money in USD, durations in seconds, `time` in unix seconds.

Money here is floating point, for charts only; exact amounts come from `crewmeter report` and
`export`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Float, and_, case, cast, func, literal, null, select, union_all
from sqlalchemy.dialects import registry

from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.schema.report_columns import COLUMNS
from crewmeter_cost.ledger.schema.rollup_dimensions import DIMENSIONS, LATENCY
from crewmeter_cost.money import PICO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import (
        ColumnElement,
        CompoundSelect,
        Dialect,
        FromClause,
        Select,
        SelectBase,
        Table,
    )

__all__ = ["SECOND_NS", "detail_selects", "view_definitions"]

SECOND_NS = 1_000_000_000
_CONTEXT = ("crew", "flow", "task", "agent", "tool", "user", "team", "session")
_STEP_CONTEXT = ("kind", "name", "crew", "flow", "task", "agent")
_RUN_NAMES = ("name", "service", "environment", "team", "user", "session")

_CALL = core_tables.call
_RUN = core_tables.run
_STEP = core_tables.step
_LABEL = core_tables.label
_TAGS = core_tables.tag_set
_ROLLUP = core_tables.rollup_hour
_BUCKET = core_tables.latency_bucket
_LATENCY_HOUR = core_tables.latency_hour
_LATENCY_DAY = core_tables.latency_day


class _Named:
    """A table with the names behind its label columns joined on, one join per column."""

    def __init__(self, table: FromClause) -> None:
        self.joined: FromClause = table

    def name(self, reference: ColumnElement[Any], label: str) -> ColumnElement[Any]:
        """Return the text behind a label reference, as column `label`."""
        names = _LABEL.alias(f"{label}_name")
        self.joined = self.joined.outerjoin(
            names,
            names.c.id == reference,
        )
        return names.c.value.label(label)


def _time(nanoseconds: ColumnElement[int]) -> ColumnElement[int]:
    return (nanoseconds // SECOND_NS).label("time")


def _milliseconds(nanoseconds: ColumnElement[int]) -> ColumnElement[int]:
    """For waterfalls, where a second is too coarse."""
    return (nanoseconds // 1_000_000).label("started_ms")


def _seconds(nanoseconds: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(nanoseconds, Float) / 1e9


def _usd(pusd: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(pusd, Float) / float(PICO)


def _whole(table: Table) -> ColumnElement[Any]:
    """Return the cost of a sum that is stored in two columns."""
    total: ColumnElement[Any] = table.c.cost_whole_usd + _usd(table.c.cost_pusd)
    return total


def _hex(column: ColumnElement[bytes], backend: str) -> ColumnElement[str]:
    text: ColumnElement[str] = (
        func.encode(column, "hex") if backend == "postgresql" else func.lower(func.hex(column))
    )
    # SQLite says '' for the hex of NULL
    return case(
        (column.is_not(None), text),
        else_=null(),
    ).label(column.name)


def _calls(backend: str) -> Select[Any]:
    c = _CALL.c
    runs = _RUN.alias("of_run")
    named = _Named(
        _CALL.outerjoin(runs, runs.c.id == c.run).outerjoin(_TAGS, _TAGS.c.id == c.tag_set)
    )
    columns: list[Any] = [
        _time(c.started_ns),
        _hex(c.trace_id, backend),
        _hex(c.span_id, backend),
        _hex(c.parent_span_id, backend),
        runs.c.run_id,
        named.name(c.operation, "operation"),
        named.name(c.origin, "origin"),
        named.name(c.provider, "provider"),
        named.name(func.coalesce(c.request_model, c.response_model), "model"),
        *(named.name(c[name], name) for name in ("request_model", "response_model", *_CONTEXT)),
        _TAGS.c.tags,
        *(named.name(c[name], name) for name in ("service", "environment")),
        case((c.state == 0, "ok"), else_="error").label("status"),
        *(named.name(c[name], name) for name in ("error_type", "finish_reason")),
        _seconds(c.duration_ns).label("duration_seconds"),
        _seconds(c.ttft_ns).label("ttft_seconds"),
        c.input_tokens,
        c.cache_read_tokens,
        (c.cache_write_5m_tokens + c.cache_write_1h_tokens).label("cache_write_tokens"),
        c.output_tokens,
        c.reasoning_tokens,
        _usd(c.cost_pusd).label("cost_usd"),
        named.name(c.cost_status, "cost_status"),
        _usd(c.reported_cost_pusd).label("reported_cost_usd"),
        case((and_(c.cost_pusd.is_(None), c.state != 2), 1), else_=0).label("unpriced"),
        _milliseconds(c.started_ns),
    ]
    return select(*columns).select_from(named.joined)


def _runs(_backend: str) -> Select[Any]:
    c = _RUN.c
    named = _Named(_RUN)
    columns: list[Any] = [
        _time(c.started_ns),
        c.run_id,
        _hex(c.trace_id, _backend),
        c.kind,
        *(
            named.name(c[name], name)
            for name in ("name", "service", "environment", "team", "user", "session")
        ),
        c.status,
        named.name(c.error_type, "error_type"),
        _seconds(c.duration_ns).label("duration_seconds"),
        c.calls,
        c.failed_calls,
        c.unpriced_calls,
        c.tool_calls,
        c.failed_tool_calls,
        c.input_tokens,
        c.output_tokens,
        _whole(_RUN).label("cost_usd"),
    ]
    return select(*columns).select_from(named.joined)


def _steps(backend: str) -> Select[Any]:
    c = _STEP.c
    runs = _RUN.alias("of_run")
    named = _Named(
        _STEP.outerjoin(
            runs,
            runs.c.id == c.run,
        )
    )
    columns: list[Any] = [
        _time(c.started_ns),
        _hex(c.trace_id, backend),
        _hex(c.span_id, backend),
        _hex(c.parent_span_id, backend),
        runs.c.run_id,
        *(named.name(c[name], name) for name in ("kind", "name", "crew", "flow", "task", "agent")),
        case((c.state == 0, "ok"), (c.state == 1, "error"), else_="abandoned").label("status"),
        named.name(c.error_type, "error_type"),
        _seconds(c.duration_ns).label("duration_seconds"),
        c.details,
        _milliseconds(c.started_ns),
    ]
    return select(*columns).select_from(named.joined)


def _hourly(name: str) -> Select[Any]:
    """Return the view of one roll-up.

    Its keys by name, then the summed columns of reports.
    """
    c = _ROLLUP.c
    dimension = DIMENSIONS[name]
    named = _Named(_ROLLUP)
    keys = [
        named.name(c[column], key)
        for column, key in (("key", dimension.key), ("key2", dimension.key2))
        if key is not None
    ]
    columns: list[Any] = [
        c.hour.label("time"),
        *keys,
        *(c[column.name] for column in COLUMNS if column.summed),
        _whole(_ROLLUP).label("cost_usd"),
        _seconds(c.duration_ns).label("duration_seconds"),
    ]
    return select(*columns).select_from(named.joined).where(c.dimension == dimension.code)


def _latency(table: Table, start: str) -> CompoundSelect[Any]:
    """Return the counts of every dimension, one arm each.

    A condition such as `dimension = 'model'` is then a constant in each arm, and switches off all
    arms but one before a row is read.
    """
    return union_all(
        *(
            _latency_of(
                table,
                start,
                name,
                code,
            )
            for name, code in LATENCY.items()
        )
    )


def _latency_of(table: Table, start: str, dimension: str, code: int) -> Select[Any]:
    c = table.c
    named = _Named(
        table.join(
            _BUCKET,
            _BUCKET.c.bucket == c.bucket,
        )
    )
    key = named.name(c.key, "key")
    columns: list[Any] = [
        c[start].label("time"),
        literal(dimension).label("dimension"),
        key,
        _BUCKET.c.le_seconds,
        c["count"],
    ]
    return select(*columns).select_from(named.joined).where(c.dimension == code)


def detail_selects(backend: str) -> Mapping[str, Select[Any]]:
    """Name → query of the views that have one row a call, run or step.

    The dialect is ``sqlite`` or ``postgresql``.
    """
    return {
        "calls": _calls(backend),
        "runs": _runs(backend),
        "steps": _steps(backend),
    }


def view_definitions(backend: str) -> Mapping[str, str]:
    """View name → its ``CREATE VIEW`` statement for ``sqlite`` or ``postgresql``."""
    selects: dict[str, SelectBase] = {
        **detail_selects(backend),
        **{f"{name}_hourly": _hourly(name) for name in DIMENSIONS},
        "latency_hourly": _latency(_LATENCY_HOUR, "hour"),
        "latency_daily": _latency(_LATENCY_DAY, "day"),
    }
    dialect: Dialect = registry.load(backend)()
    compiled = {
        name: str(
            query.compile(
                dialect=dialect,
                compile_kwargs={"literal_binds": True},
            )
        )
        for name, query in selects.items()
    }
    return {name: f"CREATE VIEW {name} AS {sql}" for name, sql in compiled.items()}
