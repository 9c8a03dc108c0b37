"""Where the facts of a call or step stand on a span, over all dialects."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from crewmeter import semconv
from crewmeter.providers.hosts import canonical_provider, is_provider
from crewmeter_cost.intake.coerce import first_text, model_text, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter_cost.records import Span

__all__ = [
    "NAMES",
    "fact",
    "finish_reason_of",
    "host_of",
    "model_named",
    "provider_of",
    "tier_of",
]

FRAMEWORKS = frozenset(
    {
        "agno",
        "autogen",
        "crewai",
        "custom",
        "gcp.vertex.agent",
        "haystack",
        "langchain",
        "langgraph",
        "litellm",
        "llama_index",
        "llamaindex",
        "microsoft.agent_framework",
        "mlflow",
        "openai_agents",
        "pydantic_ai",
        "semantic_kernel",
        "smolagents",
        "strands",
        "strands-agents",
        "unknown",
    }
)
"""Names that stand where a provider's should.

The framework that made the call, which bills nothing.
"""

NAMES: Mapping[str, tuple[str, ...]] = {
    "provider": (
        semconv.PROVIDER,
        "gen_ai.system",
        "ai.model.provider",
        "mlflow.llm.provider",
        "llm.provider",
        "llm.system",
    ),
    "host": (semconv.SERVER_ADDRESS, "gen_ai.openai.api_base", "llm.openai.api_base"),
    "request_model": (
        semconv.REQUEST_MODEL,
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
        "langfuse.observation.model.name",
        "ai.model.id",
        "mlflow.llm.model",
    ),
    "response_model": (semconv.RESPONSE_MODEL, "ai.response.model"),
    "response_id": (semconv.RESPONSE_ID, "ai.response.id"),
    "finish_reason": (
        semconv.FINISH_REASONS,
        "llm.finish_reason",
        "gen_ai.completion.0.finish_reason",
        "gen_ai.response.finish_reason",
        "ai.response.finishReason",
        "anthropic.message.stop_reason",
    ),
    "service_tier": (
        "openai.response.service_tier",
        "gen_ai.openai.response.service_tier",
        "gen_ai.response.service_tier",
        "anthropic.response.service_tier",
        "gen_ai.usage.service_tier",
        "anthropic.usage.service_tier",
        "gen_ai.usage.traffic_type",
        "gen_ai.response.traffic_type",
        "gcp.vertex_ai.traffic_type",
        semconv.SERVICE_TIER,
    ),
    "inference_geo": (
        "anthropic.response.inference_geo",
        "anthropic.usage.inference_geo",
        "gen_ai.usage.inference_geo",
    ),
    "request_tier": ("gen_ai.openai.request.service_tier", "openai.request.service_tier"),
    "speed": ("anthropic.response.speed", "gen_ai.usage.speed", "anthropic.usage.speed"),
    "first_token": (
        semconv.TIME_TO_FIRST_TOKEN,
        "gen_ai.server.time_to_first_token",
        "gen_ai.client.operation.time_to_first_chunk",  # the AI SDK 7
    ),
    "crew": (semconv.CREW, "crewai.crew.name"),
    "flow": (semconv.FLOW, "crewai.flow.name"),
    "task": (semconv.TASK, "crewai.task.name", "task_name"),
    "agent": (
        "crewai.agent.role",
        "graph.node.id",
        semconv.AGENT_NAME,
        "langsmith.metadata.lc_agent_name",
        "ai.telemetry.functionId",
        "crewai.task.agent",
        "traceloop.entity.agent",
    ),
    "tool": (semconv.TOOL_NAME, "tool.name", "ai.toolCall.name"),
    "workflow": (
        semconv.WORKFLOW_NAME,
        "crewai.crew.name",
        "crewai.flow.name",
        "traceloop.workflow.name",
    ),
    "user": (
        "ai.telemetry.metadata.userId",
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
        "ai.telemetry.metadata.sessionId",
        semconv.CONVERSATION_ID,
    ),
    "environment": ("langfuse.environment", semconv.ENVIRONMENT_OLD, "gen_ai.environment"),
    "error_type": (semconv.ERROR_TYPE, "exception.type"),
}
"""Where the facts of a call or step stand, over all dialects.

The names do not clash, so one table serves all.
"""


def fact(attributes: Mapping[str, object], name: str) -> str | None:
    """Return the first text under the names of a fact, over all dialects."""
    for key in NAMES[name]:
        found = text(attributes.get(key))
        if found:
            return found
    return None


def provider_of(span: Span) -> str | None:
    """Return who billed a call, in the conventions' word.

    The AI SDK names an API behind the provider (``openai.responses``,
    ``vertex.anthropic.messages``), and frameworks write their own name as the provider's.
    """
    attributes = span.attributes
    for key in NAMES["provider"]:
        named = _unquoted(text(attributes.get(key)))
        if not named or named.lower() in FRAMEWORKS:
            continue
        if named.partition(".")[0].lower() == "vertex":
            return "gcp.vertex_ai"
        whole = canonical_provider(named)
        if whole is None or is_provider(whole):
            return whole
        return _shortened(whole)
    if span.name.startswith("OpenAI-"):
        return "openai"
    # OpenTelemetry's instrumentor of Vertex AI leaves the provider to its scope.
    return "gcp.vertex_ai" if span.scope.endswith(".vertexai") else None


def _shortened(name: str) -> str:
    """Return the provider at the beginning of a dotted name, or the name."""
    head = name
    while "." in head:
        head = head.rpartition(".")[0]
        found = canonical_provider(head)
        if found is not None and is_provider(found):
            return found
    return name


def model_named(attributes: Mapping[str, object], name: str) -> str | None:
    """Return the model under the names of a fact."""
    return model_text(_unquoted(fact(attributes, name)))


def _unquoted(value: str | None) -> str | None:
    """Return a text without the quotes of JSON: MLflow writes every attribute so."""
    if value:
        return value.strip('"')
    return value


def tier_of(attributes: Mapping[str, object]) -> str | None:
    """Return the service tier. Anthropic's fast mode is a tier of its own."""
    speed = fact(attributes, "speed")
    if speed is not None and speed.lower() not in ("standard", "default"):
        return speed
    return fact(attributes, "service_tier")


def finish_reason_of(attributes: Mapping[str, object]) -> str | None:
    """Return why the model stopped. Semantic Kernel writes the text of an enumeration."""
    for name in NAMES["finish_reason"]:
        value = attributes.get(name)
        if isinstance(value, str) and value.startswith('["'):  # a list as JSON text
            value = value[2:].partition('"')[0]
        reason = first_text(value)
        if reason and reason.startswith("FinishReason."):
            return reason.removeprefix("FinishReason.").lower()
        if reason:
            return reason
    return None


def host_of(value: str | None) -> str | None:
    """Return the host name in a host or a URL."""
    if value is None or "//" not in value:
        return value
    try:
        return urlsplit(value).hostname
    except ValueError:
        return None
