"""The dialects of the field: per instrumentor, how its spans are told from others, what their kinds mean, and where counts stand.

Attribute names were read off spans captured from the instrumentors themselves (`tests/intake/fixtures`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.usage.attributes import GENAI_COUNTS, CountNames

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DIALECTS", "NAMES", "Dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one instrumentor writes spans. A value of a kind attribute that is in neither table means nothing to us."""

    name: str
    markers: tuple[str, ...]
    """Attributes only this dialect writes: one of them on a span is enough."""
    kind: tuple[str, ...]
    """Attributes that say what a span is; the first that is present decides."""
    billed: Mapping[str, str]
    """Kind, lower case → operation."""
    steps: Mapping[str, str]
    """Kind, lower case → ``semconv.KIND_*``."""
    counts: CountNames = GENAI_COUNTS
    raw_usage: tuple[str, ...] = ()
    """Attributes with the provider's usage as it came (JSON or a Python literal): preferred, they say more."""
    raw_counts: CountNames | None = None
    """Names inside that text where they are the instrumentor's own."""
    refines: Mapping[str, str] = field(default_factory=dict)
    """Attribute → kind: a span that has the attribute is of that kind, whatever its kind attribute says."""
    skip: Mapping[str, str] = field(default_factory=dict)
    """Attribute → value of spans to pass over: doubles and inner works of the framework."""


NAMES: Mapping[str, tuple[str, ...]] = {
    "provider": (semconv.PROVIDER, "gen_ai.system", "llm.provider", "llm.system"),
    "host": (semconv.SERVER_ADDRESS, "gen_ai.openai.api_base", "llm.openai.api_base"),
    "request_model": (
        semconv.REQUEST_MODEL,
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
        "langfuse.observation.model.name",
    ),
    "response_model": (semconv.RESPONSE_MODEL,),
    "response_id": (semconv.RESPONSE_ID,),
    "finish_reason": (
        semconv.FINISH_REASONS,
        "llm.finish_reason",
        "gen_ai.completion.0.finish_reason",
    ),
    "service_tier": (
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
        "gen_ai.response.service_tier",
    ),
    "first_token": (semconv.TIME_TO_FIRST_TOKEN, "gen_ai.server.time_to_first_token"),
    "crew": (semconv.CREW, "crewai.crew.name"),
    "flow": (semconv.FLOW, "crewai.flow.name"),
    "task": (semconv.TASK, "crewai.task.name", "task_name"),
    "agent": (
        "crewai.agent.role",
        "graph.node.id",
        semconv.AGENT_NAME,
        "crewai.task.agent",
        "traceloop.entity.agent",
    ),
    "tool": (semconv.TOOL_NAME, "tool.name"),
    "workflow": (
        semconv.WORKFLOW_NAME,
        "crewai.crew.name",
        "crewai.flow.name",
        "traceloop.workflow.name",
    ),
    "user": (
        semconv.USER,
        "user.id",
        "enduser.id",
        "langfuse.user.id",
        "traceloop.association.properties.user_id",
        "metadata.user_api_key_end_user_id",
    ),
    "team": (semconv.TEAM, "metadata.user_api_key_team_alias", "metadata.team_alias"),
    "session": (
        semconv.SESSION,
        "session.id",
        "langfuse.session.id",
        "traceloop.association.properties.session_id",
    ),
    "environment": ("langfuse.environment", semconv.ENVIRONMENT_OLD, "gen_ai.environment"),
    "error_type": (semconv.ERROR_TYPE, "exception.type"),
}
"""Where the facts of a call or step stand, over all dialects: the names do not clash, so one table serves all."""

