"""The names that instrumentors give token counts, and their buckets.

Harvested from every published version of the packages that `tests/cost/intake/test_usage_names.py`
lists. A name that is in no table here, on a span or in a raw usage text, makes the charge a lower
bound: nobody knows whether it is billed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from crewmeter import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ATTRIBUTES",
    "DETAILS",
    "IGNORED",
    "LANGCHAIN",
    "LANGFUSE",
    "MLFLOW",
    "PREFIXES",
    "Buckets",
]

ATTRIBUTES: Final[Mapping[str, str]] = {
    # The GenAI conventions, newest first.
    semconv.INPUT_TOKENS: "input",
    semconv.OUTPUT_TOKENS: "output",
    semconv.CACHE_READ_TOKENS: "cache_read",
    semconv.CACHE_WRITE_TOKENS: "cache_write",
    semconv.CACHE_WRITE_TOKENS_RENAMED: "cache_write",
    semconv.REASONING_TOKENS: "reasoning",
    "gen_ai.usage.text.input_tokens": "text_input",
    "gen_ai.usage.text.output_tokens": "text_output",
    "gen_ai.usage.audio.input_tokens": "input_audio",
    "gen_ai.usage.audio.output_tokens": "output_audio",
    "gen_ai.usage.image.input_tokens": "input_image",
    "gen_ai.usage.image.output_tokens": "output_image",
    "gen_ai.usage.video.input_tokens": "input_video",
    "gen_ai.usage.video.output_tokens": "output_video",
    "gen_ai.usage.audio.cache_read.input_tokens": "cache_read_audio",
    "gen_ai.usage.image.cache_read.input_tokens": "cache_read_image",
    # Their first spelling, and that of OpenLLMetry before 0.5.
    "gen_ai.usage.prompt_tokens": "input",
    "gen_ai.usage.completion_tokens": "output",
    "gen_ai.usage.total_tokens": "total",
    "gen_ai.usage.cache_read_input_tokens": "cache_read",
    "gen_ai.usage.cached_input_tokens": "cache_read",
    "gen_ai.usage.cache_read_tokens": "cache_read",
    "gen_ai.usage.cache_write_tokens": "cache_write",
    "gen_ai.usage.cache_creation_tokens": "cache_write",
    "gen_ai.usage.cached_tokens": "cache_read",
    "gen_ai.usage.input_tokens.cached": "cache_read",
    "gen_ai.usage.input_tokens.cache_write": "cache_write",
    "gen_ai.usage.cache_creation_input_tokens": "cache_write",
    "gen_ai.usage.cache_write_input_tokens": "cache_write",
    "gen_ai.usage.reasoning_tokens": "reasoning",
    "gen_ai.usage.output_tokens.reasoning": "reasoning",
    "gen_ai.usage.thinking_tokens": "reasoning",  # AG2
    "gen_ai.response.prompt_tokens": "input",
    "gen_ai.response.completion_tokens": "output",
    "gen_ai.response.total_tokens": "total",
    "llm.usage.prompt_tokens": "input",
    "llm.usage.completion_tokens": "output",
    "llm.usage.total_tokens": "total",
    "llm.usage.reasoning_tokens": "reasoning",
    "llm.usage.cache_read_input_tokens": "cache_read",
    "llm.usage.cache_creation_input_tokens": "cache_write",
    # OpenLIT.
    "gen_ai.usage.prompt_tokens_details.cached_tokens": "cache_read",
    "gen_ai.usage.prompt_tokens_details.cache_creation_tokens": "cache_write",
    "gen_ai.usage.prompt_tokens_details.audio_tokens": "input_audio",
    "gen_ai.usage.prompt_tokens_details.image_tokens": "input_image",
    "gen_ai.usage.completion_tokens_details.reasoning_tokens": "reasoning",
    "gen_ai.usage.completion_tokens_details.audio_tokens": "output_audio",
    "gen_ai.usage.completion_tokens_details.image_tokens": "output_image",
    "gen_ai.token.usage.input": "input",
    "gen_ai.token.usage.output": "output",
    "gen_ai.token.usage.total": "total",
    # Pydantic AI, whose details are the provider's own keys.
    "gen_ai.usage.details.reasoning_tokens": "reasoning",
    "gen_ai.usage.details.thoughts_tokens": "reasoning",
    "gen_ai.usage.details.cached_tokens": "cache_read",
    "gen_ai.usage.details.cache_read_tokens": "cache_read",
    "gen_ai.usage.details.cache_read_input_tokens": "cache_read",
    "gen_ai.usage.details.cached_content_tokens": "cache_read",
    "gen_ai.usage.details.cache_write_tokens": "cache_write",
    "gen_ai.usage.details.cache_creation_input_tokens": "cache_write",
    "gen_ai.usage.details.ephemeral_5m_input_tokens": "cache_write_5m",
    "gen_ai.usage.details.ephemeral_1h_input_tokens": "cache_write_1h",
    "gen_ai.usage.details.cache_audio_read_tokens": "cache_read_audio",
    "gen_ai.usage.details.input_audio_tokens": "input_audio",
    "gen_ai.usage.details.output_audio_tokens": "output_audio",
    "gen_ai.usage.details.audio_prompt_tokens": "input_audio",
    "gen_ai.usage.details.audio_candidates_tokens": "output_audio",
    "gen_ai.usage.details.image_prompt_tokens": "input_image",
    "gen_ai.usage.details.image_candidates_tokens": "output_image",
    "gen_ai.usage.details.video_prompt_tokens": "input_video",
    "gen_ai.usage.details.web_search_requests": "web_searches",
    # The anthropic SDK's own spans.
    "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
    "anthropic.usage.compaction.input_tokens": "compaction_input",
    "anthropic.usage.compaction.output_tokens": "compaction_output",
    "anthropic.usage.server_tool_use.web_search_requests": "web_searches",
    "gen_ai.usage.cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "gen_ai.usage.cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
    "gen_ai.usage.server_tool_use.web_search_requests": "web_searches",
    # OpenInference.
    "llm.token_count.prompt": "input",
    "llm.token_count.completion": "output",
    "llm.token_count.total": "total",
    "llm.token_count.prompt_details.cache_read": "cache_read",
    "llm.token_count.prompt_details.cache_input": "cache_read",
    "llm.token_count.prompt_details.cache_write": "cache_write",
    "llm.token_count.prompt_details.audio": "input_audio",
    "llm.token_count.prompt_details.image": "input_image",
    "llm.token_count.prompt_details.video": "input_video",
    "llm.token_count.prompt_details.text": "text_input",
    "llm.token_count.completion_details.reasoning": "reasoning",
    "llm.token_count.completion_details.audio": "output_audio",
    "llm.token_count.completion_details.image": "output_image",
    "llm.token_count.completion_details.text": "text_output",
    # Vercel's AI SDK, versions 4 to 7.
    "ai.usage.promptTokens": "input",
    "ai.usage.inputTokens": "input",
    "ai.usage.tokens": "input",
    "ai.usage.completionTokens": "output",
    "ai.usage.outputTokens": "output",
    "ai.usage.totalTokens": "total",
    "ai.usage.reasoningTokens": "reasoning",
    "ai.usage.outputTokenDetails.reasoningTokens": "reasoning",
    "ai.usage.outputTokenDetails.textTokens": "text_output",
    "ai.usage.cachedInputTokens": "cache_read",
    "ai.usage.inputTokenDetails.cacheReadTokens": "cache_read",
    "ai.usage.inputTokenDetails.cacheWriteTokens": "cache_write",
    "ai.usage.inputTokenDetails.noCacheTokens": "fresh_input",
    # Google ADK beside the conventions.
    "gen_ai.usage.experimental.reasoning_tokens": "reasoning",
    "gen_ai.usage.experimental.cached_tokens": "cache_read",
    # Strands' event loop.
    "strands.event_loop.cache_read.input.tokens": "cache_read",
    "strands.event_loop.cache_write.input.tokens": "cache_write",
    "strands.event_loop.input.tokens": "input",
    "strands.event_loop.output.tokens": "output",
    # crewmeter's own, for spans that another instrumentor enriched.
    semconv.CACHE_WRITE_5M_TOKENS: "cache_write_5m",
    semconv.CACHE_WRITE_1H_TOKENS: "cache_write_1h",
    semconv.INPUT_AUDIO_TOKENS: "input_audio",
    semconv.OUTPUT_AUDIO_TOKENS: "output_audio",
    semconv.INPUT_IMAGE_TOKENS: "input_image",
    semconv.OUTPUT_IMAGE_TOKENS: "output_image",
    semconv.WEB_SEARCHES: "web_searches",
    semconv.SEARCH_UNITS: "search_units",
    semconv.INPUT_VIDEO_TOKENS: "input_video",
    semconv.OUTPUT_VIDEO_TOKENS: "output_video",
    semconv.CACHE_READ_AUDIO_TOKENS: "cache_read_audio",
    semconv.CACHE_READ_IMAGE_TOKENS: "cache_read_image",
}
"""Span attribute → bucket. The buckets are those of `Buckets`."""

_REPEATS = "repeats a count that is read under another name"
_NOT_USAGE = "is no count of tokens that were used"
_ESTIMATE = "is the instrumentor's own estimate, not the provider's word"
IGNORED: Final[Mapping[str, str]] = {
    "gen_ai.usage.text.cache_read.input_tokens": _REPEATS,
    "gen_ai.usage.token_type": _NOT_USAGE,
    "llm.usage.token_type": _NOT_USAGE,
    "gen_ai.usage.cost": _ESTIMATE,
    "gen_ai.usage.input_cost": _ESTIMATE,
    "gen_ai.usage.output_cost": _ESTIMATE,
    "gen_ai.usage.total_cost": _ESTIMATE,
    "gen_ai.usage.cost.amount": _ESTIMATE,
    "gen_ai.usage.experimental.reasoning_tokens_limit": _NOT_USAGE,
    "gen_ai.usage.experimental.system_instruction_tokens": "is inside the input",
    "gen_ai.usage.streaming_tokens": _REPEATS,
    "anthropic.usage.server_tool_use.web_fetch_requests": "costs its tokens only",
    "gen_ai.usage.server_tool_use.web_fetch_requests": "costs its tokens only",
    "anthropic.message.count_tokens.input_tokens": "counts a prompt that was not sent to a model",
    "gen_ai.token.chunk_count": _NOT_USAGE,
    "gen_ai.token.chunk_usage": _REPEATS,
    "gen_ai.token.cost.input": _ESTIMATE,
    "gen_ai.token.cost.output": _ESTIMATE,
    "gen_ai.token.cost.total": _ESTIMATE,
    "gen_ai.token.type": "is an attribute of metrics",
    "gen_ai.client.token.usage": "is a metric",
    "anthropic.organization.analytics.usage.list": "is the name of a span",
    "llm.token_count.prompt_details": "is a prefix",
    "gen_ai.usage.raw": "is read as the provider's usage text",
    "gen_ai.usage.details.input_tokens": _REPEATS,
    "gen_ai.usage.details.output_tokens": _REPEATS,
    "gen_ai.usage.details.prompt_tokens": _REPEATS,
    "gen_ai.usage.details.completion_tokens": _REPEATS,
    "gen_ai.usage.details.total_tokens": _REPEATS,
    "gen_ai.usage.details.text_prompt_tokens": _REPEATS,
    "gen_ai.usage.details.text_candidates_tokens": _REPEATS,
    "gen_ai.usage.details.text_tokens": _REPEATS,
    "gen_ai.usage.details.accepted_prediction_tokens": "is inside the output",
    "gen_ai.usage.details.rejected_prediction_tokens": "is inside the output",
    "gen_ai.usage.details.tool_use_prompt_tokens": "is inside the input",
    "gen_ai.usage.tool_use.input_tokens": "is inside the input",
    "gen_ai.usage.system_instruction.input_tokens": "is inside the input",
    "gen_ai.usage.system_instruction_tokens": "is inside the input",
    "gen_ai.usage.tool.input_tokens": "is inside the input",
    "llm.usage.accepted_prediction_tokens": "is inside the output",
    "llm.usage.rejected_prediction_tokens": "is inside the output",
    semconv.USAGE_STATUS: "is read as the status",
    semconv.USAGE_FLAGS: "is read as the flags",
    semconv.USAGE_UNITS: "is read as units",
    semconv.USAGE_SOURCE: _NOT_USAGE,
}
"""Attributes that look like usage and are not, each with the reason."""

PREFIXES: Final = (
    "gen_ai.usage.",
    "gen_ai.token.usage.",
    "llm.token_count.",
    "llm.usage.",
    "ai.usage.",
    "crewmeter.usage.",
    "anthropic.usage.",
    "openai.usage.",
    "google.usage.",
    "aws.bedrock.usage.",
)
"""Where usage stands. A number other than 0 under one of these is read, ignored, or unknown."""

_INPUT_DETAILS: Final = {
    "cache_read": "cache_read",
    "cache_creation": "cache_write",
    "ephemeral_5m_input_tokens": "cache_write_5m",
    "ephemeral_1h_input_tokens": "cache_write_1h",
    "audio": "input_audio",
    "image": "input_image",
    "text": "text_input",
}
_OUTPUT_DETAILS: Final = {
    "reasoning": "reasoning",
    "audio": "output_audio",
    "image": "output_image",
    "text": "text_output",
}
DETAILS: Final[Mapping[str, Mapping[str, str]]] = {
    # LangSmith writes the details of LangChain's usage as the text of a dictionary.
    "gen_ai.usage.input_token_details": _INPUT_DETAILS,
    "gen_ai.usage.output_token_details": _OUTPUT_DETAILS,
    # The same inside LangChain's own usage.
    "input_token_details": _INPUT_DETAILS,
    "output_token_details": _OUTPUT_DETAILS,
}
"""Attribute, or key of a raw usage, with a dictionary in it → its keys' buckets."""

