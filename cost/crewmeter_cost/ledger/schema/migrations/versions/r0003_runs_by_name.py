"""Indexes on the name, team, user, session and outcome of runs.

Whether the calls of a run may have other names than the run is marked, as the writer does later.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


_NAMES = ("user", "team", "session")


def upgrade() -> None:
    """Make the indexes and the mark. A million runs take a few seconds."""
    second = sa.text("(started_ns / 1000000000)")
    for column in ("name", *_NAMES):
        op.create_index(
            f"run_{column}",
            "run",
            [column, second],
        )
    unusual = sa.text("status <> 'ok'")
    op.create_index(
        "run_not_ok",
        "run",
        ["status", second],
        sqlite_where=unusual,
        postgresql_where=unusual,
    )
    _mark()


def _mark() -> None:
    """Record whether a call has another user, team or session than its run."""
    call = sa.table(
        "call",
        sa.column("run"),
        *(sa.column(name) for name in _NAMES),
    )
    run = sa.table(
        "run",
        sa.column("id"),
        *(sa.column(name) for name in _NAMES),
    )
    differs = sa.or_(
        call.c.user.is_distinct_from(run.c.user),
        call.c.team.is_distinct_from(run.c.team),
        call.c.session.is_distinct_from(run.c.session),
    )
    apart = sa.exists().where(
        run.c.id == call.c.run,
        differs,
    )
    state = sa.table(
        "ledger_state",
        sa.column("name"),
        sa.column("value"),
    )
    mark = sa.select(
        sa.literal("calls_named_apart"),
        sa.literal(1),
    )
    query = sa.insert(state).from_select(
        ["name", "value"],
        mark.where(apart),
    )
    op.execute(query)
