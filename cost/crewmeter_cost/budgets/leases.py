"""The shared side of a budget: one account per scope and period in the ledger, out of which processes lease slices.

A lease is money set aside, so that the sum of what is spent and what may be spent never passes the limit, however many
processes run. A process that dies leaves its lease to expire; what it spent is found again in the ledger's own rows.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from crewmeter_cost.ledger.schema.tables import BudgetAccount, BudgetLease, table_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

__all__ = ["LEASE_SECONDS", "MOST_PUSD", "Balance", "acquire", "balance", "open_account", "settle"]

LEASE_SECONDS = 30
"""How long a lease outlives the last word from its holder."""
MOST_PUSD = 9_000_000 * 10**12
"""The largest amount an account can hold (int64)."""

_account = table_of(BudgetAccount)
_lease = table_of(BudgetLease)


@dataclass(frozen=True, slots=True)
class Balance:
    """An account at one moment, integer pico-USD."""

    spent_pusd: int
    leased_pusd: int
    granted_pusd: int = 0
    """What the asking process was just given."""


def open_account(
    engine: Engine, *, scope: str, period_start: int, spent_so_far: Callable[[], int]
) -> int:
    """The account's id; a new one starts with what the ledger says was spent in its period before."""
    mine = (_account.c.scope == scope) & (_account.c.period_start == period_start)
    with engine.connect() as connection:
        if (found := connection.scalar(select(_account.c.id).where(mine))) is not None:
            return int(found)
    spent = spent_so_far()
    try:
        with engine.begin() as connection:
            connection.execute(
                insert(_account).values(
                    scope=scope, period_start=period_start, spent_pusd=spent, leased_pusd=0
                )
            )
    except IntegrityError:
        pass  # another process opened it a moment ago
    with engine.connect() as connection:
        return int(connection.execute(select(_account.c.id).where(mine)).scalar_one())


@contextmanager
def _locked(engine: Engine, account: int) -> Iterator[Connection]:
    """A transaction that holds the account: its first statement writes, so SQLite and PostgreSQL both lock before reading."""
    with engine.begin() as connection:
        connection.execute(
            update(_account)
            .where(_account.c.id == account)
            .values(leased_pusd=_account.c.leased_pusd)
        )
        yield connection


def balance(engine: Engine, account: int) -> Balance:
    """What is spent and leased now."""
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
    now_ns: int,
) -> Balance:
    """Lease between `need_pusd` and `want_pusd`, never past `limit_pusd`, never more than an eighth of what is left beyond the need.

    ``granted_pusd`` is 0 where even the need does not fit. The eighth keeps one process from starving the others near the limit.
    """
    with _locked(engine, account) as connection:
        _expire(connection, account, now_ns)
        state = _read(connection, account)
        available = limit_pusd - state.spent_pusd - state.leased_pusd
        if available < need_pusd:
            return state
        grant = max(need_pusd, min(want_pusd, available // 8))
        _move(connection, account, holder, outstanding=grant, spent=0, now_ns=now_ns)
        return Balance(state.spent_pusd, state.leased_pusd + grant, grant)


def settle(
    engine: Engine,
    account: int,
    *,
    holder: str,
    spent_pusd: int,
    returned_pusd: int,
    now_ns: int,
    actual_pusd: int | None = None,
) -> Balance:
    """Book `spent_pusd`, give back `returned_pusd` of the lease, and renew what is left of it.

    `actual_pusd` is what the ledger's own rows say was spent in the period: where that is more (another app without the
    guard, a process that died), it becomes the truth.
    """
    with _locked(engine, account) as connection:
        _move(
            connection,
            account,
            holder,
            outstanding=-(spent_pusd + returned_pusd),
            spent=spent_pusd,
            now_ns=now_ns,
        )
        _expire(connection, account, now_ns)
        state = _read(connection, account)
        if actual_pusd is not None and actual_pusd > state.spent_pusd:
            connection.execute(
                update(_account).where(_account.c.id == account).values(spent_pusd=actual_pusd)
            )
            state = Balance(actual_pusd, state.leased_pusd)
        return state


def _read(connection: Connection, account: int) -> Balance:
    row = connection.execute(
        select(_account.c.spent_pusd, _account.c.leased_pusd).where(_account.c.id == account)
    ).one()
    return Balance(int(row.spent_pusd), int(row.leased_pusd))


def _move(
    connection: Connection, account: int, holder: str, *, outstanding: int, spent: int, now_ns: int
) -> None:
    """Change a holder's lease and the account by the same amount. A lease that expired meanwhile is not subtracted twice."""
    expires = now_ns + LEASE_SECONDS * 10**9
    mine = (_lease.c.account == account) & (_lease.c.holder == holder)
    held = connection.scalar(select(_lease.c.outstanding_pusd).where(mine))
    if held is None:
        after = max(0, outstanding)
        connection.execute(
            insert(_lease).values(
                account=account, holder=holder, outstanding_pusd=after, expires_ns=expires
            )
        )
        change = after
    else:
        after = max(0, int(held) + outstanding)
        connection.execute(
            update(_lease).where(mine).values(outstanding_pusd=after, expires_ns=expires)
        )
        change = after - int(held)
    connection.execute(
        update(_account)
        .where(_account.c.id == account)
        .values(
            spent_pusd=_account.c.spent_pusd + spent, leased_pusd=_account.c.leased_pusd + change
        )
    )


def _expire(connection: Connection, account: int, now_ns: int) -> None:
    """Take back the leases of processes not heard of for `LEASE_SECONDS`."""
    dead = (_lease.c.account == account) & (_lease.c.expires_ns < now_ns)
    lost = sum(connection.scalars(select(_lease.c.outstanding_pusd).where(dead)))
    if lost:
        connection.execute(
            update(_account)
            .where(_account.c.id == account)
            .values(leased_pusd=_account.c.leased_pusd - lost)
        )
    connection.execute(delete(_lease).where(dead))
