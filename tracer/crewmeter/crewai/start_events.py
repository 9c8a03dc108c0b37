"""Readers of CrewAI's starting events: what each says of the span it opens.

Events are read by attribute. Nothing of CrewAI is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.crewai.display_names import (
    agent_role,
    crew_name,
    joined,
    object_key,
    task_labels,
)
from crewmeter.redaction import model_name
from crewmeter.spans.labels import declared_provider, endpoint_of, settings_of, short, text
from crewmeter.spans.model_call import ModelCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.util.types import AttributeValue

__all__ = [
    "Opening",
    "agent_started",
    "crew_started",
    "flow_started",
    "guardrail_started",
    "lite_agent_started",
    "mcp_started",
    "method_started",
    "named",
    "read_llm_call",
    "task_started",
    "tool_started",
    "train_started",
]


@dataclass(slots=True)
class Opening:
    """What a starting event says of its span."""

    name: str
    key: str | None = None
    scope: dict[str, str] | None = None
    attributes: dict[str, AttributeValue] | None = None
    labels: Mapping[str, str] | None = None
    is_run: bool = True
    content: tuple[tuple[str, object], ...] = ()


def crew_started(source: Any, event: Any) -> Opening:
    """Read the start of a crew."""
    name = crew_name(source, event)
    return Opening(
        f"{semconv.INVOKE_WORKFLOW} {name}",
        key=object_key(source),
        scope={semconv.CREW: name},
        attributes={semconv.OPERATION: semconv.INVOKE_WORKFLOW, semconv.WORKFLOW_NAME: name},
        labels=task_labels(source),
        content=((semconv.INPUT_MESSAGES, getattr(event, "inputs", None)),),
    )


def train_started(source: Any, event: Any) -> Opening:
    """Read the start of a training or test, which is a crew's."""
    opening = crew_started(source, event)
    opening.name = f"{str(event.type).removesuffix('_started')} {crew_name(source, event)}"
    opening.labels = None
    return opening


def flow_started(source: Any, event: Any) -> Opening:
    """Read the start of a flow."""
    name = short(getattr(event, "flow_name", None)) or type(source).__name__
    attributes: dict[str, AttributeValue] = {
        semconv.OPERATION: semconv.INVOKE_WORKFLOW,
        semconv.WORKFLOW_NAME: name,
    }
    return Opening(
        f"{semconv.INVOKE_WORKFLOW} {name}",
        key=object_key(source),
        scope={semconv.FLOW: name},
        attributes=attributes,
    )


def method_started(source: Any, event: Any) -> Opening:
    """Read the start of a flow's method."""
    name = short(getattr(event, "method_name", None)) or "method"
    return Opening(name, key=name)


def task_started(source: Any, event: Any) -> Opening:
    """Read the start of a task."""
    task = getattr(event, "task", None) or source
    return Opening(
        "task",
        key=text(getattr(task, "id", None)),
        scope={semconv.TASK: text(getattr(task, "name", None)) or ""},
    )


def agent_started(source: Any, event: Any) -> Opening:
    """Read the start of an agent's work on a task."""
    agent = getattr(event, "agent", None) or source
    role = agent_role(agent)
    return Opening(
        f"{semconv.INVOKE_AGENT} {role}",
        key=text(getattr(agent, "id", None)),
        scope={semconv.AGENT_NAME: role},
        attributes={semconv.OPERATION: semconv.INVOKE_AGENT, semconv.AGENT_NAME: role},
        is_run=False,
        content=((semconv.INPUT_MESSAGES, getattr(event, "task_prompt", None)),),
    )


def lite_agent_started(source: Any, event: Any) -> Opening:
    """Read the start of ``Agent.kickoff``."""
    info = getattr(event, "agent_info", None)
    named_role = info.get("role") if isinstance(info, dict) else None
    role = agent_role(source, text(named_role))
    return Opening(
        f"{semconv.INVOKE_AGENT} {role}",
        key=object_key(source),
        scope={semconv.AGENT_NAME: role},
        attributes={semconv.OPERATION: semconv.INVOKE_AGENT, semconv.AGENT_NAME: role},
        content=((semconv.INPUT_MESSAGES, getattr(event, "messages", None)),),
    )


