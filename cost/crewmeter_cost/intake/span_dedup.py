"""One exchange seen by two instrumentors where the response has no id.

The inner span is a child of the outer one. Both get one response id, so that the ledger's rule for
two reports of one call applies. Only within a batch: spans that nest end within microseconds of
each other and travel together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter_cost.records import Call

__all__ = ["paired"]


def paired(calls: list[Call]) -> list[Call]:
    """Return `calls` with one response id on both reports of an exchange.

    Only calls without a response id get one.
    """
    nameless = [
        position
        for position, call in enumerate(calls)
        if call.response_id is None and call.origin != "aggregate"
    ]
    if not nameless or not any(call.origin == "foreign" for call in calls):
        return calls
    at = {(call.trace_id, call.span_id): position for position, call in enumerate(calls)}
    children = {
        (call.trace_id, call.parent_span_id): position
        for position, call in enumerate(calls)
        if call.parent_span_id
    }
    made = list(calls)
    for position in nameless:
        call = made[position]
        if call.response_id is not None:
            continue
        for other in (
            at.get((call.trace_id, call.parent_span_id or "")),
            children.get((call.trace_id, call.span_id)),
        ):
            if other is not None and _same(call, made[other]):
                outer = made[other] if call.parent_span_id == made[other].span_id else call
                shared = made[other].response_id or f"span:{outer.trace_id}:{outer.span_id}"
                made[position] = replace(call, response_id=shared)
                made[other] = replace(
                    made[other],
                    response_id=shared,
                )
                break
    return made


def _same(one: Call, other: Call) -> bool:
    """Two scopes, one operation, one model, one count of input tokens."""
    models = {
        one.request_model or one.response_model,
        other.request_model or other.response_model,
    } - {None}
    if "aggregate" in (one.origin, other.origin):
        return False
    alike = (
        one.operation == other.operation
        and one.usage.input == other.usage.input
        and len(models) <= 1
    )
    return alike and one.scope != other.scope
