"""How each instrumentor marks its spans.

Attribute names were read off spans captured from the instrumentors (`tests/cost/intake/fixtures`)
and from their published packages. Token counts have a table of their own, `usage_names`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter_cost.intake.coerce import mapping_in, mapping_under
from crewmeter_cost.intake.instrumentors.usage_names import LANGCHAIN, LANGFUSE, MLFLOW

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DIALECTS", "Dialect", "RawUsage"]


@dataclass(frozen=True, slots=True)
class RawUsage:
    """An attribute with usage as text. It tells more than the counts."""

    attribute: str
    names: Mapping[str, str] | None = None
    """Key → bucket, where the keys are the instrumentor's own. None is the provider's shape."""
    marker: str = "input"
    """A key that the instrumentor's own shape always has."""
    beside: bool = False
    """Whether every part stands beside the input and the output."""
    inside: str | None = None
    """Key of the usage where the attribute holds more: the whole response."""

    def found_in(self, attributes: Mapping[str, object]) -> dict[str, object]:
        """Return the usage on a span, empty where there is none."""
        value = attributes.get(self.attribute)
        if self.inside is None:
            return mapping_in(value)
        return mapping_under(value, self.inside)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one instrumentor writes spans.

    A kind that is in neither table is no span of interest.
    """

    name: str
    markers: tuple[str, ...]
    """Attributes that only this dialect writes: one of them on a span is enough."""
    kind: tuple[str, ...]
    """Attributes that tell what a span is. The first that is present decides."""
    billed: Mapping[str, str]
    """Kind, lower case → operation."""
    steps: Mapping[str, str]
    """Kind, lower case → ``semconv.KIND_*``."""
    raw_usage: tuple[RawUsage, ...] = ()
    refines: Mapping[str, str] = field(default_factory=dict)
    """Attribute → kind of a span that has it, whatever its kind attribute says."""
    skip: Mapping[str, str] = field(default_factory=dict)
    """Attribute → value of spans to pass over: repetitions and inner works of the framework."""
    skip_names: tuple[str, ...] = ()
    """Endings of the names of spans to pass over."""
    links: frozenset[str] = frozenset()
    """Names of spans that are steps only because they tie calls to the agent above them."""
    links_unknown: bool = False
    """Whether a span of any other kind ties what is below it to what is above."""
    roots: Mapping[str, str] = field(default_factory=dict)
    """Kind, lower case → ``semconv.KIND_*`` of a span without a parent: a run."""


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
    # Semantic Kernel.
    "chat.completions": semconv.CHAT,
    "chat.streaming_completions": semconv.CHAT,
    "text.completions": semconv.TEXT_COMPLETION,
    "text.streaming_completions": semconv.TEXT_COMPLETION,
    # Media.
    "image_generation": semconv.CHAT,
    "transcription": semconv.CHAT,
    "speech": semconv.CHAT,
}
_AI_SDK_CALLS = {
    "ai.generatetext.dogenerate": semconv.CHAT,
    "ai.streamtext.dostream": semconv.CHAT,
    "ai.generateobject.dogenerate": semconv.CHAT,
    "ai.streamobject.dostream": semconv.CHAT,
    "ai.embed.doembed": semconv.EMBEDDINGS,
    "ai.embedmany.doembed": semconv.EMBEDDINGS,
    "ai.rerank.dorerank": semconv.RERANK,
}
_AI_SDK_STEPS = {
    "ai.generatetext": semconv.KIND_AGENT,
    "ai.streamtext": semconv.KIND_AGENT,
    "ai.generateobject": semconv.KIND_AGENT,
    "ai.streamobject": semconv.KIND_AGENT,
    "ai.toolcall": semconv.KIND_TOOL,
}
_MLFLOW_CALLS = {
    "chat_model": semconv.CHAT,
    "llm": semconv.CHAT,
    "embedding": semconv.EMBEDDINGS,
    "reranker": semconv.RERANK,
}
_MLFLOW_STEPS = {
    "agent": semconv.KIND_AGENT,
    "tool": semconv.KIND_TOOL,
    "retriever": semconv.KIND_KNOWLEDGE,
    "memory": semconv.KIND_MEMORY,
    "guardrail": semconv.KIND_GUARDRAIL,
    "evaluator": semconv.KIND_EVALUATION,
}
_STEPS = {
    "invoke_workflow": semconv.KIND_CREW,
    "invoke_agent": semconv.KIND_AGENT,
    "execute_tool": semconv.KIND_TOOL,
    "execute_task": semconv.KIND_TASK,
    "execute_method": semconv.KIND_METHOD,
    "retrieval": semconv.KIND_KNOWLEDGE,
    "plan": semconv.KIND_REASONING,
    "search_memory": semconv.KIND_MEMORY,
    "create_memory": semconv.KIND_MEMORY,
    "update_memory": semconv.KIND_MEMORY,
    "upsert_memory": semconv.KIND_MEMORY,
    "delete_memory": semconv.KIND_MEMORY,
    # What ties the calls of Strands to their agent.
    "execute_event_loop_cycle": semconv.KIND_OTHER,
}
_PENDING = {"logfire.span_type": "pending_span"}
DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        name="ai_sdk",
        markers=("ai.operationId",),
        kind=("ai.operationId",),
        billed=_AI_SDK_CALLS,
        steps=_AI_SDK_STEPS,
    ),
    Dialect(
        name="mlflow",
        markers=("mlflow.spanType",),
        kind=("mlflow.spanType",),
        billed=_MLFLOW_CALLS,
        steps=_MLFLOW_STEPS,
        raw_usage=(RawUsage("mlflow.chat.tokenUsage", MLFLOW, marker="input_tokens"),),
    ),
    Dialect(
        name="google_adk",
        markers=("gcp.vertex.agent.llm_request", "gcp.vertex.agent.llm_response"),
        kind=(),
        billed={"": semconv.GENERATE_CONTENT},
        steps={},
        # Its counts leave out the cache and thoughts, and were wrong at first.
        raw_usage=(RawUsage("gcp.vertex.agent.llm_response", inside="usage_metadata"),),
    ),
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
        refines={
            "crew_agents": semconv.KIND_CREW,
            "flow_inputs": semconv.KIND_FLOW,
            "flow_id": semconv.KIND_FLOW,
        },
        # LlamaIndex prepares a request in a span that it calls a model call, too.
        skip_names=("._prepare_chat_with_tools",),
        # OpenAI's Agents SDK: one turn of an agent.
        links=frozenset({"turn"}),
        roots={"chain": semconv.KIND_CREW},
    ),
    Dialect(
        name="langsmith",
        markers=("langsmith.span.kind",),
        kind=("langsmith.span.kind",),
        billed={"llm": semconv.CHAT, "embedding": semconv.EMBEDDINGS},
        steps={"tool": semconv.KIND_TOOL, "retriever": semconv.KIND_KNOWLEDGE},
        raw_usage=(
            RawUsage("langsmith.metadata.usage_metadata", LANGCHAIN, marker="input_tokens"),
        ),
        roots={"chain": semconv.KIND_CREW},
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
        raw_usage=(RawUsage("langfuse.observation.usage_details", LANGFUSE, beside=True),),
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
        # The same tool call has a span of its own.
        skip={"crewai.event_name": "tool_failure_detected"},
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
        # LiteLLM writes llm.request.type, too.
        raw_usage=(RawUsage("metadata.usage_object"),),
        refines={"crewai.crew.tasks": semconv.KIND_CREW},
    ),
    Dialect(
        name="genai",
        markers=(semconv.OPERATION,),
        kind=(semconv.OPERATION,),
        billed=_OPERATIONS,
        steps=_STEPS,
        # A step of an agent of the AI SDK 7, and whatever comes next.
        links_unknown=True,
        # Logfire's own counts leave the cache out.
        raw_usage=(RawUsage("gen_ai.usage.raw"),),
        skip={
            **_PENDING,
            # CrewAI's inner flow, which OpenLIT writes as a workflow.
            semconv.WORKFLOW_NAME: "AgentExecutor",
        },
    ),
    Dialect(
        name="semantic_kernel",
        markers=("sk.available_functions",),
        kind=(),
        billed={},
        # The loop that ties the calls to their agent.
        steps={"": semconv.KIND_OTHER},
    ),
)
"""In the order they are tried."""
