"""Budget accounts in the ledger, out of which processes lease money.

There is one per scope and period.

A lease is money set aside, so that the sum of what is spent and what may be spent never passes the
limit, however many processes run. A process that dies leaves its lease to expire. What it spent is
found again in the ledger's own rows.

Leases expire by the database's clock. By the clocks of the hosts, two that differ by more than
`LEASE_SECONDS` would expire each other's living leases and spend the same money twice.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from crewmeter_cost.ledger.schema import core_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

__all__ = [
    "LEASE_SECONDS",
    "MOST_PUSD",
    "Balance",
    "acquire",
    "balance",
    "open_account",
    "settle",
]

LEASE_SECONDS = 30
"""How long a lease outlives the last word from its holder."""
MOST_PUSD = 9_000_000 * 10**12
"""The largest amount an account can hold (int64)."""

_account = core_tables.budget_account
_lease = core_tables.budget_lease

_CLOCKS = {
    # julianday() has millisecond precision in every SQLite; unixepoch('subsec') needs 3.42.
    "sqlite": text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"),
    # now() would be the moment before the wait for the account's lock.
    "postgresql": text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"),
}
"""Dialect → query for its clock, in milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Balance:
    """An account at one moment, in integer pico-USD.

    `granted_pusd` is what the requesting process was just given.
    """

    spent_pusd: int
    leased_pusd: int
    granted_pusd: int = 0


def open_account(
    engine: Engine, *, scope: str, period_start: int, spent_so_far: Callable[[], int]
) -> int:
    """Return the account's id.

    A new account starts with `spent_so_far`, which is what the ledger's rows say.
    """
    query = select(_account.c.id).where(
        (_account.c.scope == scope) & (_account.c.period_start == period_start)
    )
    with engine.connect() as connection:
        found = connection.scalar(query)
    if found is not None:
        return int(found)
    values = {"scope": scope, "period_start": period_start, "leased_pusd": 0}
    spent = spent_so_far()
    try:
        with engine.begin() as connection:
            connection.execute(insert(_account).values(spent_pusd=spent, **values))
    except IntegrityError:
        pass  # another process opened it a moment ago
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def balance(engine: Engine, account: int) -> Balance:
    """Return what is spent and leased now."""
    with engine.connect() as connection:
        return _read(connection, account)


def acquire(
    engine: Engine,
    account: int,
    *,
    holder: str,
    limit_pusd: int,
    need_pusd: int,
    want_pusd: int,
) -> Balance:
    """Lease between `need_pusd` and `want_pusd`, never past `limit_pusd`.

    At most an eighth of what is available is granted beyond the need, so that one process does not
    starve the others near the limit. ``granted_pusd`` is 0 where even the need does not fit.
    """
    with _locked(engine, account) as connection:
        # The database's clock, as those of two hosts may differ by more than a lease lasts.
        now_ns = _clock_ns(connection)
        _expire(connection, account, now_ns)
        state = _read(connection, account)
        available = limit_pusd - state.spent_pusd - state.leased_pusd
        if available < need_pusd:
            return state
        grant = max(
            need_pusd,
            min(want_pusd, available // 8),
        )
        _move(
            connection,
            account,
            holder,
            outstanding=grant,
            spent=0,
            now_ns=now_ns,
        )
        return Balance(
            state.spent_pusd,
            state.leased_pusd + grant,
            grant,
        )


def settle(
    engine: Engine,
    account: int,
    *,
    holder: str,
    spent_pusd: int,
    returned_pusd: int,
    actual_pusd: int | None = None,
) -> Balance:
    """Book what was spent, return a part of the lease, and renew the rest.

    `actual_pusd` is what the ledger's own rows say was spent in the period. Where that is more
    (another app without budgets, a process that died), it replaces the account's sum.
    """
    with _locked(engine, account) as connection:
        now_ns = _clock_ns(connection)
        # What was spent leaves the lease as well: it is in the account's sum from now on.
        released = -(spent_pusd + returned_pusd)
        _move(
            connection,
            account,
            holder,
            outstanding=released,
            spent=spent_pusd,
            now_ns=now_ns,
        )
        _expire(connection, account, now_ns)
        state = _read(connection, account)
        if actual_pusd is None or actual_pusd <= state.spent_pusd:
            return state
        mine = _account.c.id == account
        connection.execute(update(_account).where(mine).values(spent_pusd=actual_pusd))
        return Balance(actual_pusd, state.leased_pusd)


@contextmanager
def _locked(engine: Engine, account: int) -> Iterator[Connection]:
    """Yield a transaction that holds the account.

    Its first statement writes, so that SQLite and PostgreSQL both lock before they read.
    """
    touch = update(_account).where(_account.c.id == account)
    with engine.begin() as connection:
        connection.execute(touch.values(leased_pusd=_account.c.leased_pusd))
        yield connection


def _clock_ns(connection: Connection) -> int:
    """Return the database's clock, in nanoseconds since 1970."""
    milliseconds = connection.execute(_CLOCKS[connection.dialect.name]).scalar_one()
    return int(milliseconds) * 10**6


def _read(connection: Connection, account: int) -> Balance:
    columns = select(
        _account.c.spent_pusd,
        _account.c.leased_pusd,
    )
    row = connection.execute(columns.where(_account.c.id == account)).one()
    return Balance(
        int(row.spent_pusd),
        int(row.leased_pusd),
    )


def _move(
    connection: Connection, account: int, holder: str, *, outstanding: int, spent: int, now_ns: int
) -> None:
    """Change a holder's lease and the account by the same amount.

    A lease that expired meanwhile is not subtracted twice.
    """
    expires = now_ns + LEASE_SECONDS * 10**9
    mine = (_lease.c.account == account) & (_lease.c.holder == holder)
    before = connection.scalar(select(_lease.c.outstanding_pusd).where(mine))
    after = max(
        0,
        int(before or 0) + outstanding,
    )
    values = {"outstanding_pusd": after, "expires_ns": expires}
    if before is None:
        new = {"account": account, "holder": holder, **values}
        connection.execute(insert(_lease).values(new))
    else:
        connection.execute(update(_lease).where(mine).values(values))
    connection.execute(
        update(_account)
        .where(_account.c.id == account)
        .values(
            spent_pusd=_account.c.spent_pusd + spent,
            leased_pusd=_account.c.leased_pusd + after - int(before or 0),
        )
    )


def _expire(connection: Connection, account: int, now_ns: int) -> None:
    """Take back the leases of processes not heard of for `LEASE_SECONDS`."""
    dead = (_lease.c.account == account) & (_lease.c.expires_ns < now_ns)
    lost = sum(connection.scalars(select(_lease.c.outstanding_pusd).where(dead)))
    if lost:
        account_row = update(_account).where(_account.c.id == account)
        connection.execute(account_row.values(leased_pusd=_account.c.leased_pusd - lost))
    connection.execute(delete(_lease).where(dead))
