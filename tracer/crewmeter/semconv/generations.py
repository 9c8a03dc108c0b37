"""What is emitted of the two generations of the GenAI conventions, as one table.

The old generation is what ``opentelemetry-semantic-conventions`` 0.66b2 publishes. The new one is
the convention's own repository of late 2026, which ``opentelemetry-util-genai`` 1.3b0 emits in
part. Decision 0110 says what was left out and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crewmeter import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "COPIED_ATTRIBUTES",
    "MEMORY_AND_PLAN",
    "METRICS",
    "OPT_IN",
    "PROVIDER_VALUES",
    "Copy",
    "Emitted",
    "Metric",
    "emitted_generations",
]

OPT_IN = "OTEL_SEMCONV_STABILITY_OPT_IN"
"""The variable that chooses: a list of names with commas between."""
_NEW = "gen_ai_latest_experimental"
_BOTH = "gen_ai_latest_experimental/dup"

Generation = Literal["old", "new", "both"]
Instrument = Literal["histogram", "counter"]


@dataclass(frozen=True, slots=True)
class Emitted:
    """Which generations go out."""

    old: bool = True
    new: bool = True
    costs: bool = False
    """Whether what is only proposed for the conventions goes out, too: the costs."""


def emitted_generations(environ: Mapping[str, str]) -> Emitted:
    """Return what `OPT_IN` chooses: both where it is not set, for one release.

    ``gen_ai_latest_experimental`` is the new generation, with ``/dup`` both. Any other value, as
    ``default`` or another group's ``http``, leaves the GenAI names at the old generation.
    """
    names = {name.strip().lower() for name in environ.get(OPT_IN, "").split(",")} - {""}
    if not names:
        return Emitted()
    if _BOTH in names:
        return Emitted(costs=True)
    if _NEW in names:
        return Emitted(old=False, costs=True)
    return Emitted(new=False)


# --- Attributes --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Copy:
    """An attribute of the new generation that has the value of another one."""

    source: str
    name: str
    renamed: bool = False
    """Whether the source is the old generation's name, which the new one leaves out."""


COPIED_ATTRIBUTES: tuple[Copy, ...] = (
    Copy(semconv.CACHE_WRITE_TOKENS, semconv.CACHE_WRITE_TOKENS_RENAMED, renamed=True),
    Copy(semconv.INPUT_AUDIO_TOKENS, semconv.AUDIO_INPUT_TOKENS),
    Copy(semconv.OUTPUT_AUDIO_TOKENS, semconv.AUDIO_OUTPUT_TOKENS),
    Copy(semconv.INPUT_IMAGE_TOKENS, semconv.IMAGE_INPUT_TOKENS),
    Copy(semconv.OUTPUT_IMAGE_TOKENS, semconv.IMAGE_OUTPUT_TOKENS),
    Copy(semconv.CACHE_READ_AUDIO_TOKENS, semconv.AUDIO_CACHE_READ_TOKENS),
    Copy(semconv.CACHE_READ_IMAGE_TOKENS, semconv.IMAGE_CACHE_READ_TOKENS),
    Copy(semconv.USER, semconv.USER_ID),
    Copy(semconv.SESSION, semconv.SESSION_ID),
    Copy(semconv.SESSION, semconv.CONVERSATION_ID),
)
"""What the new generation adds to a span. Ours, under ``crewmeter.``, stay in either."""

PROVIDER_VALUES: Mapping[str, str] = {"moonshotai": "moonshot_ai"}
"""Our canonical provider → the value that the new generation lists for it."""

MEMORY_AND_PLAN: Mapping[str, str] = {
    "memory_query": semconv.SEARCH_MEMORY,
    "memory_retrieval": semconv.SEARCH_MEMORY,
    "memory_save": semconv.UPSERT_MEMORY,
    "knowledge_query": semconv.RETRIEVAL,
    "knowledge_search_query": semconv.RETRIEVAL,
    "agent_reasoning": semconv.PLAN,
    "plan_step": semconv.PLAN,
}
"""Name of a span in the old generation → its operation in the new one, which also names it."""


# --- Metrics -----------------------------------------------------------------------------------

SECONDS_BUCKETS = tuple(0.01 * 2**power for power in range(14))
"""0.01 s to 81.92 s, doubling, as the conventions advise for model calls and tools."""
TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
"""1 to 67,108,864 tokens, times four."""
FIRST_CHUNK_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
AGENT_BUCKETS = tuple(0.1 * 2**power for power in range(13))
"""0.1 s to 409.6 s, doubling."""
WORKFLOW_BUCKETS = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
CALL_BUCKETS = tuple(float(2**power) for power in range(8))
"""1 to 128 calls, doubling."""
MCP_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
COST_BUCKETS = tuple(0.0001 * 4**power for power in range(10))
"""0.0001 to 26 USD, times four."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, kind, unit, and the generations that have it."""

    name: str
    instrument: Instrument
    unit: str
    generation: Generation
    description: str
    buckets: tuple[float, ...] = ()
    proposed: bool = False
    """Not part of the conventions yet: emitted only where the new generation was chosen."""


def _seconds(
    name: str, generation: Generation, text: str, buckets: tuple[float, ...] = SECONDS_BUCKETS
) -> Metric:
    return Metric(name, "histogram", "s", generation, text, buckets)


