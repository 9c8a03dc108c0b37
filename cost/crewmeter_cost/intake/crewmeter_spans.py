"""Spans of our own tracer, complete in themselves, as calls and steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.hosts import canonical_provider
from crewmeter.usage.attributes import plain_usage_from_attributes
from crewmeter_cost.intake.coerce import decimal_text, first_text, model_text, nanoseconds, text
from crewmeter_cost.intake.inherited_attributes import call_context_of
from crewmeter_cost.records import Call, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.records import Span

__all__ = ["read"]

_NAME_OF_KIND = {
    semconv.KIND_CREW: (semconv.CREW, semconv.WORKFLOW_NAME, semconv.RUN_NAME),
    semconv.KIND_FLOW: (semconv.FLOW, semconv.WORKFLOW_NAME, semconv.RUN_NAME),
    semconv.KIND_TASK: (semconv.TASK,),
    semconv.KIND_AGENT: (semconv.AGENT_NAME,),
    semconv.KIND_TOOL: (semconv.TOOL_NAME,),
}
"""Where the name of a node stands; any other kind is called what its span is called."""
_DETAILS = {
    semconv.CACHED_RESULT: "cached",
    semconv.ATTEMPTS: "attempts",
    semconv.ABANDONED: "abandoned",
    semconv.REPLAYED: "replayed",
    semconv.TOOL_FAILURE: "failure",
    semconv.GUARDRAIL_PASSED: "passed",
    semconv.PAUSED: "paused",
}


def read(span: Span) -> Call | Step | None:
    """Return a call for a billed operation, a step for another kind, else None."""
    attributes = span.attributes
    operation = attributes.get(semconv.OPERATION)
    if isinstance(operation, str) and operation in semconv.BILLED_OPERATIONS:
        return _call(span, attributes, operation)
    kind = attributes.get(semconv.KIND)
    if isinstance(kind, str) and kind:
        return _step(span, attributes, kind)
    return None


def _call(span: Span, attributes: Mapping[str, object], operation: str) -> Call:
    get = attributes.get
    return Call(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        started_ns=span.started_ns,
        ended_ns=span.ended_ns,
        operation=operation,
        provider=_provider(get(semconv.PROVIDER) or get(semconv.DECLARED_PROVIDER)),
        host=text(get(semconv.SERVER_ADDRESS)),
        request_model=model_text(get(semconv.REQUEST_MODEL)),
        response_model=model_text(get(semconv.RESPONSE_MODEL)),
        response_id=text(get(semconv.RESPONSE_ID)),
        usage=plain_usage_from_attributes(attributes, operation),
        error=span.error,
        error_type=text(get(semconv.ERROR_TYPE)),
        finish_reason=first_text(get(semconv.FINISH_REASONS)),
        service_tier=text(get(semconv.SERVICE_TIER)),
        reported_cost_usd=decimal_text(get(semconv.REPORTED_COST_USD)),
        time_to_first_token_ns=nanoseconds(get(semconv.TIME_TO_FIRST_TOKEN)),
        origin=text(get(semconv.CALL_ORIGIN)) or "event",
        scope=span.scope,
        context=call_context_of(attributes, span.resource),
    )


def _provider(value: object) -> str | None:
    """Return our own name of a provider, as newer conventions respell some."""
    return canonical_provider(text(value))


def _step(span: Span, attributes: Mapping[str, object], kind: str) -> Step:
    get = attributes.get
    named = next(
        (name for key in _NAME_OF_KIND.get(kind, ()) if (name := text(get(key)))),
        None,
    )
    details: dict[str, str | int | float | bool] = {}
    for key, name in _DETAILS.items():
        value = get(key)
        if isinstance(value, bool | int):
            details[name] = value
        elif value is not None and (short := text(value)):
            details[name] = short
    context = call_context_of(attributes, span.resource)
    return Step(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        started_ns=span.started_ns,
        ended_ns=span.ended_ns,
        kind=text(kind) or semconv.KIND_OTHER,
        name=named or text(span.name) or kind,
        error=span.error,
        error_type=text(get(semconv.ERROR_TYPE)),
        is_run=span.span_id == context.run_id,
        details=details,
        context=context,
    )
