"""The table of CrewAI's events: which type opens, closes or marks what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from crewmeter import semconv
from crewmeter.crewai import end_events, start_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.crewai.end_events import Ending
    from crewmeter.crewai.start_events import Opening

__all__ = ["TABLE", "EventRule", "is_hidden"]

Phase = Literal["start", "end", "chunk", "point"]


@dataclass(frozen=True, slots=True)
class EventRule:
    """What to do with one type of event. ``failed`` marks ends that are failures."""

    phase: Phase
    kind: str
    read: Callable[[Any, Any], Opening | Ending] | None
    """What reads the event. Those of model calls have none: `LlmEvents` reads them."""
    failed: bool = False
    scoped: bool = True
    """CrewAI itself pairs this start with its end. Others are matched by key alone."""


def _pair(
    stem: str,
    kind: str,
    start: Callable[[Any, Any], Opening] | None,
    end: Callable[[Any, Any], Ending] | None,
    done: str,
    *failed: str,
    scoped: bool = True,
) -> dict[str, EventRule]:
    """Return the rows of one span: ``stem_started``, ``stem_<done>`` and its failures."""
    rows = {
        f"{stem}_started": EventRule("start", kind, start, scoped=scoped),
        f"{stem}_{done}": EventRule("end", kind, end, scoped=scoped),
    }
    for suffix in failed:
        rows[f"{stem}_{suffix}"] = EventRule(
            "end",
            kind,
            end,
            failed=True,
            scoped=scoped,
        )
    return rows


def _plain(
    stem: str, kind: str, *suffixes: str, keys: tuple[str, ...] = (), scoped: bool = True
) -> dict[str, EventRule]:
    """Return the rows of a span of which nothing is read but its key."""
    done, *failed = suffixes or ("completed", "failed")
    return _pair(
        stem,
        kind,
        start_events.named(stem, *keys),
        end_events.ended(*keys),
        done,
        *failed,
        scoped=scoped,
    )


_HUMAN = ("flow_name", "method_name")

TABLE: dict[str, EventRule] = {
    **_pair(
        "crew_kickoff",
        semconv.KIND_CREW,
        start_events.crew_started,
        end_events.source_ended,
        "completed",
        "failed",
    ),
    **_pair(
        "crew_train",
        semconv.KIND_TRAIN,
        start_events.train_started,
        end_events.source_ended,
        "completed",
        "failed",
    ),
    **_pair(
        "crew_test",
        semconv.KIND_TEST,
        start_events.train_started,
        end_events.source_ended,
        "completed",
        "failed",
    ),
    **_pair(
        "flow",
        semconv.KIND_FLOW,
        start_events.flow_started,
        end_events.source_ended,
        "finished",
        "failed",
    ),
    "flow_paused": EventRule("end", semconv.KIND_FLOW, end_events.paused),
    **_pair(
        "method_execution",
        semconv.KIND_METHOD,
        start_events.method_started,
        end_events.ended("method_name"),
        "finished",
        "failed",
    ),
    "method_execution_paused": EventRule("end", semconv.KIND_METHOD, end_events.paused),
    **_pair(
        "task",
        semconv.KIND_TASK,
        start_events.task_started,
        end_events.task_ended,
        "completed",
        "failed",
    ),
    **_pair(
        "agent_execution",
        semconv.KIND_AGENT,
        start_events.agent_started,
        end_events.agent_ended,
        "completed",
        "error",
    ),
    **_pair(
        "lite_agent_execution",
        semconv.KIND_AGENT,
        start_events.lite_agent_started,
        end_events.source_ended,
        "completed",
        "error",
    ),
    **_pair(
        "llm_call",
        semconv.KIND_LLM,
        None,
        None,
        "completed",
        "failed",
    ),
    "llm_stream_chunk": EventRule("chunk", semconv.KIND_LLM, None),
    "llm_thinking_chunk": EventRule("chunk", semconv.KIND_LLM, None),
    **_pair(
        "tool_usage",
        semconv.KIND_TOOL,
        start_events.tool_started,
        end_events.tool_ended,
        "finished",
        "error",
    ),
    "tool_validate_input_error": EventRule(
        "point", semconv.KIND_TOOL, start_events.tool_started, failed=True
    ),
    "tool_selection_error": EventRule(
        "point", semconv.KIND_TOOL, start_events.tool_started, failed=True
    ),
    "tool_execution_error": EventRule(
        "point", semconv.KIND_TOOL, start_events.tool_started, failed=True
    ),
    **_pair(
        "llm_guardrail",
        semconv.KIND_GUARDRAIL,
        start_events.guardrail_started,
        end_events.guardrail_ended,
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
        start_events.mcp_started,
        end_events.ended("server_name"),
        "completed",
        "failed",
    ),
    **_pair(
        "mcp_tool_execution",
        semconv.KIND_MCP,
        start_events.mcp_started,
        end_events.ended("tool_name"),
        "completed",
        "failed",
    ),
    **_pair(
        "a2a_delegation",
        semconv.KIND_A2A,
        start_events.named("a2a_delegation"),
        end_events.a2a_ended,
        "completed",
        "failed",
    ),
    **_pair(
        "a2a_conversation",
        semconv.KIND_A2A,
        start_events.named("a2a_conversation"),
        end_events.a2a_ended,
        "completed",
        "failed",
    ),
    **_pair(
        "a2a_parallel_delegation",
        semconv.KIND_A2A,
        start_events.named("a2a_parallel_delegation"),
        end_events.a2a_ended,
        "completed",
        "failed",
    ),
    **_plain("a2a_server_task", semconv.KIND_A2A, "completed", "failed", "canceled"),
    "human_feedback_requested": EventRule(
        "start", semconv.KIND_HUMAN, start_events.named("human_feedback", *_HUMAN), scoped=False
    ),
    "human_feedback_received": EventRule(
        "end", semconv.KIND_HUMAN, end_events.ended(*_HUMAN), scoped=False
    ),
    "flow_input_requested": EventRule(
        "start", semconv.KIND_HUMAN, start_events.named("human_input", *_HUMAN), scoped=False
    ),
    "flow_input_received": EventRule(
        "end", semconv.KIND_HUMAN, end_events.ended(*_HUMAN), scoped=False
    ),
}
"""Event type → rule. Other types are ignored."""

_INNER_MODULES = (
    "crewai.agents.",
    "crewai.experimental.agent_executor",
    "crewai.memory.",
    "crewai.lite_agent",
)
_FLOW_KINDS = frozenset({semconv.KIND_FLOW, semconv.KIND_METHOD})


def is_hidden(rule: EventRule, source: Any) -> bool:
    """Return True for CrewAI's inner flows, as the agent executor's and the memory's.

    Their children belong to what encloses them.
    """
    return rule.kind in _FLOW_KINDS and type(source).__module__.startswith(_INNER_MODULES)
