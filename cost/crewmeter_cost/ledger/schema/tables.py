"""The ledger's tables.

Ids are binary, times nanoseconds since 1970, money integer pico-USD, names label ids.

Rows are narrow on purpose: a name stands once in `label`, a price once in `price_version`, a tag
set once in `tag_set`. People and Grafana read the views (`views.py`), never these tables.
"""

from __future__ import annotations

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

from crewmeter_cost.ledger.schema.column_kinds import (
    PK,
    big_column,
    count_column,
    flag_column,
    label_column,
    run_index,
    time_index,
)

__all__ = [
    "Adjustment",
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
]


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
    created_ns: int = Field(sa_column=big_column())


class RunRow(SQLModel, table=True):
    """One run (the outermost crew, flow or agent) and its running totals."""

    __tablename__ = "run"
    __table_args__ = (
        time_index("run_time"),
        run_index("name"),
        run_index("team"),
        run_index("user"),
        run_index("session"),
        Index(
            "run_not_ok",
            "status",
            text("(started_ns / 1000000000)"),
            sqlite_where=text("status <> 'ok'"),
            postgresql_where=text("status <> 'ok'"),
        ),
    )
    id: int | None = Field(default=None, sa_column=Column(PK, primary_key=True))
    run_id: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    trace_id: bytes = Field(sa_column=Column(LargeBinary(16), nullable=False))
    kind: str | None = Field(default=None, sa_column=Column(Text))
    name: int | None = Field(default=None, sa_column=label_column())
    service: int | None = Field(default=None, sa_column=label_column())
    environment: int | None = Field(default=None, sa_column=label_column())
    team: int | None = Field(default=None, sa_column=label_column())
    user: int | None = Field(default=None, sa_column=label_column())
    session: int | None = Field(default=None, sa_column=label_column())
    tag_set: int | None = Field(default=None, sa_column=Column(Integer))
    status: str = Field(
        default="running", sa_column=Column(Text, nullable=False, server_default="running")
    )
    error_type: int | None = Field(default=None, sa_column=label_column())
    started_ns: int = Field(sa_column=big_column())
    duration_ns: int | None = Field(default=None, sa_column=big_column(nullable=True))
    calls: int = Field(default=0, sa_column=count_column())
    failed_calls: int = Field(default=0, sa_column=count_column())
    unpriced_calls: int = Field(default=0, sa_column=count_column())
    priced_calls: int = Field(default=0, sa_column=count_column())
    tool_calls: int = Field(default=0, sa_column=count_column())
    failed_tool_calls: int = Field(default=0, sa_column=count_column())
    input_tokens: int = Field(default=0, sa_column=big_column(default=0))
    output_tokens: int = Field(default=0, sa_column=big_column(default=0))
    cost_whole_usd: int = Field(default=0, sa_column=big_column(default=0))
    """A sum is whole dollars plus pico-dollars: pico-dollars alone overflow 64 bits at $9.2 M."""
    cost_pusd: int = Field(default=0, sa_column=big_column(default=0))


class StepRow(SQLModel, table=True):
    """A node of a run's tree that is not billed itself.

    The run's root, tasks, agents, tools, memory queries …
    """

    __tablename__ = "step"
    __table_args__ = (
        Index("step_span", "trace_id", "span_id", unique=True),
        Index("step_run", "run"),
        time_index("step_time"),
    )
    id: int | None = Field(default=None, sa_column=Column(PK, primary_key=True))
    trace_id: bytes = Field(sa_column=Column(LargeBinary(16), nullable=False))
    span_id: bytes = Field(sa_column=Column(LargeBinary(8), nullable=False))
    parent_span_id: bytes | None = Field(default=None, sa_column=Column(LargeBinary(8)))
    run: int | None = Field(default=None, sa_column=Column(PK))
    kind: int = Field(sa_column=label_column(nullable=False))
    name: int | None = Field(default=None, sa_column=label_column())
    crew: int | None = Field(default=None, sa_column=label_column())
    flow: int | None = Field(default=None, sa_column=label_column())
    task: int | None = Field(default=None, sa_column=label_column())
    agent: int | None = Field(default=None, sa_column=label_column())
    state: int = Field(sa_column=flag_column())
    """0 ok, 1 error, 2 abandoned (`rows.StepState`)."""
    error_type: int | None = Field(default=None, sa_column=label_column())
    started_ns: int = Field(sa_column=big_column())
    duration_ns: int = Field(sa_column=big_column())
    details: str | None = Field(default=None, sa_column=Column(Text))


