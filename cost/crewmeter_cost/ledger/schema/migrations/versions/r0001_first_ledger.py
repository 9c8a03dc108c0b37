"""The first ledger.

Names, runs, steps, calls, hourly sums and latency counts, repricings, budgets.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _names()
    _runs()
    _steps()
    _calls()
    _rollups()
    _latencies()
    _audit()
    _budgets()


def _names() -> None:
    """Names, tag sets and frozen prices, each once."""
    op.create_table(
        "label",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "value"),
    )
    op.create_table(
        "tag_set",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tags"),
    )
    op.create_table(
        "price_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("rates", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
    )


def _runs() -> None:
    """Create the tables of runs and their totals."""
    op.create_table(
        "run",
        sa.Column("id", BIG, nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("name", sa.Integer(), nullable=True),
        sa.Column("service", sa.Integer(), nullable=True),
        sa.Column("environment", sa.Integer(), nullable=True),
        sa.Column("team", sa.Integer(), nullable=True),
        sa.Column("user", sa.Integer(), nullable=True),
        sa.Column("session", sa.Integer(), nullable=True),
        sa.Column("tag_set", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), server_default="running", nullable=False),
        sa.Column("error_type", sa.Integer(), nullable=True),
        sa.Column("started_ns", sa.BigInteger(), nullable=False),
        sa.Column("duration_ns", sa.BigInteger(), nullable=True),
        sa.Column("calls", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "failed_calls",
            sa.Integer(),
            server_default="0",
            nullable=False,
        ),
        sa.Column(
            "unpriced_calls",
            sa.Integer(),
            server_default="0",
            nullable=False,
        ),
        sa.Column(
            "priced_calls",
            sa.Integer(),
            server_default="0",
            nullable=False,
        ),
        sa.Column("tool_calls", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "failed_tool_calls",
            sa.Integer(),
            server_default="0",
            nullable=False,
        ),
        sa.Column(
            "input_tokens",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
        ),
        sa.Column(
            "output_tokens",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
        ),
        sa.Column(
            "cost_whole_usd",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
        ),
        sa.Column(
            "cost_pusd",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id"),
    )
    op.create_index("run_time", "run", [sa.text("(started_ns / 1000000000)")])


def _steps() -> None:
    """Nodes of a run's tree."""
    op.create_table(
        "step",
        sa.Column("id", BIG, nullable=False),
        sa.Column("trace_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("span_id", sa.LargeBinary(length=8), nullable=False),
        sa.Column("parent_span_id", sa.LargeBinary(length=8), nullable=True),
        sa.Column("run", BIG, nullable=True),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("name", sa.Integer(), nullable=True),
        sa.Column("crew", sa.Integer(), nullable=True),
        sa.Column("flow", sa.Integer(), nullable=True),
        sa.Column("task", sa.Integer(), nullable=True),
        sa.Column("agent", sa.Integer(), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("error_type", sa.Integer(), nullable=True),
        sa.Column("started_ns", sa.BigInteger(), nullable=False),
        sa.Column("duration_ns", sa.BigInteger(), nullable=False),
        sa.Column("details", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("step_run", "step", ["run"], unique=False)
    op.create_index("step_span", "step", ["trace_id", "span_id"], unique=True)
    op.create_index("step_time", "step", [sa.text("(started_ns / 1000000000)")])


def _calls() -> None:
    """Billed calls."""
    op.create_table(
        "call",
        sa.Column("id", BIG, nullable=False),
        sa.Column("trace_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("span_id", sa.LargeBinary(length=8), nullable=False),
        sa.Column("parent_span_id", sa.LargeBinary(length=8), nullable=True),
        sa.Column("run", BIG, nullable=True),
        sa.Column("started_ns", sa.BigInteger(), nullable=False),
        sa.Column("duration_ns", sa.BigInteger(), nullable=False),
        sa.Column("ttft_ns", sa.BigInteger(), nullable=True),
        sa.Column("operation", sa.Integer(), nullable=False),
        sa.Column("origin", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Integer(), nullable=True),
        sa.Column("provider", sa.Integer(), nullable=True),
        sa.Column("host", sa.Integer(), nullable=True),
        sa.Column("request_model", sa.Integer(), nullable=True),
        sa.Column("response_model", sa.Integer(), nullable=True),
        sa.Column("response_id", sa.Text(), nullable=True),
        sa.Column("response_key", sa.BigInteger(), nullable=True),
        sa.Column("crew", sa.Integer(), nullable=True),
        sa.Column("flow", sa.Integer(), nullable=True),
        sa.Column("task", sa.Integer(), nullable=True),
        sa.Column("agent", sa.Integer(), nullable=True),
        sa.Column("tool", sa.Integer(), nullable=True),
        sa.Column("user", sa.Integer(), nullable=True),
        sa.Column("team", sa.Integer(), nullable=True),
        sa.Column("session", sa.Integer(), nullable=True),
        sa.Column("tag_set", sa.Integer(), nullable=True),
        sa.Column("service", sa.Integer(), nullable=True),
        sa.Column("environment", sa.Integer(), nullable=True),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("error_type", sa.Integer(), nullable=True),
        sa.Column("finish_reason", sa.Integer(), nullable=True),
        sa.Column("service_tier", sa.Integer(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_5m_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cache_write_1h_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("other_usage", sa.Text(), nullable=True),
        sa.Column("usage_status", sa.Integer(), nullable=False),
        sa.Column("usage_flags", sa.Integer(), nullable=True),
        sa.Column("cost_pusd", sa.BigInteger(), nullable=True),
        sa.Column("cost_status", sa.Integer(), nullable=False),
        sa.Column("cost_flags", sa.Integer(), nullable=True),
        sa.Column("reported_cost_pusd", sa.BigInteger(), nullable=True),
        sa.Column("price_version", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("call_response", "call", ["response_key"], unique=False)
    op.create_index("call_run", "call", ["run"], unique=False)
    op.create_index("call_span", "call", ["trace_id", "span_id"], unique=True)
    op.create_index("call_time", "call", [sa.text("(started_ns / 1000000000)")])


def _rollups() -> None:
    """Create the tables of sums per hour."""
    op.create_table(
        "rollup_hour",
        sa.Column(
            "dimension",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key2", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("failed_calls", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_calls", sa.BigInteger(), nullable=False),
        sa.Column("priced_calls", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_whole_usd", sa.BigInteger(), nullable=False),
        sa.Column("cost_pusd", sa.BigInteger(), nullable=False),
        sa.Column("duration_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("dimension", "hour", "key", "key2"),
        sqlite_with_rowid=False,
    )


def _latencies() -> None:
    """Latency counts per hour."""
    op.create_table(
        "latency_hour",
        sa.Column(
            "dimension",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("dimension", "hour", "key", "bucket"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "latency_bucket",
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("le_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("bucket"),
    )


def _audit() -> None:
    """Create what the ledger remembers about itself, and repricings."""
    op.create_table(
        "ledger_state",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "repricing",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("undone_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "adjustment",
        sa.Column("id", BIG, nullable=False),
        sa.Column("repricing", sa.Integer(), nullable=False),
        sa.Column("call", BIG, nullable=False),
        sa.Column("old_cost_pusd", sa.BigInteger(), nullable=True),
        sa.Column("new_cost_pusd", sa.BigInteger(), nullable=True),
        sa.Column("old_status", sa.Integer(), nullable=False),
        sa.Column("new_status", sa.Integer(), nullable=False),
        sa.Column("old_flags", sa.Integer(), nullable=True),
        sa.Column("new_flags", sa.Integer(), nullable=True),
        sa.Column("old_price_version", sa.Integer(), nullable=True),
        sa.Column("new_price_version", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("adjustment_call", "adjustment", ["call"], unique=False)
    op.create_index("adjustment_repricing", "adjustment", ["repricing"], unique=False)


def _budgets() -> None:
    """Budgets, their accounts, leases and notices."""
    op.create_table(
        "budget",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "budget_account",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("period_start", sa.BigInteger(), nullable=False),
        sa.Column(
            "spent_pusd",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
        ),
        sa.Column(
            "leased_pusd",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("scope", "period_start"),
    )
    op.create_table(
        "budget_lease",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("outstanding_pusd", sa.BigInteger(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "holder"),
    )
    op.create_index("budget_lease_expires", "budget_lease", ["expires_ns"], unique=False)
    op.create_table(
        "budget_notice",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("sent_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "percent"),
    )
