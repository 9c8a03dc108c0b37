"""A call or step as the row in the ledger.

Names are label ids, ids are binary, money and times are integers.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from crewmeter.semconv import ABANDONED, KIND_AGENT, KIND_CREW, KIND_FLOW, KIND_TASK, KIND_TOOL
from crewmeter.usage.token_usage import extra_usage, from_extra
from crewmeter_cost.ledger.schema import columns
from crewmeter_cost.ledger.write.dimensions import clean
from crewmeter_cost.pricing.charge_result import Charge

if TYPE_CHECKING:
    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.ledger.write.dimensions import Labels
    from crewmeter_cost.pricing.charge_result import Outcome
    from crewmeter_cost.records import Call, CallContext, Step

__all__ = [
    "CALL",
    "CALL_COLUMNS",
    "LARGEST",
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

LARGEST = 2**63 - 1
"""The largest number a column holds."""
_LONGEST_ID = 256
"""Characters of a response id."""
_NAMED_KINDS = (KIND_CREW, KIND_FLOW, KIND_TASK, KIND_AGENT, KIND_TOOL)
"""Kinds of steps whose names are labels of that kind. Other steps' names are `step` labels."""


class CallState(IntEnum):
    """How a call ended."""

    OK = 0
    ERROR = 1
    REJECTED = 2
    """Refused by the provider (HTTP 4xx, 5xx) before it billed anything: failed, not unpriced."""


class StepState(IntEnum):
    """How a step ended."""

    OK = 0
    ERROR = 1
    ABANDONED = 2
    """Still open when the process ended."""


CALL_COLUMNS = columns.CALL.values
STEP_COLUMNS = columns.STEP.values


class _Positions:
    """Column name → position in a row, as attributes: `row[CALL.run]`."""

    def __init__(self, names: tuple[str, ...]) -> None:
        for position, name in enumerate(names):
            vars(self)[name] = position

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...


CALL = _Positions(CALL_COLUMNS)
STEP = _Positions(STEP_COLUMNS)


def response_key(response_id: str) -> int:
    """Return a signed 64-bit hash of a response id, the same on every machine."""
    text = response_id.encode("utf-8", "replace")
    return int.from_bytes(
        blake2b(text, digest_size=8).digest(),
        "big",
        signed=True,
    )


def reported_pusd(text: str | None) -> int | None:
    """Return a provider's own cost (decimal USD) as pico-USD, rounded half-even.

    None where there is none, or where it is no sensible amount.
    """
    if text is None:
        return None
    try:
        value = Decimal(text)
        if not value.is_finite():
            return None
        pusd = int(value.scaleb(12).to_integral_value())
    except (InvalidOperation, OverflowError):
        return None
    if 0 <= pusd <= LARGEST:
        return pusd
    return None


def instant(nanoseconds: int) -> int:
    """Clamp a time to what the column holds, 1970 to 2262.

    Clocks jump, spans may be hostile.
    """
    return min(max(nanoseconds, 0), LARGEST)


def _duration(started_ns: int, ended_ns: int) -> int:
    """Return the nanoseconds between two times, never negative: wall clocks step back."""
    return min(max(ended_ns - started_ns, 0), LARGEST)


def other_usage(text: str | None) -> dict[str, Any]:
    """Return the stored counts that have no column, as arguments of `TokenUsage`."""
    if text:
        return from_extra(json.loads(text))
    return {}


def _other_usage(usage: TokenUsage) -> str | None:
    extra = extra_usage(usage)
    if extra:
        return json.dumps(extra)
    return None


class _Price(NamedTuple):
    """The columns of a call that pricing decides."""

    cost_pusd: int | None
    status: str
    version: int | None


