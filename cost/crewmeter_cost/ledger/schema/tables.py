"""The ledger's tables.

Ids are binary, times nanoseconds since 1970, money integer pico-USD, names label ids.

Rows are narrow on purpose: a name stands once in `label`, a price once in `price_version`, a tag
set once in `tag_set`. People and Grafana read the views (`views.py`), never these tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = [
    "Adjustment",
    "BudgetAccount",
    "BudgetLease",
    "BudgetNotice",
    "BudgetRow",
    "CallRow",
    "Label",
    "LatencyBucket",
    "LatencyDay",
    "LatencyHour",
    "PriceVersion",
    "Repricing",
    "RollupHour",
    "RunRow",
    "StateRow",
    "StepRow",
    "TagSet",
    "table_of",
]

PK = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite only auto-numbers a column declared INTEGER; PostgreSQL wants 64 bits."""


def table_of(model: type[SQLModel]) -> Table:
    """The SQLAlchemy table of a table model, for Core statements."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


def _big(*, nullable: bool = False, default: int | None = None) -> Column[int]:
    return Column(
        BigInteger, nullable=nullable, server_default=None if default is None else str(default)
    )


def _count() -> Column[int]:
    return Column(Integer, nullable=False, server_default="0")


def _flag() -> Column[int]:
    return Column(SmallInteger, nullable=False)


def _time_index(name: str) -> Index:
    """An index on whole unix seconds, the `time` column of the views.

    Grafana's time filters use it as they stand.
    """
    return Index(name, text("(started_ns / 1000000000)"))


def _label(*, nullable: bool = True) -> Column[int]:
    """A reference into `label`.

    No declared foreign key: checking two dozen a row would halve the intake, and labels stay.
    """
    return Column(Integer, nullable=nullable)


class Label(SQLModel, table=True):
    """Every name in the ledger, once per kind.

    Kinds are `provider`, `model`, `crew`, `agent`, `team`, `tag` (as `key=value`) and so on.
    """

    __tablename__ = "label"
    __table_args__ = (UniqueConstraint("kind", "value"),)
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    kind: str = Field(sa_column=Column(Text, nullable=False))
    value: str = Field(sa_column=Column(Text, nullable=False))


class TagSet(SQLModel, table=True):
    """A set of tags as canonical JSON (sorted keys), shared by all its rows."""

    __tablename__ = "tag_set"
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    tags: str = Field(sa_column=Column(Text, nullable=False, unique=True))


class PriceVersion(SQLModel, table=True):
    """Rates as they were when a charge was made.

    Append-only; `hash` is the content hash of provider, model and rates.
    """

    __tablename__ = "price_version"
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    hash: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    source: str = Field(sa_column=Column(Text, nullable=False))
    provider: str = Field(sa_column=Column(Text, nullable=False))
    model: str = Field(sa_column=Column(Text, nullable=False))
    rates: str = Field(sa_column=Column(Text, nullable=False))
    created_ns: int = Field(sa_column=_big())


class RunRow(SQLModel, table=True):
    """One run (the outermost crew, flow or agent) and its running totals."""

    __tablename__ = "run"
    __table_args__ = (_time_index("run_time"),)
    id: int | None = Field(default=None, sa_column=Column(PK, primary_key=True))
    run_id: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    trace_id: bytes = Field(sa_column=Column(LargeBinary(16), nullable=False))
    kind: str | None = Field(default=None, sa_column=Column(Text))
    name: int | None = Field(default=None, sa_column=_label())
    service: int | None = Field(default=None, sa_column=_label())
    environment: int | None = Field(default=None, sa_column=_label())
    team: int | None = Field(default=None, sa_column=_label())
    user: int | None = Field(default=None, sa_column=_label())
    session: int | None = Field(default=None, sa_column=_label())
    tag_set: int | None = Field(default=None, sa_column=Column(Integer))
    status: str = Field(
        default="running", sa_column=Column(Text, nullable=False, server_default="running")
    )
    error_type: int | None = Field(default=None, sa_column=_label())
    started_ns: int = Field(sa_column=_big())
    duration_ns: int | None = Field(default=None, sa_column=_big(nullable=True))
    calls: int = Field(default=0, sa_column=_count())
    failed_calls: int = Field(default=0, sa_column=_count())
    unpriced_calls: int = Field(default=0, sa_column=_count())
    priced_calls: int = Field(default=0, sa_column=_count())
    tool_calls: int = Field(default=0, sa_column=_count())
    failed_tool_calls: int = Field(default=0, sa_column=_count())
    input_tokens: int = Field(default=0, sa_column=_big(default=0))
    output_tokens: int = Field(default=0, sa_column=_big(default=0))
    cost_whole_usd: int = Field(default=0, sa_column=_big(default=0))
    """A sum is whole dollars plus pico-dollars: pico-dollars alone overflow 64 bits at $9.2 M."""
    cost_pusd: int = Field(default=0, sa_column=_big(default=0))


class StepRow(SQLModel, table=True):
    """A node of a run's tree that is not billed itself.

    The run's root, tasks, agents, tools, memory queries …
    """

    __tablename__ = "step"
    __table_args__ = (
        Index("step_span", "trace_id", "span_id", unique=True),
        Index("step_run", "run"),
        _time_index("step_time"),
    )
    id: int | None = Field(default=None, sa_column=Column(PK, primary_key=True))
    trace_id: bytes = Field(sa_column=Column(LargeBinary(16), nullable=False))
    span_id: bytes = Field(sa_column=Column(LargeBinary(8), nullable=False))
    parent_span_id: bytes | None = Field(default=None, sa_column=Column(LargeBinary(8)))
    run: int | None = Field(default=None, sa_column=Column(PK))
    kind: int = Field(sa_column=_label(nullable=False))
    name: int | None = Field(default=None, sa_column=_label())
    crew: int | None = Field(default=None, sa_column=_label())
    flow: int | None = Field(default=None, sa_column=_label())
    task: int | None = Field(default=None, sa_column=_label())
    agent: int | None = Field(default=None, sa_column=_label())
    state: int = Field(sa_column=_flag())
    """0 ok, 1 error, 2 abandoned (`rows.StepState`)."""
    error_type: int | None = Field(default=None, sa_column=_label())
    started_ns: int = Field(sa_column=_big())
    duration_ns: int = Field(sa_column=_big())
    details: str | None = Field(default=None, sa_column=Column(Text))


class CallRow(SQLModel, table=True):
    """One billed call.

    `cost_pusd` is NULL exactly where `cost_status` says why there is no price.
    """

    __tablename__ = "call"
    __table_args__ = (
        Index("call_span", "trace_id", "span_id", unique=True),
        Index("call_response", "response_key"),
        _time_index("call_time"),
        Index("call_run", "run"),
    )
    id: int | None = Field(default=None, sa_column=Column(PK, primary_key=True))
    trace_id: bytes = Field(sa_column=Column(LargeBinary(16), nullable=False))
    span_id: bytes = Field(sa_column=Column(LargeBinary(8), nullable=False))
    parent_span_id: bytes | None = Field(default=None, sa_column=Column(LargeBinary(8)))
    run: int | None = Field(default=None, sa_column=Column(PK))
    started_ns: int = Field(sa_column=_big())
    duration_ns: int = Field(sa_column=_big())
    ttft_ns: int | None = Field(default=None, sa_column=_big(nullable=True))
    operation: int = Field(sa_column=_label(nullable=False))
    origin: int = Field(sa_column=_label(nullable=False))
    scope: int | None = Field(default=None, sa_column=_label())
    """The instrumentor.

    Two spans of different scopes with one (provider, response id) are one call; of the same scope,
    two.
    """
    provider: int | None = Field(default=None, sa_column=_label())
    host: int | None = Field(default=None, sa_column=_label())
    request_model: int | None = Field(default=None, sa_column=_label())
    response_model: int | None = Field(default=None, sa_column=_label())
    response_id: str | None = Field(default=None, sa_column=Column(Text))
    response_key: int | None = Field(default=None, sa_column=_big(nullable=True))
    """64-bit hash of `response_id`: an index on it is a quarter of the size of one on the text."""
    crew: int | None = Field(default=None, sa_column=_label())
    flow: int | None = Field(default=None, sa_column=_label())
    task: int | None = Field(default=None, sa_column=_label())
    agent: int | None = Field(default=None, sa_column=_label())
    tool: int | None = Field(default=None, sa_column=_label())
    user: int | None = Field(default=None, sa_column=_label())
    team: int | None = Field(default=None, sa_column=_label())
    session: int | None = Field(default=None, sa_column=_label())
    tag_set: int | None = Field(default=None, sa_column=Column(Integer))
    service: int | None = Field(default=None, sa_column=_label())
    environment: int | None = Field(default=None, sa_column=_label())
    state: int = Field(sa_column=_flag())
    """0 ok, 1 error, 2 rejected by the provider before it billed anything (`rows.CallState`)."""
    error_type: int | None = Field(default=None, sa_column=_label())
    finish_reason: int | None = Field(default=None, sa_column=_label())
    service_tier: int | None = Field(default=None, sa_column=_label())
    input_tokens: int | None = Field(default=None, sa_column=_big(nullable=True))
    cache_read_tokens: int | None = Field(default=None, sa_column=_big(nullable=True))
    cache_write_5m_tokens: int | None = Field(default=None, sa_column=_big(nullable=True))
    cache_write_1h_tokens: int | None = Field(default=None, sa_column=_big(nullable=True))
    output_tokens: int | None = Field(default=None, sa_column=_big(nullable=True))
    reasoning_tokens: int | None = Field(default=None, sa_column=_big(nullable=True))
    other_usage: str | None = Field(default=None, sa_column=Column(Text))
    """JSON of the rare buckets (audio, image, web searches, search units), NULL for most calls."""
    usage_status: int = Field(sa_column=_label(nullable=False))
    usage_flags: int | None = Field(default=None, sa_column=_label())
    cost_pusd: int | None = Field(default=None, sa_column=_big(nullable=True))
    cost_status: int = Field(sa_column=_label(nullable=False))
    cost_flags: int | None = Field(default=None, sa_column=_label())
    reported_cost_pusd: int | None = Field(default=None, sa_column=_big(nullable=True))
    price_version: int | None = Field(default=None, sa_column=Column(Integer))


class RollupHour(SQLModel, table=True):
    """Sums per hour for one `dimension` and its one or two keys.

    Keys are label ids, 0 for none.

    `dimension` is a code of `rollups.DIMENSIONS`. The primary key keeps one question's hours
    together on disk.
    """

    __tablename__ = "rollup_hour"
    __table_args__ = {"sqlite_with_rowid": False}
    dimension: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    hour: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    """Unix seconds of the hour's start (UTC)."""
    key: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    key2: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    calls: int = Field(sa_column=_big())
    failed_calls: int = Field(sa_column=_big())
    unpriced_calls: int = Field(sa_column=_big())
    priced_calls: int = Field(sa_column=_big())
    """Neither unpriced nor rejected.

    Zero beside unpriced calls means that the cost is unknown, not $0.
    """
    input_tokens: int = Field(sa_column=_big())
    cache_read_tokens: int = Field(sa_column=_big())
    cache_write_tokens: int = Field(sa_column=_big())
    output_tokens: int = Field(sa_column=_big())
    reasoning_tokens: int = Field(sa_column=_big())
    cost_whole_usd: int = Field(sa_column=_big())
    cost_pusd: int = Field(sa_column=_big())
    duration_ns: int = Field(sa_column=_big())


