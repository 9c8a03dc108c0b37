"""Readers of CrewAI's ending events: what each says of the span it closes.

Events are read by attribute. Nothing of CrewAI is imported.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.crewai.display_names import joined, object_key
from crewmeter.spans.labels import short, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.util.types import AttributeValue

    from crewmeter.spans.model_call import ModelCall

__all__ = [
    "Ending",
    "a2a_ended",
    "add_outcome",
    "agent_ended",
    "ended",
    "error_of",
    "guardrail_ended",
    "paused",
    "source_ended",
    "task_ended",
    "tool_ended",
    "usage_of",
]

_A2A_FAILURES = frozenset({"failed", "rejected", "canceled"})


@dataclass(slots=True)
class Ending:
    """What an ending event says of its span."""

    key: str | None = None
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    error_type: str | None = None
    content: tuple[tuple[str, object], ...] = ()


def ended(*key_fields: str) -> Callable[[Any, Any], Ending]:
    """Make a reader of ends that are matched by the values of ``key_fields``."""

    def read(source: Any, event: Any) -> Ending:
        return Ending(key=joined(event, key_fields))

    return read


def source_ended(source: Any, event: Any) -> Ending:
    """Read the end of what an object of CrewAI does, matched by that object."""
    return Ending(key=object_key(source))


def task_ended(source: Any, event: Any) -> Ending:
    """Read the end of a task."""
    task = getattr(event, "task", None) or source
    output = getattr(
        getattr(event, "output", None),
        "raw",
        None,
    )
    return Ending(
        key=text(getattr(task, "id", None)),
        content=((semconv.OUTPUT_MESSAGES, output),),
    )


def agent_ended(source: Any, event: Any) -> Ending:
    """Read the end of an agent's work on a task."""
    agent = getattr(event, "agent", None) or source
    output = getattr(event, "output", None)
    return Ending(
        key=text(getattr(agent, "id", None)),
        content=((semconv.OUTPUT_MESSAGES, output),),
    )


def tool_ended(source: Any, event: Any) -> Ending:
    """Read the end of a tool's use."""
    ending = Ending(key=short(getattr(event, "tool_name", None)) or "tool")
    ending.content = ((semconv.TOOL_RESULT, getattr(event, "output", None)),)
    if getattr(event, "from_cache", False) is True:
        ending.attributes[semconv.CACHED_RESULT] = True
    failure = getattr(event, "failure", None)
    if failure is not None:
        reason = getattr(failure, "reason", None)
        name = short(getattr(reason, "value", reason))
        ending.attributes[semconv.TOOL_FAILURE] = name or "tool_reported"
        ending.error_type = "tool_failure"
    return ending


def guardrail_ended(source: Any, event: Any) -> Ending:
    """Read the end of a guardrail."""
    passed = getattr(event, "success", None) is not False
    return Ending(attributes={semconv.GUARDRAIL_PASSED: passed})


def a2a_ended(source: Any, event: Any) -> Ending:
    """Read the end of an exchange with another agent.

    A2A has no event of failure. A completed one has failed by its status, or when none of its parts
    succeeded.
    """
    status = short(getattr(event, "status", None))
    if getattr(event, "failure_count", 0) and not getattr(event, "success_count", 0):
        status = "failed"
    if status in _A2A_FAILURES:
        return Ending(error_type=f"a2a_{status}")
    return Ending()


def paused(source: Any, event: Any) -> Ending:
    """Read a flow's or method's stop to wait for a human."""
    if event.type == "flow_paused":
        key: str | None = object_key(source)
    else:
        key = text(getattr(event, "method_name", None))
    return Ending(key=key, attributes={semconv.PAUSED: True})


def add_outcome(call: ModelCall, event: Any) -> None:
    """Add what an ending event says of a call."""
    fields = vars(event)
    usage = fields.get("usage")
    if isinstance(usage, dict):
        call.usage = usage
    reason = fields.get("finish_reason")
    if isinstance(reason, str) and reason:
        call.finish_reason = reason
    response_id = fields.get("response_id")
    if isinstance(response_id, str) and response_id:
        call.response_id = response_id


def usage_of(event: Any) -> dict[str, object] | None:
    """Return the usage on the end of a call, in the provider's or CrewAI's own shape."""
    usage = getattr(event, "usage", None)
    if isinstance(usage, dict):
        return usage
    return None


def error_of(event: Any, unnamed: str = "_OTHER") -> str:
    """Return the type of what failed, of low cardinality, and never its message.

    It is the event's own, else that of the exception in flight, else ``unnamed``.
    """
    error_type = getattr(event, "error_type", None)
    for value in (error_type, getattr(event, "error", None)):
        if isinstance(value, type):
            return value.__name__
        if isinstance(value, BaseException):
            return type(value).__name__
    if isinstance(error_type, str) and error_type.isidentifier() and len(error_type) <= 64:
        return error_type
    in_flight = sys.exc_info()[0]
    if in_flight is None:
        return unnamed
    return in_flight.__name__