def _tokens(name: str, text: str) -> Metric:
    return Metric(f"gen_ai.client.inference.usage.{name}", "counter", "{token}", "new", text)


def _tokens_of_a_call(name: str, text: str, generation: Generation = "new") -> Metric:
    return Metric(name, "histogram", "{token}", generation, text, TOKEN_BUCKETS)


OPERATION_DURATION = _seconds(
    "gen_ai.client.operation.duration",
    "both",
    "Duration of a model operation; in the new generation those that are no inference",
)
TOKEN_USAGE = _tokens_of_a_call(
    "gen_ai.client.token.usage", "Tokens used by a model operation", "old"
)
FIRST_CHUNK_OLD = _seconds(
    "gen_ai.client.operation.time_to_first_chunk",
    "old",
    "Time to the first streamed chunk",
    FIRST_CHUNK_BUCKETS,
)
OUTPUT_CHUNK_OLD = _seconds(
    "gen_ai.client.operation.time_per_output_chunk", "old", "Time from one chunk to the next"
)
INFERENCE_DURATION = _seconds("gen_ai.client.inference.duration", "new", "Duration of an inference")
EMBEDDINGS_DURATION = _seconds(
    "gen_ai.client.embeddings.duration", "new", "Duration of an embeddings request"
)
EMBEDDINGS_TOKENS = _tokens_of_a_call(
    "gen_ai.client.embeddings.operation.input_tokens", "Input tokens of an embeddings request"
)
FIRST_CHUNK = _seconds(
    "gen_ai.client.inference.time_to_first_chunk",
    "new",
    "Time to the first streamed chunk",
    FIRST_CHUNK_BUCKETS,
)
OUTPUT_CHUNK = _seconds(
    "gen_ai.client.inference.time_per_output_chunk", "new", "Time from one chunk to the next"
)
INPUT_USAGE = _tokens("input_tokens", "Input tokens, cached ones included")
OUTPUT_USAGE = _tokens("output_tokens", "Output tokens, reasoning included")
CACHE_READ_USAGE = _tokens("cache_read.input_tokens", "Input tokens read from a cache")
CACHE_WRITE_USAGE = _tokens("cache_write.input_tokens", "Input tokens written to a cache")
REASONING_USAGE = _tokens("reasoning.output_tokens", "Output tokens used for reasoning")
INFERENCE_INPUT = _tokens_of_a_call(
    "gen_ai.client.inference.operation.input_tokens", "Input tokens of an inference"
)
INFERENCE_OUTPUT = _tokens_of_a_call(
    "gen_ai.client.inference.operation.output_tokens", "Output tokens of an inference"
)
AGENT_DURATION = _seconds(
    "gen_ai.invoke_agent.duration", "new", "Duration of an agent's work", AGENT_BUCKETS
)
TOOL_DURATION = _seconds("gen_ai.execute_tool.duration", "new", "Duration of a tool's execution")
WORKFLOW_DURATION = _seconds(
    "gen_ai.invoke_workflow.duration", "new", "Duration of a crew or flow", WORKFLOW_BUCKETS
)
AGENT_INFERENCE_CALLS = Metric(
    "gen_ai.invoke_agent.inference_calls",
    "histogram",
    "{inference_call}",
    "new",
    "Model calls of one agent's work",
    CALL_BUCKETS,
)
AGENT_TOOL_CALLS = Metric(
    "gen_ai.invoke_agent.tool_calls",
    "histogram",
    "{tool_call}",
    "new",
    "Tool calls of one agent's work",
    CALL_BUCKETS,
)
MCP_DURATION = _seconds(
    "mcp.client.operation.duration", "new", "Duration of a request to an MCP server", MCP_BUCKETS
)
OPERATION_COST = Metric(
    "gen_ai.client.operation.cost",
    "histogram",
    "{USD}",
    "new",
    "Cost of a model operation as the provider said it",
    COST_BUCKETS,
    proposed=True,
)

METRICS: tuple[Metric, ...] = (
    OPERATION_DURATION,
    TOKEN_USAGE,
    FIRST_CHUNK_OLD,
    OUTPUT_CHUNK_OLD,
    INFERENCE_DURATION,
    EMBEDDINGS_DURATION,
    EMBEDDINGS_TOKENS,
    FIRST_CHUNK,
    OUTPUT_CHUNK,
    INPUT_USAGE,
    OUTPUT_USAGE,
    CACHE_READ_USAGE,
    CACHE_WRITE_USAGE,
    REASONING_USAGE,
    INFERENCE_INPUT,
    INFERENCE_OUTPUT,
    AGENT_DURATION,
    TOOL_DURATION,
    WORKFLOW_DURATION,
    AGENT_INFERENCE_CALLS,
    AGENT_TOOL_CALLS,
    MCP_DURATION,
    OPERATION_COST,
)
"""Every OpenTelemetry metric that the app's side emits."""


def metric_is_emitted(metric: Metric, emitted: Emitted) -> bool:
    """Return True where ``metric`` belongs to a generation that goes out."""
    if metric.proposed and not emitted.costs:
        return False
    if metric.generation == "both":
        return True
    return emitted.old if metric.generation == "old" else emitted.new