class LatencyHour(SQLModel, table=True):
    """Counts per hour and logarithmic latency bucket, for p50, p95 and p99."""

    __tablename__ = "latency_hour"
    __table_args__ = {"sqlite_with_rowid": False}
    dimension: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    hour: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    key: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    bucket: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    count: int = Field(sa_column=_big())


class LatencyDay(SQLModel, table=True):
    """The same counts per day (UTC).

    A month's percentiles are read from 30 rows where the hours would be 720.
    """

    __tablename__ = "latency_day"
    __table_args__ = {"sqlite_with_rowid": False}
    dimension: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    day: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    key: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    bucket: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    count: int = Field(sa_column=_big())


class LatencyBucket(SQLModel, table=True):
    """The upper bound of each latency bucket, for those who read the counts with SQL.

    Filled once, from `rollups.BOUNDS_NS`.
    """

    __tablename__ = "latency_bucket"
    bucket: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    le_seconds: float = Field(sa_column=Column(Float, nullable=False))


class StateRow(SQLModel, table=True):
    """What the ledger remembers about itself.

    E.g. up to which second detail was pruned (`pruned_before`).
    """

    __tablename__ = "ledger_state"
    name: str = Field(sa_column=Column(Text, primary_key=True))
    value: int = Field(sa_column=_big())


