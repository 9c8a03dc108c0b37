"""CrewAI's events as a table: which type opens, closes or marks what. Reads events by attribute; imports nothing of CrewAI."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.crewai.display_names import (
    agent_role,
    crew_name,
    declared_provider,
    endpoint_of,
    short,
    task_labels,
    text,
)
from crewmeter.spans.model_call import ModelCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.util.types import AttributeValue

__all__ = ["TABLE", "Ending", "EventRule", "Opening", "error_of", "is_hidden"]


@dataclass(slots=True)
class Opening:
    """What a starting event says of its span."""

    name: str
    key: str | None = None
    scope: dict[str, str] | None = None
    attributes: dict[str, AttributeValue] | None = None
    call: ModelCall | None = None
    labels: Mapping[str, str] | None = None
    is_run: bool = True
    content: tuple[tuple[str, object], ...] = ()


@dataclass(slots=True)
class Ending:
    """What an ending event says of its span."""

    key: str | None = None
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    error_type: str | None = None
    content: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class EventRule:
    """What to do with one type of event. ``phase`` is start, end, chunk or point; ``failed`` marks ends that are failures."""

    phase: str
    kind: str
    read: Callable[[Any, Any], Opening | Ending]
    failed: bool = False
    scoped: bool = True
    """CrewAI itself pairs this start with its end; others are matched by key alone."""


# --- readers of starting events ------------------------------------------------------------------------------------


def _crew_started(source: Any, event: Any) -> Opening:
    name = crew_name(source, event)
    return Opening(
        f"{semconv.INVOKE_WORKFLOW} {name}",
        key=_identity(source),
        scope={semconv.CREW: name},
        attributes={semconv.OPERATION: semconv.INVOKE_WORKFLOW, semconv.WORKFLOW_NAME: name},
        labels=task_labels(source),
        content=((semconv.INPUT_MESSAGES, getattr(event, "inputs", None)),),
    )


def _train_started(source: Any, event: Any) -> Opening:
    opening = _crew_started(source, event)
    opening.name = f"{str(event.type).removesuffix('_started')} {crew_name(source, event)}"
    opening.labels = None
    return opening


def _flow_started(source: Any, event: Any) -> Opening:
    name = short(getattr(event, "flow_name", None)) or type(source).__name__
    attributes: dict[str, AttributeValue] = {
        semconv.OPERATION: semconv.INVOKE_WORKFLOW,
        semconv.WORKFLOW_NAME: name,
    }
    return Opening(
        f"{semconv.INVOKE_WORKFLOW} {name}",
        key=_identity(source),
        scope={semconv.FLOW: name},
        attributes=attributes,
    )


def _method_started(source: Any, event: Any) -> Opening:
    name = short(getattr(event, "method_name", None)) or "method"
    return Opening(name, key=name)


def _task_started(source: Any, event: Any) -> Opening:
    task = getattr(event, "task", None) or source
    return Opening(
        "task",
        key=text(getattr(task, "id", None)),
        scope={semconv.TASK: text(getattr(task, "name", None)) or ""},
    )


def _agent_started(source: Any, event: Any) -> Opening:
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


def _lite_agent_started(source: Any, event: Any) -> Opening:
    info = getattr(event, "agent_info", None)
    info = info if isinstance(info, dict) else {}
    role = agent_role(source, text(info.get("role")))
    return Opening(
        f"{semconv.INVOKE_AGENT} {role}",
        key=_identity(source),
        scope={semconv.AGENT_NAME: role},
        attributes={semconv.OPERATION: semconv.INVOKE_AGENT, semconv.AGENT_NAME: role},
        content=((semconv.INPUT_MESSAGES, getattr(event, "messages", None)),),
    )


_REQUEST = (
    ("temperature", semconv.REQUEST_TEMPERATURE),
    ("top_p", semconv.REQUEST_TOP_P),
    ("max_tokens", semconv.REQUEST_MAX_TOKENS),
    ("seed", semconv.REQUEST_SEED),
    ("stream", semconv.REQUEST_STREAM),
)


def _llm_started(source: Any, event: Any) -> Opening:
    said = vars(
        event
    )  # asking Pydantic for a field that this CrewAI's event has not got would take 4 µs
    call = ModelCall()
    call.model = short(said.get("model")) or short(getattr(source, "model", None))
    call.declared = declared_provider(source)
    call.endpoint = endpoint_of(source)
    call.runs_tools = said.get("available_functions") is not None
    attributes: dict[str, AttributeValue] = {}
    for name, attribute in _REQUEST:
        value = said.get(name)
        if value is not None and isinstance(value, int | float):
            attributes[attribute] = value
    return Opening(
        f"{semconv.CHAT} {call.model}" if call.model else semconv.CHAT,
        key=text(said.get("call_id")),
        attributes=attributes,
        call=call,
        content=((semconv.INPUT_MESSAGES, said.get("messages")),),
    )


def _tool_started(source: Any, event: Any) -> Opening:
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


def _mcp_started(source: Any, event: Any) -> Opening:
    server, tool = (
        short(getattr(event, "server_name", None)) or "server",
        short(getattr(event, "tool_name", None)),
    )
    method = "tools/call" if tool else "initialize"
    attributes: dict[str, AttributeValue] = {semconv.MCP_METHOD: method}
    if tool:
        attributes[semconv.TOOL_NAME] = tool
    return Opening(f"{method} {tool or server}", key=tool or server, attributes=attributes)


def _named(word: str, *key_fields: str) -> Callable[[Any, Any], Opening]:
    """A reader for spans that are called ``word`` and matched by the values of ``key_fields``."""

    def read(source: Any, event: Any) -> Opening:
        return Opening(word, key=_key(event, key_fields))

    return read


def _guardrail_started(source: Any, event: Any) -> Opening:
    attributes: dict[str, AttributeValue] = {}
    retries = getattr(event, "retry_count", None)
    if isinstance(retries, int):
        attributes[semconv.ATTEMPTS] = retries
    # guardrail_name is the guardrail's prompt where the guardrail is an LLM's: content, not a name.
    kind = short(getattr(event, "guardrail_type", None))
    return Opening(f"guardrail {kind}" if kind else "guardrail", attributes=attributes)


# --- readers of ending events --------------------------------------------------------------------------------------


def _ended(*key_fields: str) -> Callable[[Any, Any], Ending]:
    def read(source: Any, event: Any) -> Ending:
        return Ending(key=_key(event, key_fields))

    return read


def _source_ended(source: Any, event: Any) -> Ending:
    return Ending(key=_identity(source))


def _task_ended(source: Any, event: Any) -> Ending:
    task = getattr(event, "task", None) or source
    output = getattr(getattr(event, "output", None), "raw", None)
    return Ending(key=text(getattr(task, "id", None)), content=((semconv.OUTPUT_MESSAGES, output),))


def _agent_ended(source: Any, event: Any) -> Ending:
    agent = getattr(event, "agent", None) or source
    return Ending(
        key=text(getattr(agent, "id", None)),
        content=((semconv.OUTPUT_MESSAGES, getattr(event, "output", None)),),
    )


def _tool_ended(source: Any, event: Any) -> Ending:
    ending = Ending(key=short(getattr(event, "tool_name", None)) or "tool")
    ending.content = ((semconv.TOOL_RESULT, getattr(event, "output", None)),)
    if getattr(event, "from_cache", False) is True:
        ending.attributes[semconv.CACHED_RESULT] = True
    failure = getattr(event, "failure", None)
    if failure is not None:
        reason = getattr(failure, "reason", None)
        ending.attributes[semconv.TOOL_FAILURE] = (
            short(getattr(reason, "value", reason)) or "tool_reported"
        )
        ending.error_type = "tool_failure"
    return ending


def _guardrail_ended(source: Any, event: Any) -> Ending:
    return Ending(
        attributes={semconv.GUARDRAIL_PASSED: getattr(event, "success", None) is not False}
    )


def _a2a_ended(source: Any, event: Any) -> Ending:
    """A2A has no event of failure: a completed one tells by its status, or by how many of its parts succeeded."""
    status = short(getattr(event, "status", None))
    if getattr(event, "failure_count", 0) and not getattr(event, "success_count", 0):
        status = "failed"
    return Ending(error_type=f"a2a_{status}" if status in _A2A_FAILURES else None)


def _paused(source: Any, event: Any) -> Ending:
    key = (
        _identity(source)
        if event.type == "flow_paused"
        else text(getattr(event, "method_name", None))
    )
    return Ending(key=key, attributes={semconv.PAUSED: True})


def _llm_ended(source: Any, event: Any) -> Ending:
    return Ending(
        key=text(getattr(event, "call_id", None)),
        content=((semconv.OUTPUT_MESSAGES, getattr(event, "response", None)),),
    )


def _identity(source: Any) -> str:
    return f"{id(source):x}"


def _key(event: Any, fields: tuple[str, ...]) -> str | None:
    return "/".join(str(getattr(event, name, "")) for name in fields) or None


# --- the table -----------------------------------------------------------------------------------------------------


def _pair(
    stem: str,
    kind: str,
    start: Callable[[Any, Any], Opening],
    end: Callable[[Any, Any], Ending],
    done: str,
    *failed: str,
    scoped: bool = True,
) -> dict[str, EventRule]:
    """The rows of one span: ``stem_started``, ``stem_<done>`` and those of its failures."""
    rows = {
        f"{stem}_started": EventRule("start", kind, start, scoped=scoped),
        f"{stem}_{done}": EventRule("end", kind, end, scoped=scoped),
    }
    rows.update(
        {
            f"{stem}_{suffix}": EventRule("end", kind, end, failed=True, scoped=scoped)
            for suffix in failed
        }
    )
    return rows


def _plain(
    stem: str, kind: str, *suffixes: str, keys: tuple[str, ...] = (), scoped: bool = True
) -> dict[str, EventRule]:
    done, *failed = suffixes or ("completed", "failed")
    return _pair(stem, kind, _named(stem, *keys), _ended(*keys), done, *failed, scoped=scoped)


_HUMAN = ("flow_name", "method_name")
_A2A_FAILURES = frozenset({"failed", "rejected", "canceled"})

TABLE: dict[str, EventRule] = {
    **_pair("crew_kickoff", semconv.KIND_CREW, _crew_started, _source_ended, "completed", "failed"),
    **_pair("crew_train", semconv.KIND_TRAIN, _train_started, _source_ended, "completed", "failed"),
    **_pair("crew_test", semconv.KIND_TEST, _train_started, _source_ended, "completed", "failed"),
    **_pair("flow", semconv.KIND_FLOW, _flow_started, _source_ended, "finished", "failed"),
    "flow_paused": EventRule("end", semconv.KIND_FLOW, _paused),
    **_pair(
        "method_execution",
        semconv.KIND_METHOD,
        _method_started,
        _ended("method_name"),
        "finished",
        "failed",
    ),
    "method_execution_paused": EventRule("end", semconv.KIND_METHOD, _paused),
    **_pair("task", semconv.KIND_TASK, _task_started, _task_ended, "completed", "failed"),
    **_pair(
        "agent_execution", semconv.KIND_AGENT, _agent_started, _agent_ended, "completed", "error"
    ),
    **_pair(
        "lite_agent_execution",
        semconv.KIND_AGENT,
        _lite_agent_started,
        _source_ended,
        "completed",
        "error",
    ),
    **_pair("llm_call", semconv.KIND_LLM, _llm_started, _llm_ended, "completed", "failed"),
    "llm_stream_chunk": EventRule("chunk", semconv.KIND_LLM, _llm_ended),
    "llm_thinking_chunk": EventRule("chunk", semconv.KIND_LLM, _llm_ended),
    **_pair("tool_usage", semconv.KIND_TOOL, _tool_started, _tool_ended, "finished", "error"),
    "tool_validate_input_error": EventRule("point", semconv.KIND_TOOL, _tool_started, failed=True),
    "tool_selection_error": EventRule("point", semconv.KIND_TOOL, _tool_started, failed=True),
    "tool_execution_error": EventRule("point", semconv.KIND_TOOL, _tool_started, failed=True),
    **_pair(
        "llm_guardrail",
        semconv.KIND_GUARDRAIL,
        _guardrail_started,
        _guardrail_ended,
        "completed",
        "failed",
    ),
    **_plain("agent_reasoning", semconv.KIND_REASONING),
    **_plain(
        "plan_step",
        semconv.KIND_REASONING,
        "completed",
        keys=("agent_role", "step_number"),
        scoped=False,
    ),
    **_plain(
        "step_observation", semconv.KIND_REASONING, keys=("agent_role", "step_number"), scoped=False
    ),
    **_plain("context_window_summarization", semconv.KIND_OTHER, scoped=False),
    **_plain("agent_evaluation", semconv.KIND_EVALUATION),
    **_plain("memory_retrieval", semconv.KIND_MEMORY),
    **_plain("memory_save", semconv.KIND_MEMORY),
    **_plain("memory_query", semconv.KIND_MEMORY),
    **_plain("knowledge_query", semconv.KIND_KNOWLEDGE),
    **_plain("knowledge_search_query", semconv.KIND_KNOWLEDGE),
    **_pair(
        "mcp_connection",
        semconv.KIND_MCP,
        _mcp_started,
        _ended("server_name"),
        "completed",
        "failed",
    ),
    **_pair(
        "mcp_tool_execution",
        semconv.KIND_MCP,
        _mcp_started,
        _ended("tool_name"),
        "completed",
        "failed",
    ),
    **_pair(
        "a2a_delegation",
        semconv.KIND_A2A,
        _named("a2a_delegation"),
        _a2a_ended,
        "completed",
        "failed",
    ),
    **_pair(
        "a2a_conversation",
        semconv.KIND_A2A,
        _named("a2a_conversation"),
        _a2a_ended,
        "completed",
        "failed",
    ),
    **_pair(
        "a2a_parallel_delegation",
        semconv.KIND_A2A,
        _named("a2a_parallel_delegation"),
        _a2a_ended,
        "completed",
        "failed",
    ),
    **_plain("a2a_server_task", semconv.KIND_A2A, "completed", "failed", "canceled"),
    "human_feedback_requested": EventRule(
        "start", semconv.KIND_HUMAN, _named("human_feedback", *_HUMAN), scoped=False
    ),
    "human_feedback_received": EventRule("end", semconv.KIND_HUMAN, _ended(*_HUMAN), scoped=False),
    "flow_input_requested": EventRule(
        "start", semconv.KIND_HUMAN, _named("human_input", *_HUMAN), scoped=False
    ),
    "flow_input_received": EventRule("end", semconv.KIND_HUMAN, _ended(*_HUMAN), scoped=False),
}
"""Event type → rule. A type that is not here is not looked at."""

_MACHINERY = (
    "crewai.agents.",
    "crewai.experimental.agent_executor",
    "crewai.memory.",
    "crewai.lite_agent",
)
_FLOW_KINDS = frozenset({semconv.KIND_FLOW, semconv.KIND_METHOD})


def is_hidden(rule: EventRule, source: Any) -> bool:
    """True for CrewAI's inner flows (the agent executor, the memory's): their children belong to what encloses them."""
    return rule.kind in _FLOW_KINDS and type(source).__module__.startswith(_MACHINERY)


def error_of(event: Any, unnamed: str = "_OTHER") -> str:
    """Low-cardinality type of what failed: the event's own, the exception in flight, else ``unnamed``; never the message."""
    for value in (getattr(event, "error_type", None), getattr(event, "error", None)):
        if isinstance(value, type):
            return value.__name__
        if isinstance(value, BaseException):
            return type(value).__name__
    named = getattr(event, "error_type", None)
    if isinstance(named, str) and named.isidentifier() and len(named) <= 64:
        return named
    in_flight = sys.exc_info()[0]
    return in_flight.__name__ if in_flight is not None else unnamed
