"""Spans of other instrumentors, read through the table of dialects.

Leaf inference becomes a `Call`; crews, agents, tasks and tools become a `Step`. Their run is their
trace. Agent and chain spans carry sums of what their leaves used, so only leaves are billed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter_cost.intake.coerce import model_text, nanoseconds, text
from crewmeter_cost.intake.inherited_attributes import environment_of, tags_of
from crewmeter_cost.intake.instrumentors.call_usage import (
    NO_METADATA,
    provider_metadata,
    response_id_on,
    usage_on,
)
from crewmeter_cost.intake.instrumentors.semconv_dialects import DIALECTS, Dialect
from crewmeter_cost.intake.instrumentors.span_facts import (
    NAMES,
    fact,
    finish_reason_of,
    host_of,
    model_named,
    provider_of,
    tier_of,
)
from crewmeter_cost.intake.instrumentors.stored_exchange import served_tier
from crewmeter_cost.intake.instrumentors.usage_names import ATTRIBUTES
from crewmeter_cost.records import Call, CallContext, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.records import Span

__all__ = ["aggregate", "read"]

_RUN_KINDS = frozenset({semconv.KIND_CREW, semconv.KIND_FLOW})
_AGENT_IN_METADATA = re.compile(r'"lc_agent_name":\s?"([^"\\]{1,128})"')
_OUTPUT_LIMIT = 65_536
_NAME_TAIL = re.compile(r"\.(kickoff|run|agent|task|tool|workflow|_execute_core)$|\._execute_core$")
_OPERATION_NAME = re.compile(r"^(execute_tool|invoke_agent|invoke_workflow|execute_task) +")


_UNNAMED = Dialect(name="unnamed", markers=(), kind=(), billed={}, steps={})
"""The dialect of a span that no instrumentor's marker tells."""
_TOOLS = frozenset({semconv.KIND_TOOL, "execute_tool", "function"})


def read(span: Span) -> Call | Step | None:
    """Return what a foreign span reports.

    None where no dialect knows it, or its dialect says that it is nothing of its own.
    """
    attributes = span.attributes
    dialect = _dialect_of(attributes)
    if dialect is None or _is_skipped(span, dialect):
        return None
    named = _kind(attributes, dialect.kind)
    operation = dialect.billed.get(named)
    if operation is not None and _refined(attributes, dialect) is None:
        return _call(span, dialect, operation)
    kind = _kind_of_step(span, dialect, named)
    if kind is None:
        return None
    return _step(span, kind)


def aggregate(span: Span) -> Call | None:
    """Return the use that a span reports which is no known inference, or None.

    An agent's span sums up its calls, but some instrumentors write no other (Claude's Agent SDK).
    An operation that nobody knows may be an inference. The ledger books it unless it knows calls
    inside it. A tool's span repeats the use of the call that requested it.
    """
    attributes = span.attributes
    if not any(name in ATTRIBUTES for name in attributes):
        return None
    dialect = _dialect_of(attributes) or _UNNAMED
    named = _kind(attributes, dialect.kind)
    if named in dialect.billed or named in _TOOLS or _is_skipped(span, dialect):
        return None
    if fact(attributes, "tool") is not None:
        return None
    call = _call(span, dialect, semconv.CHAT)
    usage = call.usage
    model = call.request_model or call.response_model or model_text(attributes.get("model_name"))
    if model is None or usage.status != "reported" or not (usage.input or usage.output):
        return None
    kind = _kind_of_step(span, dialect, named)
    return replace(
        call,
        operation=semconv.CHAT if kind is None else semconv.INVOKE_AGENT,
        origin="aggregate",
        request_model=model,
        response_id=None,
        usage=replace(usage, flags=(*usage.flags, "aggregate_usage")),
        context=_context(span, tool=None, kind=kind, name=_step_name(span, kind or "")),
    )


def _kind_of_step(span: Span, dialect: Dialect, named: str) -> str | None:
    """Return the kind of step that a span is, None where it is none."""
    kind = _refined(span.attributes, dialect) or dialect.steps.get(named)
    kind = kind or _kind_of_root(span, dialect, named)
    is_link = span.name in dialect.links or (named and dialect.links_unknown)
    if kind is None and is_link:
        kind = semconv.KIND_OTHER
    if kind is None or _is_inner(span, kind):
        return None
    return kind


def _dialect_of(attributes: Mapping[str, object]) -> Dialect | None:
    for dialect in DIALECTS:
        if any(marker in attributes for marker in dialect.markers):
            return dialect
    return None


def _is_skipped(span: Span, dialect: Dialect) -> bool:
    if dialect.skip_names and span.name.endswith(dialect.skip_names):
        return True
    if span.scope.startswith(_LOGFIRE) and _begins_stream(span):
        return True
    return any(span.attributes.get(name) == value for name, value in dialect.skip.items())


_LOGFIRE = ("logfire.openai", "logfire.anthropic")
_OF_AN_ANSWER = (
    semconv.RESPONSE_ID,
    semconv.INPUT_TOKENS,
    "gen_ai.output.messages",
    "response_data",
)


def _begins_stream(span: Span) -> bool:
    """Return whether a span of Logfire's is only the start of a stream.

    It ends when the first chunk arrives. A log of its own, written at the stream's end, has the
    answer and the counts.
    """
    attributes = span.attributes
    is_span = attributes.get("logfire.span_type") == "span"
    return is_span and not span.error and not any(name in attributes for name in _OF_AN_ANSWER)


def _started_ns(span: Span) -> int:
    """Return when a call began.

    Logfire's log of a stream has only its end and its duration.
    """
    if span.started_ns == span.ended_ns and span.scope.startswith(_LOGFIRE):
        return span.ended_ns - (nanoseconds(span.attributes.get("duration")) or 0)
    return span.started_ns