class CallRow(SQLModel, table=True):
    """One billed call.

    `cost_pusd` is NULL exactly where `cost_status` says why there is no price.
    """

    __tablename__ = "call"
    __table_args__ = (
        Index("call_span", "trace_id", "span_id", unique=True),
        Index("call_response", "response_key"),
        time_index("call_time"),
        Index("call_run", "run"),
    )
    id: int | None = Field(default=None, sa_column=Column(PK, primary_key=True))
    trace_id: bytes = Field(sa_column=Column(LargeBinary(16), nullable=False))
    span_id: bytes = Field(sa_column=Column(LargeBinary(8), nullable=False))
    parent_span_id: bytes | None = Field(default=None, sa_column=Column(LargeBinary(8)))
    run: int | None = Field(default=None, sa_column=Column(PK))
    started_ns: int = Field(sa_column=big_column())
    duration_ns: int = Field(sa_column=big_column())
    ttft_ns: int | None = Field(default=None, sa_column=big_column(nullable=True))
    operation: int = Field(sa_column=label_column(nullable=False))
    origin: int = Field(sa_column=label_column(nullable=False))
    scope: int | None = Field(default=None, sa_column=label_column())
    """The instrumentor.

    Two spans of different scopes with one (provider, response id) are one call; of the same scope,
    two.
    """
    provider: int | None = Field(default=None, sa_column=label_column())
    host: int | None = Field(default=None, sa_column=label_column())
    request_model: int | None = Field(default=None, sa_column=label_column())
    response_model: int | None = Field(default=None, sa_column=label_column())
    response_id: str | None = Field(default=None, sa_column=Column(Text))
    response_key: int | None = Field(default=None, sa_column=big_column(nullable=True))
    """64-bit hash of `response_id`: an index on it is a quarter of the size of one on the text."""
    crew: int | None = Field(default=None, sa_column=label_column())
    flow: int | None = Field(default=None, sa_column=label_column())
    task: int | None = Field(default=None, sa_column=label_column())
    agent: int | None = Field(default=None, sa_column=label_column())
    tool: int | None = Field(default=None, sa_column=label_column())
    user: int | None = Field(default=None, sa_column=label_column())
    team: int | None = Field(default=None, sa_column=label_column())
    session: int | None = Field(default=None, sa_column=label_column())
    tag_set: int | None = Field(default=None, sa_column=Column(Integer))
    service: int | None = Field(default=None, sa_column=label_column())
    environment: int | None = Field(default=None, sa_column=label_column())
    state: int = Field(sa_column=flag_column())
    """0 ok, 1 error, 2 rejected by the provider before it billed anything (`rows.CallState`)."""
    error_type: int | None = Field(default=None, sa_column=label_column())
    finish_reason: int | None = Field(default=None, sa_column=label_column())
    service_tier: int | None = Field(default=None, sa_column=label_column())
    input_tokens: int | None = Field(default=None, sa_column=big_column(nullable=True))
    cache_read_tokens: int | None = Field(default=None, sa_column=big_column(nullable=True))
    cache_write_5m_tokens: int | None = Field(default=None, sa_column=big_column(nullable=True))
    cache_write_1h_tokens: int | None = Field(default=None, sa_column=big_column(nullable=True))
    output_tokens: int | None = Field(default=None, sa_column=big_column(nullable=True))
    reasoning_tokens: int | None = Field(default=None, sa_column=big_column(nullable=True))
    other_usage: str | None = Field(default=None, sa_column=Column(Text))
    """JSON of the rare buckets (audio, image, web searches, search units), NULL for most calls."""
    usage_status: int = Field(sa_column=label_column(nullable=False))
    usage_flags: int | None = Field(default=None, sa_column=label_column())
    cost_pusd: int | None = Field(default=None, sa_column=big_column(nullable=True))
    cost_status: int = Field(sa_column=label_column(nullable=False))
    cost_flags: int | None = Field(default=None, sa_column=label_column())
    reported_cost_pusd: int | None = Field(default=None, sa_column=big_column(nullable=True))
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
    calls: int = Field(sa_column=big_column())
    failed_calls: int = Field(sa_column=big_column())
    unpriced_calls: int = Field(sa_column=big_column())
    priced_calls: int = Field(sa_column=big_column())
    """Neither unpriced nor rejected.

    Zero beside unpriced calls means that the cost is unknown, not $0.
    """
    input_tokens: int = Field(sa_column=big_column())
    cache_read_tokens: int = Field(sa_column=big_column())
    cache_write_tokens: int = Field(sa_column=big_column())
    output_tokens: int = Field(sa_column=big_column())
    reasoning_tokens: int = Field(sa_column=big_column())
    cost_whole_usd: int = Field(sa_column=big_column())
    cost_pusd: int = Field(sa_column=big_column())
    duration_ns: int = Field(sa_column=big_column())


class LatencyHour(SQLModel, table=True):
    """Counts per hour and logarithmic latency bucket, for p50, p95 and p99."""

    __tablename__ = "latency_hour"
    __table_args__ = {"sqlite_with_rowid": False}
    dimension: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    hour: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    key: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    bucket: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    count: int = Field(sa_column=big_column())


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
    count: int = Field(sa_column=big_column())


class LatencyBucket(SQLModel, table=True):
    """The upper bound of each latency bucket, for those who read the counts with SQL.

    It is filled once, from `latency_buckets.BOUNDS_NS`.
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
    value: int = Field(sa_column=big_column())


class Repricing(SQLModel, table=True):
    """One `crewmeter reprice` job: when, why, and whether it was undone."""

    __tablename__ = "repricing"
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    created_ns: int = Field(sa_column=big_column())
    reason: str = Field(sa_column=Column(Text, nullable=False))
    undone_ns: int | None = Field(default=None, sa_column=big_column(nullable=True))


class Adjustment(SQLModel, table=True):
    """One call whose cost a repricing changed: before and after, for the auditors.

    Rows are added, never changed.
    """

    __tablename__ = "adjustment"
    __table_args__ = (Index("adjustment_repricing", "repricing"), Index("adjustment_call", "call"))
    id: int | None = Field(default=None, sa_column=Column(PK, primary_key=True))
    repricing: int = Field(sa_column=Column(Integer, nullable=False))
    call: int = Field(sa_column=Column(PK, nullable=False))
    old_cost_pusd: int | None = Field(default=None, sa_column=big_column(nullable=True))
    new_cost_pusd: int | None = Field(default=None, sa_column=big_column(nullable=True))
    old_status: int = Field(sa_column=label_column(nullable=False))
    new_status: int = Field(sa_column=label_column(nullable=False))
    old_flags: int | None = Field(default=None, sa_column=label_column())
    new_flags: int | None = Field(default=None, sa_column=label_column())
    old_price_version: int | None = Field(default=None, sa_column=Column(Integer))
    new_price_version: int | None = Field(default=None, sa_column=Column(Integer))
