"""Spans of other instrumentors, through the dialect table: leaf inference → `Call`, crews, agents, tasks and tools → `Step`.

Their run is their trace. Agent and chain spans carry sums of what their leaves were billed; only leaves are billed here.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crewmeter import semconv
from crewmeter.providers.hosts import canonical_provider
from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.attributes import usage_from_attributes
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.intake.coerce import first_text, nanoseconds, text
from crewmeter_cost.intake.inherited_attributes import environment_of, tags_of
from crewmeter_cost.intake.semconv_dialects import DIALECTS, NAMES, Dialect
from crewmeter_cost.records import Call, CallContext, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.records import Span

__all__ = ["read"]

_RUN_KINDS = frozenset({semconv.KIND_CREW, semconv.KIND_FLOW})
_RAW_LIMIT = 8_192
"""Characters of a raw usage text that are parsed; providers write a few hundred."""
_ID_IN_OUTPUT = re.compile(r'\{"id":\s?"([\w.:-]{6,128})"')
_NAME_TAIL = re.compile(r"\.(kickoff|run|agent|task|tool|workflow|_execute_core)$|\._execute_core$")
_OPERATION_NAME = re.compile(r"^(execute_tool|invoke_agent|invoke_workflow|execute_task) +")


def read(span: Span) -> Call | Step | None:
    """What a foreign span reports, or None where no dialect knows it or its dialect says it is nothing of its own."""
    attributes = span.attributes
    dialect = next(
        (each for each in DIALECTS if any(marker in attributes for marker in each.markers)), None
    )
    if dialect is None or any(
        attributes.get(name) == value for name, value in dialect.skip.items()
    ):
        return None
    kind = next((kind for name, kind in dialect.refines.items() if name in attributes), None)
    if kind is None:
        said = _said(attributes, dialect.kind)
        operation = dialect.billed.get(said)
        if operation is not None:
            return _call(span, dialect, operation)
        kind = dialect.steps.get(said)
    return None if kind is None or _is_inner(span, kind) else _step(span, kind)


def _said(attributes: Mapping[str, object], names: tuple[str, ...]) -> str:
    return next(
        (value.lower() for name in names if isinstance(value := attributes.get(name), str)), ""
    )


def _is_inner(span: Span, kind: str) -> bool:
    """OpenLIT shows the methods of CrewAI's executor as agents without a name: they are its inner works."""
    return (
        kind == semconv.KIND_AGENT
        and _fact(span.attributes, "agent") is None
        and span.scope.startswith("openlit.")
    )


def _fact(attributes: Mapping[str, object], name: str) -> str | None:
    return next((found for key in NAMES[name] if (found := text(attributes.get(key)))), None)


def _call(span: Span, dialect: Dialect, operation: str) -> Call:
    attributes = span.attributes
    provider = canonical_provider(_fact(attributes, "provider")) or (
        "openai" if span.name.startswith("OpenAI-") else None
    )
    streamed = attributes.get(semconv.REQUEST_STREAM) is not False
    first = next(
        (value for key in NAMES["first_token"] if (value := attributes.get(key)) is not None), None
    )
    return Call(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        started_ns=span.started_ns,
        ended_ns=span.ended_ns,
        operation=operation,
        provider=provider,
        host=_host(_fact(attributes, "host")),
        request_model=_fact(attributes, "request_model"),
        response_model=_fact(attributes, "response_model"),
        response_id=_response_id(attributes, operation),
        usage=_usage(attributes, dialect, operation, provider),
        error=span.error,
        error_type=_fact(attributes, "error_type"),
        finish_reason=_finish_reason(attributes),
        service_tier=_fact(attributes, "service_tier"),
        reported_cost_usd=None,  # what instrumentors write as cost is their own estimate, not the provider's word
        time_to_first_token_ns=nanoseconds(first) if streamed else None,
        origin="foreign",
        scope=span.scope,
        context=_context(span, tool=None, is_leaf=True),
    )


