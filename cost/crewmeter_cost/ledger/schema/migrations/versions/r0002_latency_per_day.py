"""Latency counts per day.

A month's percentiles out of 30 rows a key instead of 720.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table, and fill it from the hours there are."""
    day = op.create_table(
        "latency_day",
        sa.Column(
            "dimension",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("day", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("dimension", "day", "key", "bucket"),
        sqlite_with_rowid=False,
    )
    hour = sa.table(
        "latency_hour",
        *(
            sa.column(name, sa.BigInteger())
            for name in ("dimension", "hour", "key", "bucket", "count")
        ),
    )
    start = hour.c.hour - hour.c.hour % sa.literal_column("86400")
    counts = sa.select(
        hour.c.dimension, start, hour.c.key, hour.c.bucket, sa.func.sum(hour.c["count"])
    )
    op.execute(
        sa.insert(day).from_select(
            [*day.columns.keys()],
            counts.group_by(hour.c.dimension, start, hour.c.key, hour.c.bucket),
        )
    )