class Repricing(SQLModel, table=True):
    """One `crewmeter reprice` job: when, why, and whether it was undone."""

    __tablename__ = "repricing"
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    created_ns: int = Field(sa_column=_big())
    reason: str = Field(sa_column=Column(Text, nullable=False))
    undone_ns: int | None = Field(default=None, sa_column=_big(nullable=True))


class Adjustment(SQLModel, table=True):
    """One call whose cost a repricing changed: before and after, for the auditors.

    Append-only.
    """

    __tablename__ = "adjustment"
    __table_args__ = (Index("adjustment_repricing", "repricing"), Index("adjustment_call", "call"))
    id: int | None = Field(default=None, sa_column=Column(PK, primary_key=True))
    repricing: int = Field(sa_column=Column(Integer, nullable=False))
    call: int = Field(sa_column=Column(PK, nullable=False))
    old_cost_pusd: int | None = Field(default=None, sa_column=_big(nullable=True))
    new_cost_pusd: int | None = Field(default=None, sa_column=_big(nullable=True))
    old_status: int = Field(sa_column=_label(nullable=False))
    new_status: int = Field(sa_column=_label(nullable=False))
    old_flags: int | None = Field(default=None, sa_column=_label())
    new_flags: int | None = Field(default=None, sa_column=_label())
    old_price_version: int | None = Field(default=None, sa_column=Column(Integer))
    new_price_version: int | None = Field(default=None, sa_column=Column(Integer))