_LONGEST_LABEL = 128
"""Characters of a model's name that are looked up as they are."""
_REQUEST = (
    ("temperature", semconv.REQUEST_TEMPERATURE),
    ("top_p", semconv.REQUEST_TOP_P),
    ("max_tokens", semconv.REQUEST_MAX_TOKENS),
    ("seed", semconv.REQUEST_SEED),
    ("stream", semconv.REQUEST_STREAM),
)


def read_llm_call(
    source: Any, fields: Mapping[str, Any]
) -> tuple[str, ModelCall, dict[str, AttributeValue]]:
    """Return the name of a model call's span, the call, and attributes.

    ``source`` is the LLM object, ``fields`` are the event's.
    """
    setting = settings_of(source)
    call = ModelCall()
    named = fields.get("model")
    if type(named) is not str or len(named) > _LONGEST_LABEL:
        named = short(named) or ""
    span_name, model = _call_names(named)
    if model is None:
        span_name, model = _call_names(short(setting("model")) or "")
    call.model = model
    call.declared = declared_provider(setting)
    call.endpoint = endpoint_of(setting)
    call.runs_tools = fields.get("available_functions") is not None
    attributes: dict[str, AttributeValue] = {}
    for name, attribute in _REQUEST:
        value = fields.get(name)
        if value is not None and isinstance(value, int | float):
            attributes[attribute] = value
    level = setting("reasoning_effort")
    if isinstance(level, str):
        attributes[semconv.REASONING_LEVEL] = level
    return span_name, call, attributes


@lru_cache(maxsize=512)
def _call_names(named: str) -> tuple[str, str | None]:
    """Return the name of a call's span, and of its model. An app has few of them."""
    model = model_name(short(named))
    name = f"{semconv.CHAT} {model}" if model else semconv.CHAT
    return name, model or None


def tool_started(source: Any, event: Any) -> Opening:
    """Read the start of a tool's use."""
    name = short(getattr(event, "tool_name", None)) or "tool"
    attributes: dict[str, AttributeValue] = {
        semconv.OPERATION: semconv.EXECUTE_TOOL,
        semconv.TOOL_NAME: name,
    }
    attempts = getattr(event, "run_attempts", None)
    if isinstance(attempts, int) and attempts > 0:
        attributes[semconv.ATTEMPTS] = attempts
    content = ((semconv.TOOL_ARGUMENTS, getattr(event, "tool_args", None)),)
    return Opening(
        f"{semconv.EXECUTE_TOOL} {name}",
        key=name,
        scope={semconv.TOOL: name},
        attributes=attributes,
        content=content,
    )


def mcp_started(source: Any, event: Any) -> Opening:
    """Read the start of a connection to an MCP server, or of one of its tools."""
    server = short(getattr(event, "server_name", None)) or "server"
    tool = short(getattr(event, "tool_name", None))
    attributes: dict[str, AttributeValue] = {}
    if tool:
        method = "tools/call"
        attributes[semconv.TOOL_NAME] = tool
    else:
        method = "initialize"
    attributes[semconv.MCP_METHOD] = method
    transport = getattr(event, "transport_type", None)
    if transport is not None:
        # CrewAI knows ``stdio``, ``sse``, ``http`` and ``streamable-http``.
        attributes[semconv.NETWORK_TRANSPORT] = "pipe" if transport == "stdio" else "tcp"
    subject = tool or server
    return Opening(
        f"{method} {subject}",
        key=subject,
        attributes=attributes,
    )


def named(word: str, *key_fields: str) -> Callable[[Any, Any], Opening]:
    """Make a reader for spans named ``word``, matched by the values of ``key_fields``."""

    def read(source: Any, event: Any) -> Opening:
        return Opening(word, key=joined(event, key_fields))

    return read


def guardrail_started(source: Any, event: Any) -> Opening:
    """Read the start of a guardrail."""
    attributes: dict[str, AttributeValue] = {}
    retries = getattr(event, "retry_count", None)
    if isinstance(retries, int):
        attributes[semconv.ATTEMPTS] = retries
    # Not guardrail_name: where an LLM is the guardrail, that is its prompt, so content.
    kind = short(getattr(event, "guardrail_type", None))
    name = f"guardrail {kind}" if kind else "guardrail"
    return Opening(name, attributes=attributes)
