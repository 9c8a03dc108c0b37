"""A call or step as the row that stands in the ledger: labels interned, ids binary, money and time integers."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from crewmeter.semconv import ABANDONED, KIND_TOOL
from crewmeter.usage.token_usage import extra_usage, from_extra
from crewmeter_cost.ledger.schema import core_tables
from crewmeter_cost.ledger.write.name_cleaning import clean
from crewmeter_cost.pricing.charge import Charge

if TYPE_CHECKING:
    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.ledger.write.dimensions import Labels
    from crewmeter_cost.pricing.charge import Outcome
    from crewmeter_cost.records import Call, CallContext, Step

__all__ = [
    "CALL",
    "CALL_COLUMNS",
    "STEP",
    "STEP_COLUMNS",
    "CallRows",
    "CallState",
    "Row",
    "StepState",
    "instant",
    "other_usage",
    "reported_pusd",
    "response_key",
    "step_row",
]

Row = tuple[Any, ...]
"""Values of one row in the order of `CALL_COLUMNS` or `STEP_COLUMNS`."""

_INT64 = 2**63 - 1
_LONGEST_ID = 256
"""Characters kept of a response id."""


class CallState(IntEnum):
    """How a call ended."""

    OK = 0
    ERROR = 1
    REJECTED = 2
    """Refused by the provider (HTTP 4xx, 5xx) before it billed anything: failed, but not unpriced."""


class StepState(IntEnum):
    """How a step ended."""

    OK = 0
    ERROR = 1
    ABANDONED = 2
    """Still open when the process ended."""


CALL_COLUMNS = tuple(column.name for column in core_tables.call.columns if column.name != "id")
STEP_COLUMNS = tuple(column.name for column in core_tables.step.columns if column.name != "id")


class _Positions:
    """Column name → position in a row, as attributes: ``row[CALL.run]``."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        vars(self).update({name: position for position, name in enumerate(columns)})

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...


CALL = _Positions(CALL_COLUMNS)
STEP = _Positions(STEP_COLUMNS)


def response_key(response_id: str) -> int:
    """A signed 64-bit hash of a response id, the same in every process and on every machine."""
    return int.from_bytes(
        blake2b(response_id.encode("utf-8", "replace"), digest_size=8).digest(), "big", signed=True
    )


def reported_pusd(text: str | None) -> int | None:
    """A provider's own cost (decimal USD) as pico-USD, half-even; None where there is none or it is no sensible amount."""
    if text is None:
        return None
    try:
        value = Decimal(text)
        pusd = int(value.scaleb(12).to_integral_value()) if value.is_finite() else -1
    except (InvalidOperation, OverflowError):
        return None
    return pusd if 0 <= pusd <= _INT64 else None


def instant(nanoseconds: int) -> int:
    """A time that fits the column: clocks that jumped, and hostile spans, are clamped to 1970 … 2262."""
    return min(max(nanoseconds, 0), _INT64)


def _span(started_ns: int, ended_ns: int) -> int:
    """Nanoseconds between the two, never negative (wall clocks step back)."""
    return min(max(ended_ns - started_ns, 0), _INT64)


def other_usage(text: str | None) -> dict[str, Any]:
    """Return the stored counts that have no column, as arguments of `TokenUsage`."""
    if not text:
        return {}
    return from_extra(json.loads(text))


def _other_usage(usage: TokenUsage) -> str | None:
    extra = extra_usage(usage)
    return json.dumps(extra) if extra else None