class BudgetRow(SQLModel, table=True):
    """A budget set with ``crewmeter budget set``.

    It holds for every app that writes this ledger.
    """

    __tablename__ = "budget"
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    name: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    definition: str = Field(sa_column=Column(Text, nullable=False))
    """The keys of the budgets file as canonical JSON."""
    created_ns: int = Field(sa_column=_big())


class BudgetAccount(SQLModel, table=True):
    """One budget scope's spend in a period, and what is leased to running apps."""

    __tablename__ = "budget_account"
    __table_args__ = (UniqueConstraint("scope", "period_start"),)
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    scope: str = Field(sa_column=Column(Text, nullable=False))
    """Scope, value, period and time zone; not the amount, which may change within a period."""
    period_start: int = Field(sa_column=_big())
    """Unix seconds; 0 where the period never resets."""
    spent_pusd: int = Field(sa_column=_big(default=0))
    leased_pusd: int = Field(sa_column=_big(default=0))


class BudgetLease(SQLModel, table=True):
    """A slice of a budget that one process may spend without asking again.

    Returned, or expired if the process died.
    """

    __tablename__ = "budget_lease"
    __table_args__ = (
        UniqueConstraint("account", "holder"),
        Index("budget_lease_expires", "expires_ns"),
    )
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    account: int = Field(sa_column=Column(Integer, nullable=False))
    holder: str = Field(sa_column=Column(Text, nullable=False))
    outstanding_pusd: int = Field(sa_column=_big())
    expires_ns: int = Field(sa_column=_big())


class BudgetNotice(SQLModel, table=True):
    """A threshold (50, 80, 100 %) of one budget that was announced in one period.

    Its key makes that happen once.
    """

    __tablename__ = "budget_notice"
    __table_args__ = (UniqueConstraint("account", "percent"),)
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    account: int = Field(sa_column=Column(Integer, nullable=False))
    percent: int = Field(sa_column=Column(Integer, nullable=False))
    sent_ns: int = Field(sa_column=_big())