def _kind_of_root(span: Span, dialect: Dialect, named: str) -> str | None:
    """Return what a span without a parent is: LangChain's agents say who they are."""
    if span.parent_span_id is not None:
        return None
    kind = dialect.roots.get(named)
    if kind is not None and _agent(span.attributes) is not None:
        return semconv.KIND_AGENT
    return kind


def _agent(attributes: Mapping[str, object]) -> str | None:
    """Return the agent's name, which OpenInference has inside LangChain's metadata."""
    named = fact(attributes, "agent")
    metadata = attributes.get("metadata")
    if named is not None or not isinstance(metadata, str):
        return named
    match = _AGENT_IN_METADATA.search(metadata, 0, _OUTPUT_LIMIT)
    return text(match[1]) if match else None


def _refined(attributes: Mapping[str, object], dialect: Dialect) -> str | None:
    for name, kind in dialect.refines.items():
        if name in attributes:
            return kind
    return None


def _kind(attributes: Mapping[str, object], names: tuple[str, ...]) -> str:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str):
            return value.strip('"').lower()
    return ""


def _is_inner(span: Span, kind: str) -> bool:
    """Return whether OpenLIT calls a method of CrewAI's executor an agent."""
    return (
        kind == semconv.KIND_AGENT
        and fact(span.attributes, "agent") is None
        and span.scope.startswith("openlit.")
    )


def _call(span: Span, dialect: Dialect, operation: str) -> Call:
    attributes = span.attributes
    provider = provider_of(span)
    metadata = NO_METADATA
    if dialect.name == "ai_sdk":
        metadata = provider_metadata(attributes, provider)
    first: object = None
    if attributes.get(semconv.REQUEST_STREAM) is not False:
        for key in NAMES["first_token"]:
            first = attributes.get(key)
            if first is not None:
                break
    return Call(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        started_ns=_started_ns(span),
        ended_ns=span.ended_ns,
        operation=operation,
        provider=provider,
        host=host_of(fact(attributes, "host")),
        request_model=model_named(attributes, "request_model"),
        response_model=model_named(attributes, "response_model"),
        response_id=response_id_on(attributes, operation),
        usage=usage_on(span, dialect, operation, provider, metadata),
        error=span.error,
        error_type=fact(attributes, "error_type"),
        finish_reason=finish_reason_of(attributes),
        service_tier=tier_of(attributes) or metadata.service_tier or served_tier(attributes),
        # What instrumentors write as cost is their own estimate, not the provider's word.
        reported_cost_usd=metadata.reported_cost_usd,
        time_to_first_token_ns=nanoseconds(first),
        origin="foreign",
        scope=span.scope,
        context=_context(span, tool=None, is_leaf=True),
    )


_NAME_OF_KIND = {
    semconv.KIND_CREW: "workflow",
    semconv.KIND_FLOW: "workflow",
    semconv.KIND_TASK: "task",
    semconv.KIND_AGENT: "agent",
    semconv.KIND_TOOL: "tool",
}


def _step(span: Span, kind: str) -> Step:
    attributes = span.attributes
    name = _step_name(span, kind)
    is_root_agent = kind == semconv.KIND_AGENT and span.parent_span_id is None
    tool = name if kind == semconv.KIND_TOOL else None
    cached = attributes.get("crewai.tool.from_cache")
    details: dict[str, str | int | float | bool] = {}
    if isinstance(cached, bool):
        details["cached"] = cached
    return Step(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        started_ns=span.started_ns,
        ended_ns=span.ended_ns,
        kind=kind,
        name=name,
        error=span.error,
        error_type=fact(attributes, "error_type"),
        is_run=kind in _RUN_KINDS or is_root_agent,
        details=details,
        context=_context(span, tool=tool, kind=kind, name=name),
    )


def _step_name(span: Span, kind: str) -> str:
    name = _NAME_OF_KIND.get(kind)
    named = fact(span.attributes, name) if name else None
    if named:
        return named
    whole = text(span.name) or ""
    stem = _NAME_TAIL.sub("", whole)
    return _OPERATION_NAME.sub("", stem) or kind


def _context(
    span: Span,
    *,
    tool: str | None,
    is_leaf: bool = False,
    kind: str | None = None,
    name: str | None = None,
) -> CallContext:
    attributes = span.attributes
    resource = span.resource
    prefix = semconv.TAG_PREFIX
    own: dict[str, str | None] = {}
    for each, step_kind in _FACT_OF_KIND.items():
        if kind == step_kind:
            own[each] = name
        else:
            own[each] = fact(attributes, each)
    if own["agent"] is None:
        own["agent"] = _agent(attributes)
    # A call without a parent is no run.
    is_alone = is_leaf and span.parent_span_id is None
    return CallContext(
        run_id=None if is_alone else span.trace_id,
        crew=own["crew"],
        flow=own["flow"],
        task=own["task"],
        agent=own["agent"],
        tool=tool,
        user=fact(attributes, "user"),
        team=fact(attributes, "team"),
        session=fact(attributes, "session"),
        tags=tags_of(
            (key[len(prefix) :], attributes[key]) for key in attributes if key.startswith(prefix)
        ),
        service=text(resource.get(semconv.SERVICE_NAME)),
        environment=environment_of(resource) or fact(attributes, "environment"),
    )


_FACT_OF_KIND = {
    "crew": semconv.KIND_CREW,
    "flow": semconv.KIND_FLOW,
    "task": semconv.KIND_TASK,
    "agent": semconv.KIND_AGENT,
}