class CallRows:
    """Makes the rows of one batch of calls. What is asked for every call is bound once, and what one place means is remembered."""

    def __init__(self, labels: Labels) -> None:
        of = labels.of
        self._labels = labels
        self._operation, self._origin, self._scope = of["operation"], of["origin"], of["scope"]
        self._host, self._model = of["host"], of["model"]
        self._error, self._finish, self._tier = (
            of["error_type"],
            of["finish_reason"],
            of["service_tier"],
        )
        self._usage_status, self._cost_status = of["usage_status"], of["cost_status"]

    def context(self, context: CallContext) -> Row:
        """The columns crew … environment, as they stand in a row."""
        name, labels = self._labels.of, self._labels
        return (
            name["crew"][context.crew],
            name["flow"][context.flow],
            name["task"][context.task],
            name["agent"][context.agent],
            name["tool"][context.tool],
            name["user"][context.user],
            name["team"][context.team],
            name["session"][context.session],
            labels.tag_set[context.tags] if context.tags else None,
            name["service"][context.service],
            name["environment"][context.environment],
        )

    def row(
        self,
        call: Call,
        outcome: Outcome,
        *,
        run: int | None,
        placed: Row,
        price_version: int | None,
    ) -> Row:
        """One call as a row of `call`. An amount that 64 bits cannot hold is no amount: it becomes unpriced, `invalid_usage`."""
        usage, labels = call.usage, self._labels
        cost, cost_status = (
            (outcome.cost_pusd, outcome.status)
            if isinstance(outcome, Charge)
            else (None, outcome.status)
        )
        if cost is not None and cost > _INT64:
            cost, cost_status, price_version = None, "invalid_usage", None
        started, duration = call.started_ns, call.ended_ns - call.started_ns
        if not (0 <= started <= _INT64 and 0 <= duration <= _INT64):
            started, duration = instant(started), _span(started, call.ended_ns)
        rejected = "rejected" in usage.flags
        ttft, response_id = call.time_to_first_token_ns, call.response_id
        if response_id and not (
            len(response_id) <= _LONGEST_ID and response_id.isascii() and "\0" not in response_id
        ):
            response_id = clean(response_id, _LONGEST_ID)
        tokens_in, tokens_out = usage.input, usage.output
        return (
            bytes.fromhex(call.trace_id),
            bytes.fromhex(call.span_id),
            bytes.fromhex(call.parent_span_id) if call.parent_span_id else None,
            run,
            started,
            duration,
            ttft if ttft is None else instant(ttft),
            self._operation[call.operation],
            self._origin[call.origin],
            self._scope[call.scope],
            labels.billed_by[call.provider, call.host],
            self._host[call.host],
            self._model[call.request_model],
            self._model[call.response_model],
            response_id or None,
            response_key(response_id) if response_id else None,
            *placed,
            (2 if rejected else 1) if call.error or rejected else 0,
            self._error[call.error_type],
            self._finish[call.finish_reason],
            self._tier[call.service_tier],
            tokens_in,
            None if tokens_in is None else usage.cache_read,
            None if tokens_in is None else usage.cache_write_5m,
            None if tokens_in is None else usage.cache_write_1h,
            tokens_out,
            None if tokens_out is None else usage.reasoning,
            _other_usage(usage),
            self._usage_status[usage.status],
            labels.flags[usage.flags] if usage.flags else None,
            cost,
            self._cost_status[cost_status],
            labels.flags[outcome.flags] if outcome.flags else None,
            None if call.reported_cost_usd is None else reported_pusd(call.reported_cost_usd),
            price_version,
        )


def step_row(step: Step, labels: Labels, *, run: int | None) -> Row:
    """One step as a row of `step`. A tool's name is a `tool` label, an agent's an `agent` label, and so on."""
    context, name, details = step.context, labels.of, dict(step.details)
    abandoned = bool(details.pop(ABANDONED, False)) or bool(details.pop("abandoned", False))
    kind = step.kind if step.kind in ("crew", "flow", "task", "agent", KIND_TOOL) else "step"
    return (
        bytes.fromhex(step.trace_id),
        bytes.fromhex(step.span_id),
        bytes.fromhex(step.parent_span_id) if step.parent_span_id else None,
        run,
        name["kind"][step.kind],
        name[kind][step.name],
        name["crew"][context.crew],
        name["flow"][context.flow],
        name["task"][context.task],
        name["agent"][context.agent],
        StepState.ABANDONED if abandoned else StepState.ERROR if step.error else StepState.OK,
        name["error_type"][step.error_type],
        instant(step.started_ns),
        _span(step.started_ns, step.ended_ns),
        json.dumps(details, sort_keys=True) if details else None,
    )
