"""The ledger's tables for SQLAlchemy queries, made from the generated column data.

They have names, types and keys, no indexes or defaults: the models in `tables.py` create the
schema. Queries use these because importing SQLModel takes half a second and eight megabytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

from crewmeter_cost.ledger.schema import columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.types import TypeEngine

    from crewmeter_cost.ledger.schema.table_spec import ColumnSpec, ColumnType, TableSpec

__all__ = [
    "METADATA",
    "adjustment",
    "budget",
    "budget_account",
    "budget_lease",
    "budget_notice",
    "call",
    "label",
    "latency_bucket",
    "latency_day",
    "latency_hour",
    "ledger_state",
    "price_version",
    "repricing",
    "rollup_hour",
    "run",
    "step",
    "tag_set",
]

METADATA = MetaData()
_TYPES: Mapping[ColumnType, TypeEngine[Any]] = {
    "id": BigInteger().with_variant(Integer(), "sqlite"),
    "bigint": BigInteger(),
    "integer": Integer(),
    "smallint": SmallInteger(),
    "text": Text(),
    "bytes": LargeBinary(),
    "float": Float(),
}


def _table(spec: TableSpec) -> Table:
    return Table(spec.name, METADATA, *(_column(column) for column in spec.columns))


def _column(spec: ColumnSpec) -> Column[Any]:
    return Column(
        spec.name,
        _TYPES[spec.type],
        nullable=spec.nullable,
        primary_key=spec.key,
    )


adjustment = _table(columns.ADJUSTMENT)
budget = _table(columns.BUDGET)
budget_account = _table(columns.BUDGET_ACCOUNT)
budget_lease = _table(columns.BUDGET_LEASE)
budget_notice = _table(columns.BUDGET_NOTICE)
call = _table(columns.CALL)
label = _table(columns.LABEL)
latency_bucket = _table(columns.LATENCY_BUCKET)
latency_day = _table(columns.LATENCY_DAY)
latency_hour = _table(columns.LATENCY_HOUR)
ledger_state = _table(columns.LEDGER_STATE)
price_version = _table(columns.PRICE_VERSION)
repricing = _table(columns.REPRICING)
rollup_hour = _table(columns.ROLLUP_HOUR)
run = _table(columns.RUN)
step = _table(columns.STEP)
tag_set = _table(columns.TAG_SET)