_OPERATIONS = {
    "chat": semconv.CHAT,
    "completion": semconv.CHAT,
    "acompletion": semconv.CHAT,
    "responses": semconv.CHAT,
    "aresponses": semconv.CHAT,
    "generate_content": semconv.GENERATE_CONTENT,
    "text_completion": semconv.TEXT_COMPLETION,
    "embeddings": semconv.EMBEDDINGS,
    "embedding": semconv.EMBEDDINGS,
    "aembedding": semconv.EMBEDDINGS,
    "rerank": semconv.RERANK,
    "arerank": semconv.RERANK,
}
_STEPS = {
    "invoke_workflow": semconv.KIND_CREW,
    "invoke_agent": semconv.KIND_AGENT,
    "execute_tool": semconv.KIND_TOOL,
    "execute_task": semconv.KIND_TASK,
    "execute_method": semconv.KIND_METHOD,
    "retrieval": semconv.KIND_KNOWLEDGE,
    "plan": semconv.KIND_REASONING,
}
_PENDING = {"logfire.span_type": "pending_span"}
_OPENINFERENCE = CountNames(
    input=("llm.token_count.prompt",),
    output=("llm.token_count.completion",),
    cache_read=(
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_input",
    ),
    cache_write=("llm.token_count.prompt_details.cache_write",),
    reasoning=("llm.token_count.completion_details.reasoning",),
)
_LANGFUSE = CountNames(
    input=("input",),
    output=("output",),
    cache_read=("input_cached_tokens", "cache_read_input_tokens", "input_cache_read"),
    cache_write=("cache_creation_input_tokens", "input_cache_creation"),
    reasoning=("output_reasoning_tokens",),
    cache_beside_input=True,
)

DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        name="openinference",
        markers=("openinference.span.kind",),
        kind=("openinference.span.kind",),
        billed={"llm": semconv.CHAT, "embedding": semconv.EMBEDDINGS, "reranker": semconv.RERANK},
        steps={
            "agent": semconv.KIND_AGENT,
            "tool": semconv.KIND_TOOL,
            "retriever": semconv.KIND_KNOWLEDGE,
            "guardrail": semconv.KIND_GUARDRAIL,
            "evaluator": semconv.KIND_EVALUATION,
        },
        counts=_OPENINFERENCE,
        refines={
            "crew_agents": semconv.KIND_CREW,
            "flow_inputs": semconv.KIND_FLOW,
            "flow_id": semconv.KIND_FLOW,
        },
    ),
    Dialect(
        name="langfuse",
        markers=("langfuse.observation.type",),
        kind=("langfuse.observation.type",),
        billed={"generation": semconv.CHAT, "embedding": semconv.EMBEDDINGS},
        steps={
            "agent": semconv.KIND_AGENT,
            "tool": semconv.KIND_TOOL,
            "retriever": semconv.KIND_KNOWLEDGE,
            "guardrail": semconv.KIND_GUARDRAIL,
            "evaluator": semconv.KIND_EVALUATION,
        },
        raw_usage=("langfuse.observation.usage_details",),
        raw_counts=_LANGFUSE,
    ),
    Dialect(
        name="crewai",
        markers=("crewai.event_name", "crewai.execution_uuid"),
        kind=(semconv.OPERATION, "crewai.event_name"),
        billed=_OPERATIONS,
        steps={
            **_STEPS,
            "flow_finished": semconv.KIND_FLOW,
            "flow_failed": semconv.KIND_FLOW,
            "memory_query_completed": semconv.KIND_MEMORY,
            "memory_save_completed": semconv.KIND_MEMORY,
            "memory_retrieval_completed": semconv.KIND_MEMORY,
            "knowledge_query_completed": semconv.KIND_KNOWLEDGE,
            "knowledge_search_query_completed": semconv.KIND_KNOWLEDGE,
        },
        refines={"crewai.flow.method_names": semconv.KIND_FLOW},
        skip={
            "crewai.event_name": "tool_failure_detected"
        },  # the same tool call has a span of its own
    ),
    Dialect(
        name="openllmetry",
        markers=(
            "traceloop.span.kind",
            "crewai.crew.tasks",
            "llm.request.type",
            "gen_ai.is_streaming",
        ),
        kind=("traceloop.span.kind", "llm.request.type", semconv.OPERATION),
        billed=_OPERATIONS,
        steps={
            **_STEPS,
            "workflow": semconv.KIND_CREW,
            "task": semconv.KIND_TASK,
            "agent": semconv.KIND_AGENT,
            "tool": semconv.KIND_TOOL,
        },
        raw_usage=("metadata.usage_object",),  # LiteLLM, which writes llm.request.type too
        refines={"crewai.crew.tasks": semconv.KIND_CREW},
    ),
    Dialect(
        name="genai",
        markers=(semconv.OPERATION,),
        kind=(semconv.OPERATION,),
        billed=_OPERATIONS,
        steps=_STEPS,
        raw_usage=("gen_ai.usage.raw",),  # Logfire, whose own counts leave the cache out
        skip={
            **_PENDING,
            semconv.WORKFLOW_NAME: "AgentExecutor",
        },  # CrewAI's inner flow, which OpenLIT shows
    ),
)
"""In the order they are tried."""