class CallRows:
    """Makes the rows of calls. The mappings used for every call are bound once."""

    def __init__(self, labels: Labels) -> None:
        of = labels.of
        self._labels = labels
        self._operation = of["operation"]
        self._origin = of["origin"]
        self._scope = of["scope"]
        self._host = of["host"]
        self._model = of["model"]
        self._error = of["error_type"]
        self._finish = of["finish_reason"]
        self._tier = of["service_tier"]
        self._usage_status = of["usage_status"]
        self._cost_status = of["cost_status"]

    def context(self, context: CallContext) -> Row:
        """Return the columns crew … environment of a row."""
        labels = self._labels
        of = labels.of
        return (
            of["crew"][context.crew],
            of["flow"][context.flow],
            of["task"][context.task],
            of["agent"][context.agent],
            of["tool"][context.tool],
            of["user"][context.user],
            of["team"][context.team],
            of["session"][context.session],
            labels.tag_set[context.tags] if context.tags else None,
            of["service"][context.service],
            of["environment"][context.environment],
        )

    def row(self, call: Call, outcome: Outcome, *, run: int | None, context: Row) -> Row:
        """Return one call as a row of `call`."""
        labels = self._labels
        usage = call.usage
        price = self._price(outcome)
        started, duration = _times(call)
        response_id = _response_id(call.response_id)
        first_token = _instant(call.time_to_first_token_ns)
        response_hash = _key(response_id)
        usage_flags = labels.flags[usage.flags] if usage.flags else None
        cost_flags = labels.flags[outcome.flags] if outcome.flags else None
        return (
            bytes.fromhex(call.trace_id),
            bytes.fromhex(call.span_id),
            _span_id(call.parent_span_id),
            run,
            started,
            duration,
            first_token,
            self._operation[call.operation],
            self._origin[call.origin],
            self._scope[call.scope],
            labels.billed_by[call.provider, call.host],
            self._host[call.host],
            self._model[call.request_model],
            self._model[call.response_model],
            response_id,
            response_hash,
            *context,
            _state(call),
            self._error[call.error_type],
            self._finish[call.finish_reason],
            self._tier[call.service_tier],
            *_tokens(usage),
            _other_usage(usage),
            self._usage_status[usage.status],
            usage_flags,
            price.cost_pusd,
            self._cost_status[price.status],
            cost_flags,
            reported_pusd(call.reported_cost_usd),
            price.version,
        )

    def _price(self, outcome: Outcome) -> _Price:
        """Return the price.

        An amount that 64 bits cannot hold is no amount: `invalid_usage`.
        """
        if not isinstance(outcome, Charge):
            return _Price(None, outcome.status, None)
        version = self._labels.price_version[outcome.version]
        if outcome.cost_pusd > LARGEST:
            return _Price(None, "invalid_usage", None)
        return _Price(outcome.cost_pusd, outcome.status, version)


def _times(call: Call) -> tuple[int, int]:
    """Return start and duration in nanoseconds, clamped to what the columns hold."""
    started = call.started_ns
    duration = call.ended_ns - started
    if 0 <= started <= LARGEST and 0 <= duration <= LARGEST:
        return started, duration
    return instant(started), _duration(started, call.ended_ns)


def _response_id(text: str | None) -> str | None:
    if not text:
        return None
    if len(text) <= _LONGEST_ID and text.isascii() and "\0" not in text:
        return text
    return clean(text, _LONGEST_ID) or None


def _key(response_id: str | None) -> int | None:
    if response_id is None:
        return None
    return response_key(response_id)


def _instant(nanoseconds: int | None) -> int | None:
    if nanoseconds is None:
        return None
    return instant(nanoseconds)


def _span_id(text: str | None) -> bytes | None:
    if text:
        return bytes.fromhex(text)
    return None


def _state(call: Call) -> CallState:
    if "rejected" in call.usage.flags:
        return CallState.REJECTED
    if call.error:
        return CallState.ERROR
    return CallState.OK


def _tokens(usage: TokenUsage) -> Row:
    """Return the columns input_tokens … reasoning_tokens.

    Parts of an unknown are unknown.
    """
    counts: list[int | None] = [None] * 6
    if usage.input is not None:
        counts[:4] = usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h
    if usage.output is not None:
        counts[4:] = usage.output, usage.reasoning
    return tuple(counts)


def step_row(step: Step, labels: Labels, *, run: int | None) -> Row:
    """Return one step as a row of `step`."""
    of = labels.of
    context = step.context
    details = dict(step.details)
    state = _step_state(step, details)
    name_kind = step.kind if step.kind in _NAMED_KINDS else "step"
    return (
        bytes.fromhex(step.trace_id),
        bytes.fromhex(step.span_id),
        _span_id(step.parent_span_id),
        run,
        of["kind"][step.kind],
        of[name_kind][step.name],
        of["crew"][context.crew],
        of["flow"][context.flow],
        of["task"][context.task],
        of["agent"][context.agent],
        state,
        of["error_type"][step.error_type],
        instant(step.started_ns),
        _duration(step.started_ns, step.ended_ns),
        json.dumps(details, sort_keys=True) if details else None,
    )


def _step_state(step: Step, details: dict[str, Any]) -> StepState:
    """Return how a step ended, removing the abandoned mark from its details."""
    marks = [details.pop(name, False) for name in (ABANDONED, "abandoned")]
    if any(marks):
        return StepState.ABANDONED
    if step.error:
        return StepState.ERROR
    return StepState.OK
