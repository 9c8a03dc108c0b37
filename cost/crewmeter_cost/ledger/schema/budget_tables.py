"""The ledger's tables of budgets: definitions, accounts, leases and notices."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Index,
    Integer,
    Text,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

from crewmeter_cost.ledger.schema.column_kinds import big_column

__all__ = ["BudgetAccount", "BudgetLease", "BudgetNotice", "BudgetRow"]


class BudgetRow(SQLModel, table=True):
    """A budget set with ``crewmeter budget set``.

    It holds for every app that writes this ledger.
    """

    __tablename__ = "budget"
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    name: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    definition: str = Field(sa_column=Column(Text, nullable=False))
    """The keys of the budgets file as canonical JSON."""
    created_ns: int = Field(sa_column=big_column())


class BudgetAccount(SQLModel, table=True):
    """One budget scope's spend in a period, and what is leased to running apps."""

    __tablename__ = "budget_account"
    __table_args__ = (UniqueConstraint("scope", "period_start"),)
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    scope: str = Field(sa_column=Column(Text, nullable=False))
    """Scope, value, period and time zone; not the amount, which may change within a period."""
    period_start: int = Field(sa_column=big_column())
    """Unix seconds; 0 where the period never resets."""
    spent_pusd: int = Field(sa_column=big_column(default=0))
    leased_pusd: int = Field(sa_column=big_column(default=0))


class BudgetLease(SQLModel, table=True):
    """A slice of a budget that one process may spend without asking again.

    The process returns it; where it died, the slice expires.
    """

    __tablename__ = "budget_lease"
    __table_args__ = (
        UniqueConstraint("account", "holder"),
        Index("budget_lease_expires", "expires_ns"),
    )
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    account: int = Field(sa_column=Column(Integer, nullable=False))
    holder: str = Field(sa_column=Column(Text, nullable=False))
    outstanding_pusd: int = Field(sa_column=big_column())
    expires_ns: int = Field(sa_column=big_column())


class BudgetNotice(SQLModel, table=True):
    """A threshold (50, 80, 100 %) of one budget that was announced in one period.

    Its key lets one process at a time deliver it.
    """

    __tablename__ = "budget_notice"
    __table_args__ = (UniqueConstraint("account", "percent"),)
    id: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True))
    account: int = Field(sa_column=Column(Integer, nullable=False))
    percent: int = Field(sa_column=Column(Integer, nullable=False))
    sent_ns: int = Field(sa_column=big_column())
    """When it was delivered. Negative: when it was claimed, and not delivered yet."""