def _usage(
    attributes: Mapping[str, object], dialect: Dialect, operation: str, provider: str | None
) -> TokenUsage:
    """The raw usage where the span carries it, else its counts. CrewAI's own Gemini spans say input 0: invalid, not free."""
    for name in dialect.raw_usage:
        raw = _parsed(attributes.get(name))
        if raw:
            counts = dialect.raw_counts
            usage = (
                usage_from_attributes(raw, operation, counts)
                if counts is not None and counts.input[0] in raw
                else None
            )
            usage = usage or read_usage(raw, provider=provider, operation=operation)
            if usage.status == "reported":
                return usage
    usage = usage_from_attributes(attributes, operation, dialect.counts)
    if dialect.name == "crewai" and usage.input == 0 and usage.output:
        return TokenUsage(status="invalid", flags=("input_not_reported",))
    return usage


def _parsed(value: object) -> dict[str, object]:
    """A usage text as a dict: JSON, or the Python literal LiteLLM writes; empty where it is neither."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not value.startswith("{") or len(value) > _RAW_LIMIT:
        return {}
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        try:
            parsed = ast.literal_eval(value)
        except (
            ValueError,
            SyntaxError,
            RecursionError,
            MemoryError,
        ):  # what literal_eval may raise on hostile text
            return {}
    return parsed if isinstance(parsed, dict) else {}


def _response_id(attributes: Mapping[str, object], operation: str) -> str | None:
    """The provider's id of its answer. OpenInference shows it only inside the answer; LiteLLM makes one up for embeddings."""
    said = _fact(attributes, "response_id")
    if said is not None:
        return (
            None
            if operation == semconv.EMBEDDINGS and said == attributes.get("litellm.call_id")
            else said
        )
    output = attributes.get("output.value")
    match = _ID_IN_OUTPUT.match(output) if isinstance(output, str) else None
    return None if match is None else match[1]


def _finish_reason(attributes: Mapping[str, object]) -> str | None:
    for name in NAMES["finish_reason"]:
        value = attributes.get(name)
        if isinstance(value, str) and value.startswith('["'):  # a list as JSON text
            value = value[2:].partition('"')[0]
        if reason := first_text(value):
            return reason
    return None


def _host(value: str | None) -> str | None:
    """A host name out of a host or a URL."""
    if value is None or "//" not in value:
        return value
    try:
        return urlsplit(value).hostname
    except ValueError:
        return None


def _step(span: Span, kind: str) -> Step:
    attributes = span.attributes
    name = {
        semconv.KIND_CREW: "workflow",
        semconv.KIND_FLOW: "workflow",
        semconv.KIND_TASK: "task",
        semconv.KIND_AGENT: "agent",
        semconv.KIND_TOOL: "tool",
    }.get(kind)
    shown = (
        (_fact(attributes, name) if name else None)
        or _OPERATION_NAME.sub("", _NAME_TAIL.sub("", text(span.name) or ""))
        or kind
    )
    cached = attributes.get("crewai.tool.from_cache")
    return Step(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        started_ns=span.started_ns,
        ended_ns=span.ended_ns,
        kind=kind,
        name=shown,
        error=span.error,
        error_type=_fact(attributes, "error_type"),
        is_run=kind in _RUN_KINDS or (kind == semconv.KIND_AGENT and span.parent_span_id is None),
        details={"cached": cached} if isinstance(cached, bool) else {},
        context=_context(
            span, tool=shown if kind == semconv.KIND_TOOL else None, kind=kind, name=shown
        ),
    )


def _context(
    span: Span,
    *,
    tool: str | None,
    is_leaf: bool = False,
    kind: str | None = None,
    name: str | None = None,
) -> CallContext:
    attributes, resource = span.attributes, span.resource
    prefix = semconv.TAG_PREFIX
    return CallContext(
        run_id=None
        if is_leaf and span.parent_span_id is None
        else span.trace_id,  # a lone call is no run
        crew=name if kind == semconv.KIND_CREW else _fact(attributes, "crew"),
        flow=name if kind == semconv.KIND_FLOW else _fact(attributes, "flow"),
        task=name if kind == semconv.KIND_TASK else _fact(attributes, "task"),
        agent=name if kind == semconv.KIND_AGENT else _fact(attributes, "agent"),
        tool=tool,
        user=_fact(attributes, "user"),
        team=_fact(attributes, "team"),
        session=_fact(attributes, "session"),
        tags=tags_of(
            (key[len(prefix) :], attributes[key]) for key in attributes if key.startswith(prefix)
        ),
        service=text(resource.get(semconv.SERVICE_NAME)),
        environment=environment_of(resource) or _fact(attributes, "environment"),
    )