LANGCHAIN: Final[Mapping[str, str]] = {
    "input_tokens": "input",
    "output_tokens": "output",
    "total_tokens": "total",
}
"""Keys of LangChain's ``usage_metadata``."""

LANGFUSE: Final[Mapping[str, str]] = {
    "input": "input",
    "output": "output",
    "total": "total",
    "input_cached_tokens": "cache_read",
    "input_cache_read": "cache_read",
    "cache_read_input_tokens": "cache_read",
    "input_cache_creation": "cache_write",
    "cache_creation_input_tokens": "cache_write",
    "cache_creation": "cache_write",
    "input_cache_creation_5m": "cache_write_5m",
    "input_cache_creation_1h": "cache_write_1h",
    "input_ephemeral_5m_input_tokens": "cache_write_5m",
    "input_ephemeral_1h_input_tokens": "cache_write_1h",
    "output_reasoning_tokens": "reasoning",
    "output_reasoning": "reasoning",
    "input_audio_tokens": "input_audio",
    "input_audio": "input_audio",
    "output_audio_tokens": "output_audio",
    "output_audio": "output_audio",
    "input_image_tokens": "input_image",
    "output_image_tokens": "output_image",
    "input_text_tokens": "text_input",
    "output_text_tokens": "text_output",
}
"""Keys of Langfuse's ``usage_details``."""

