"""The columns of every table as plain data.

Generated from `tables.py` by `generate.py`.
"""

from __future__ import annotations

from crewmeter_cost.ledger.schema.table_spec import ColumnSpec, TableSpec

__all__ = [
    "ADJUSTMENT",
    "BUDGET",
    "BUDGET_ACCOUNT",
    "BUDGET_LEASE",
    "BUDGET_NOTICE",
    "CALL",
    "LABEL",
    "LATENCY_BUCKET",
    "LATENCY_DAY",
    "LATENCY_HOUR",
    "LEDGER_STATE",
    "PRICE_VERSION",
    "REPRICING",
    "ROLLUP_HOUR",
    "RUN",
    "STEP",
    "TABLES",
    "TAG_SET",
]

ADJUSTMENT = TableSpec(
    "adjustment",
    (
        ColumnSpec("id", "id", key=True),
        ColumnSpec("repricing", "integer"),
        ColumnSpec("call", "bigint"),
        ColumnSpec("old_cost_pusd", "bigint", nullable=True),
        ColumnSpec("new_cost_pusd", "bigint", nullable=True),
        ColumnSpec("old_status", "integer"),
        ColumnSpec("new_status", "integer"),
        ColumnSpec("old_flags", "integer", nullable=True),
        ColumnSpec("new_flags", "integer", nullable=True),
        ColumnSpec("old_price_version", "integer", nullable=True),
        ColumnSpec("new_price_version", "integer", nullable=True),
    ),
)
BUDGET = TableSpec(
    "budget",
    (
        ColumnSpec("id", "integer", key=True),
        ColumnSpec("name", "text"),
        ColumnSpec("definition", "text"),
        ColumnSpec("created_ns", "bigint"),
    ),
)
BUDGET_ACCOUNT = TableSpec(
    "budget_account",
    (
        ColumnSpec("id", "integer", key=True),
        ColumnSpec("scope", "text"),
        ColumnSpec("period_start", "bigint"),
        ColumnSpec("spent_pusd", "bigint"),
        ColumnSpec("leased_pusd", "bigint"),
    ),
)
BUDGET_LEASE = TableSpec(
    "budget_lease",
    (
        ColumnSpec("id", "integer", key=True),
        ColumnSpec("account", "integer"),
        ColumnSpec("holder", "text"),
        ColumnSpec("outstanding_pusd", "bigint"),
        ColumnSpec("expires_ns", "bigint"),
    ),
)
BUDGET_NOTICE = TableSpec(
    "budget_notice",
    (
        ColumnSpec("id", "integer", key=True),
        ColumnSpec("account", "integer"),
        ColumnSpec("percent", "integer"),
        ColumnSpec("sent_ns", "bigint"),
    ),
)
CALL = TableSpec(
    "call",
    (
        ColumnSpec("id", "id", key=True),
        ColumnSpec("trace_id", "bytes"),
        ColumnSpec("span_id", "bytes"),
        ColumnSpec("parent_span_id", "bytes", nullable=True),
        ColumnSpec("run", "bigint", nullable=True),
        ColumnSpec("started_ns", "bigint"),
        ColumnSpec("duration_ns", "bigint"),
        ColumnSpec("ttft_ns", "bigint", nullable=True),
        ColumnSpec("operation", "integer"),
        ColumnSpec("origin", "integer"),
        ColumnSpec("scope", "integer", nullable=True),
        ColumnSpec("provider", "integer", nullable=True),
        ColumnSpec("host", "integer", nullable=True),
        ColumnSpec("request_model", "integer", nullable=True),
        ColumnSpec("response_model", "integer", nullable=True),
        ColumnSpec("response_id", "text", nullable=True),
        ColumnSpec("response_key", "bigint", nullable=True),
        ColumnSpec("crew", "integer", nullable=True),
        ColumnSpec("flow", "integer", nullable=True),
        ColumnSpec("task", "integer", nullable=True),
        ColumnSpec("agent", "integer", nullable=True),
        ColumnSpec("tool", "integer", nullable=True),
        ColumnSpec("user", "integer", nullable=True),
        ColumnSpec("team", "integer", nullable=True),
        ColumnSpec("session", "integer", nullable=True),
        ColumnSpec("tag_set", "integer", nullable=True),
        ColumnSpec("service", "integer", nullable=True),
        ColumnSpec("environment", "integer", nullable=True),
        ColumnSpec("state", "smallint"),
        ColumnSpec("error_type", "integer", nullable=True),
        ColumnSpec("finish_reason", "integer", nullable=True),
        ColumnSpec("service_tier", "integer", nullable=True),
        ColumnSpec("input_tokens", "bigint", nullable=True),
        ColumnSpec("cache_read_tokens", "bigint", nullable=True),
        ColumnSpec("cache_write_5m_tokens", "bigint", nullable=True),
        ColumnSpec("cache_write_1h_tokens", "bigint", nullable=True),
        ColumnSpec("output_tokens", "bigint", nullable=True),
        ColumnSpec("reasoning_tokens", "bigint", nullable=True),
        ColumnSpec("other_usage", "text", nullable=True),
        ColumnSpec("usage_status", "integer"),
        ColumnSpec("usage_flags", "integer", nullable=True),
        ColumnSpec("cost_pusd", "bigint", nullable=True),
        ColumnSpec("cost_status", "integer"),
        ColumnSpec("cost_flags", "integer", nullable=True),
        ColumnSpec("reported_cost_pusd", "bigint", nullable=True),
        ColumnSpec("price_version", "integer", nullable=True),
    ),
)
LABEL = TableSpec(
    "label",
    (
        ColumnSpec("id", "integer", key=True),
        ColumnSpec("kind", "text"),
        ColumnSpec("value", "text"),
    ),
)
LATENCY_BUCKET = TableSpec(
    "latency_bucket",
    (
        ColumnSpec("bucket", "integer", key=True),
        ColumnSpec("le_seconds", "float"),
    ),
)
LATENCY_DAY = TableSpec(
    "latency_day",
    (
        ColumnSpec("dimension", "smallint", key=True),
        ColumnSpec("day", "bigint", key=True),
        ColumnSpec("key", "integer", key=True),
        ColumnSpec("bucket", "integer", key=True),
        ColumnSpec("count", "bigint"),
    ),
)
LATENCY_HOUR = TableSpec(
    "latency_hour",
    (
        ColumnSpec("dimension", "smallint", key=True),
        ColumnSpec("hour", "bigint", key=True),
        ColumnSpec("key", "integer", key=True),
        ColumnSpec("bucket", "integer", key=True),
        ColumnSpec("count", "bigint"),
    ),
)
LEDGER_STATE = TableSpec(
    "ledger_state",
    (
        ColumnSpec("name", "text", key=True),
        ColumnSpec("value", "bigint"),
    ),
)
PRICE_VERSION = TableSpec(
    "price_version",
    (
        ColumnSpec("id", "integer", key=True),
        ColumnSpec("hash", "text"),
        ColumnSpec("source", "text"),
        ColumnSpec("provider", "text"),
        ColumnSpec("model", "text"),
        ColumnSpec("rates", "text"),
        ColumnSpec("created_ns", "bigint"),
    ),
)
REPRICING = TableSpec(
    "repricing",
    (
        ColumnSpec("id", "integer", key=True),
        ColumnSpec("created_ns", "bigint"),
        ColumnSpec("reason", "text"),
        ColumnSpec("undone_ns", "bigint", nullable=True),
    ),
)
ROLLUP_HOUR = TableSpec(
    "rollup_hour",
    (
        ColumnSpec("dimension", "smallint", key=True),
        ColumnSpec("hour", "bigint", key=True),
        ColumnSpec("key", "integer", key=True),
        ColumnSpec("key2", "integer", key=True),
        ColumnSpec("calls", "bigint"),
        ColumnSpec("failed_calls", "bigint"),
        ColumnSpec("unpriced_calls", "bigint"),
        ColumnSpec("priced_calls", "bigint"),
        ColumnSpec("input_tokens", "bigint"),
        ColumnSpec("cache_read_tokens", "bigint"),
        ColumnSpec("cache_write_tokens", "bigint"),
        ColumnSpec("output_tokens", "bigint"),
        ColumnSpec("reasoning_tokens", "bigint"),
        ColumnSpec("cost_whole_usd", "bigint"),
        ColumnSpec("cost_pusd", "bigint"),
        ColumnSpec("duration_ns", "bigint"),
    ),
)
RUN = TableSpec(
    "run",
    (
        ColumnSpec("id", "id", key=True),
        ColumnSpec("run_id", "text"),
        ColumnSpec("trace_id", "bytes"),
        ColumnSpec("kind", "text", nullable=True),
        ColumnSpec("name", "integer", nullable=True),
        ColumnSpec("service", "integer", nullable=True),
        ColumnSpec("environment", "integer", nullable=True),
        ColumnSpec("team", "integer", nullable=True),
        ColumnSpec("user", "integer", nullable=True),
        ColumnSpec("session", "integer", nullable=True),
        ColumnSpec("tag_set", "integer", nullable=True),
        ColumnSpec("status", "text"),
        ColumnSpec("error_type", "integer", nullable=True),
        ColumnSpec("started_ns", "bigint"),
        ColumnSpec("duration_ns", "bigint", nullable=True),
        ColumnSpec("calls", "integer"),
        ColumnSpec("failed_calls", "integer"),
        ColumnSpec("unpriced_calls", "integer"),
        ColumnSpec("priced_calls", "integer"),
        ColumnSpec("tool_calls", "integer"),
        ColumnSpec("failed_tool_calls", "integer"),
        ColumnSpec("input_tokens", "bigint"),
        ColumnSpec("output_tokens", "bigint"),
        ColumnSpec("cost_whole_usd", "bigint"),
        ColumnSpec("cost_pusd", "bigint"),
    ),
)
STEP = TableSpec(
    "step",
    (
        ColumnSpec("id", "id", key=True),
        ColumnSpec("trace_id", "bytes"),
        ColumnSpec("span_id", "bytes"),
        ColumnSpec("parent_span_id", "bytes", nullable=True),
        ColumnSpec("run", "bigint", nullable=True),
        ColumnSpec("kind", "integer"),
        ColumnSpec("name", "integer", nullable=True),
        ColumnSpec("crew", "integer", nullable=True),
        ColumnSpec("flow", "integer", nullable=True),
        ColumnSpec("task", "integer", nullable=True),
        ColumnSpec("agent", "integer", nullable=True),
        ColumnSpec("state", "smallint"),
        ColumnSpec("error_type", "integer", nullable=True),
        ColumnSpec("started_ns", "bigint"),
        ColumnSpec("duration_ns", "bigint"),
        ColumnSpec("details", "text", nullable=True),
    ),
)
TAG_SET = TableSpec(
    "tag_set",
    (
        ColumnSpec("id", "integer", key=True),
        ColumnSpec("tags", "text"),
    ),
)

TABLES = (
    ADJUSTMENT,
    BUDGET,
    BUDGET_ACCOUNT,
    BUDGET_LEASE,
    BUDGET_NOTICE,
    CALL,
    LABEL,
    LATENCY_BUCKET,
    LATENCY_DAY,
    LATENCY_HOUR,
    LEDGER_STATE,
    PRICE_VERSION,
    REPRICING,
    ROLLUP_HOUR,
    RUN,
    STEP,
    TAG_SET,
)
