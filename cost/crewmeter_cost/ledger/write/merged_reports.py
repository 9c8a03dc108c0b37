"""The steps that stand for reports of calls which were merged into others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.write.rows import CALL, STEP_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crewmeter_cost.ledger.write.rows import Row
    from crewmeter_cost.ledger.write.transaction import Transaction

__all__ = ["KIND_MERGED", "merged_rows"]

KIND_MERGED = "merged_call"
"""The kind of a step that stands for a further report of a call."""


def merged_rows(transaction: Transaction, merged: Iterable[tuple[Row, Row]]) -> list[Row]:
    """Return the steps that stand for the reports that were left out."""
    pairs = list(merged)
    if not pairs:
        return []
    of = transaction.labels.of
    kind = of["kind"][KIND_MERGED]
    aggregate = of["origin"]["aggregate"]
    scopes = {row[CALL.scope] for row, _ in pairs} - {None}
    names = dict(
        transaction.statements.select(
            transaction.session, columns.LABEL, ("id", "value"), "id", sorted(scopes)
        )
    )
    rows = []
    for left_out, stays in pairs:
        is_sum_of_others = left_out[CALL.origin] == aggregate
        details = {
            "same_call_as": stays[CALL.span_id].hex(),
            "scope": None if is_sum_of_others else left_out[CALL.scope],
        }
        values = {
            "kind": kind,
            "name": of["step"][names.get(left_out[CALL.scope]) or "another instrumentor"],
            "details": json.dumps(details, sort_keys=True),
            "state": min(left_out[CALL.state], 1),
        }
        row = []
        for name in STEP_COLUMNS:
            if name in values:
                row.append(values[name])
            else:
                row.append(left_out[getattr(CALL, name)])
        rows.append(tuple(row))
    return rows