MLFLOW: Final[Mapping[str, str]] = {
    "input_tokens": "input",
    "output_tokens": "output",
    "total_tokens": "total",
    "cache_read_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_write",
    "cache_creation_input_tokens_above_1hr": "cache_write_1h",
}
"""Keys of MLflow's ``mlflow.chat.tokenUsage``."""


@dataclass(slots=True)
class Buckets:
    """The counts of one span before they are fitted together. None is "not reported"."""

    input: int | None = None
    output: int | None = None
    total: int | None = None
    fresh_input: int | None = None
    """Input without the cached tokens."""
    text_input: int | None = None
    text_output: int | None = None
    """Text is what is left of input and output. These are here to be known and checked only."""
    cache_read: int | None = None
    cache_write: int | None = None
    """Cache writes of any lifetime."""
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    input_audio: int | None = None
    output_audio: int | None = None
    input_image: int | None = None
    output_image: int | None = None
    input_video: int | None = None
    output_video: int | None = None
    cache_read_audio: int | None = None
    cache_read_image: int | None = None
    compaction_input: int | None = None
    """Input of Anthropic's compactions, which stands beside the input."""
    compaction_output: int | None = None
    web_searches: int | None = None
    search_units: int | None = None
    by_convention: bool = True
    """Whether every cached count has a name whose convention says that it is inside the input."""
    thoughts_by_convention: bool = True
    """The same of the reasoning, which is inside the output."""
    total_is_sum: bool = False
    """Whether the instrumentor added the total up itself."""
    flags: list[str] = field(default_factory=list)

    def put(self, bucket: str, count: int) -> None:
        """Fill a bucket.

        Of two reports of it the larger one stays, flagged where they differ.
        """
        known = getattr(self, bucket)
        if known is not None and known != count and known and count:
            self.flag("counts_disagree")
        if known is None or count > known:
            setattr(self, bucket, count)

    def note_other_name(self, bucket: str) -> None:
        """Note a count under a name whose convention does not say where it stands."""
        if bucket in ("cache_read", "cache_write"):
            self.by_convention = False
        elif bucket == "reasoning":
            self.thoughts_by_convention = False

    def flag(self, name: str) -> None:
        """Add a flag once."""
        if name not in self.flags:
            self.flags.append(name)

    @property
    def written(self) -> int:
        """Every cache-write token."""
        split = (self.cache_write_5m or 0) + (self.cache_write_1h or 0)
        return max(self.cache_write or 0, split)

    @property
    def cached(self) -> int:
        """Every cached token."""
        return (self.cache_read or 0) + self.written
