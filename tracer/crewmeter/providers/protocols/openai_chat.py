"""OpenAI's chat completions, completions and embeddings.

Many other providers speak the same protocol.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.hosted_tools import (
    HOSTED_TOOL_MARKS,
    flag_second_names,
    flag_uncounted_tools,
    note_hosted_tools,
)
from crewmeter.providers.json_values import as_map, first_map
from crewmeter.providers.plain_answers.plain_chat_answer import (
    SEARCH_MODELS,
    read_plain_answer,
    read_plain_usage,
)
from crewmeter.providers.provider_protocol import (
    Json,
    ProviderProtocol,
    Route,
    StreamFormat,
    UsageShape,
    keys,
)
from crewmeter.providers.reported_cost import COST_KEYS
from crewmeter.usage.draft import Raw, UsageDraft, count, part

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = [
    "CACHED_FIELDS",
    "INPUT_FIELDS",
    "OPENAI_CHAT",
    "OPENAI_KEYS",
    "OPENAI_STREAM",
    "OUTPUT_FIELDS",
    "SERVER_TOOLS",
    "SNOWFLAKE",
    "read_chat",
    "read_usage_counts",
]

_PLAIN = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    }
)
"""What OpenAI itself sends. Whoever sends more is read with all the other names as well."""
_PLAIN_INSIDE = frozenset({"cached_tokens", "audio_tokens"})
INPUT_FIELDS = {
    "cached_tokens": "cache_read",
    "cache_read_input_tokens": "cache_read",
    "audio_tokens": "input_audio",
    "image_tokens": "input_image",
    "video_tokens": "input_video",
}
"""Keys of the details of an input → the counts they are."""
CACHED_FIELDS = {"audio_tokens": "cache_read_audio", "image_tokens": "cache_read_image"}
OUTPUT_FIELDS = {
    "reasoning_tokens": "reasoning",
    "audio_tokens": "output_audio",
    "image_tokens": "output_image",
    "video_tokens": "output_video",
}
_CACHED_NAMES = (
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cached_tokens",
    "cached_prompt_text_tokens",
    "num_cached_tokens",
)
_WRITTEN = ("cache_creation_tokens", "cache_creation_input_tokens")
_TTL_SPLIT = keys("ephemeral_5m_input_tokens ephemeral_1h_input_tokens")
SERVER_TOOLS = {
    "x_search_calls": "x_search",
    "code_interpreter_calls": "code_execution",
    "code_execution_calls": "code_execution",
    "file_search_calls": "storage_search",
    "document_search_calls": "document_search",
    "collections_search_calls": "document_search",
}
"""xAI's count of a tool that it ran → the unit it is billed as (docs.x.ai, "Tools pricing")."""
_SERVER_TOOL_KEYS = keys("web_search_calls mcp_calls " + " ".join(SERVER_TOOLS))
OPENAI_KEYS = keys(
    # What is read.
    "prompt_tokens completion_tokens total_tokens cached_prompt_tokens cached_tokens "
    "prompt_cache_hit_tokens cache_read_input_tokens cached_prompt_text_tokens "
    "cache_creation_tokens cache_creation_input_tokens reasoning_tokens citation_tokens "
    "num_cached_tokens "
    "num_search_queries num_sources_used search_context_size service_tier "
    # Of the parts of a sum, one is known by the others.
    "prompt_cache_miss_tokens text_tokens image_tokens "
    "num_server_side_tools_used "
    "input_tokens output_tokens "
    # How long it took, and who answered.
    "queue_time prompt_time completion_time total_time time_info total_latency stop_reason "
    "time_to_first_token time_to_first_token_ms acceptance_rate completion_tokens_per_sec "
    "completion_tokens_after_first_per_sec completion_tokens_after_first_per_sec_first_ten "
    "completion_tokens_after_first_per_sec_graph is_last_response start_time end_time latency "
    "model_context_length type object id iterations_count",
    prompt_tokens_details=keys(
        "cached_tokens audio_tokens image_tokens video_tokens text_tokens cache_creation_tokens "
        "cache_write_tokens cache_creation_input_tokens web_search_requests file_tokens cache_type",
        cache_creation_token_details=_TTL_SPLIT,
        cache_creation=_TTL_SPLIT,
        cached_tokens_details=keys("text_tokens audio_tokens image_tokens"),
    ),
    completion_tokens_details=keys(
        "reasoning_tokens audio_tokens image_tokens video_tokens text_tokens "
        "accepted_prediction_tokens rejected_prediction_tokens"
    ),
    # Some send Responses' names beside: they repeat what stands above.
    input_tokens_details=keys("cached_tokens text_tokens audio_tokens image_tokens"),
    output_tokens_details=keys("reasoning_tokens text_tokens audio_tokens image_tokens"),
    cache_creation=_TTL_SPLIT,
    cache_creation_token_details=_TTL_SPLIT,
    server_tool_use=keys("web_search_requests web_fetch_requests tool_search_requests"),
    server_side_tool_usage_details=_SERVER_TOOL_KEYS,
) | keys(" ".join(COST_KEYS))
"""Usage as OpenAI and its likes send it, by key. Names say what they are wherever they stand."""
_RESPONSE_KEYS = frozenset(
    [
        "id",
        "object",
        "created",
        "model",
        "choices",
        "usage",
        "service_tier",
        "system_fingerprint",
        "citations",
        "search_results",
        "images",
        "related_questions",
        "provider",
        "x_groq",
        "prompt_filter_results",
        "prompt_logprobs",
        "prompt_token_ids",
        "kv_transfer_params",
        "data",
        "obfuscation",
    ]
)
_GOOGLE = ("gcp.gemini", "gcp.vertex_ai")
_TOTAL_MISMATCH = "unknown_usage:total_tokens"


def read_usage_counts(raw: Raw, provider: str | None) -> UsageDraft:
    """Read ``prompt_tokens`` and ``completion_tokens``, and what stands beside them."""
    draft = UsageDraft(input=count(raw, "prompt_tokens"))
    inside = part(raw, "prompt_tokens_details")
    outside = part(raw, "completion_tokens_details")
    draft.take(inside, INPUT_FIELDS)
    draft.take(outside, OUTPUT_FIELDS)
    written = None
    if not inside.keys() <= _PLAIN_INSIDE:
        written = count(inside, "cache_creation_tokens", "cache_write_tokens")
        draft.take(part(inside, "cached_tokens_details"), CACHED_FIELDS)
    if not raw.keys() <= _PLAIN:
        _read_other_names(draft, raw, inside)
        _flag_hidden_cache(draft, raw, inside, provider)
        _add_request_size(draft, raw)
        written = count(raw, *_WRITTEN) or written
    _read_output(draft, raw, provider)
    if written:
        _read_writes(draft, raw, inside, written, provider)
    return draft


def _read_writes(
    draft: UsageDraft, raw: Raw, inside: Raw, written: int, provider: str | None
) -> None:
    names = ("cache_creation_token_details", "cache_creation")
    split = part(inside, *names) or part(raw, *names)
    five = count(split, "ephemeral_5m_input_tokens")
    hour = count(split, "ephemeral_1h_input_tokens")
    is_openai = provider in (None, "openai", "azure.ai.openai")
    other_names = count(inside, "cache_creation_tokens") or count(raw, *_WRITTEN)
    one_kind = is_openai and not other_names
    draft.add_cache_writes(
        written,
        five,
        hour,
        one_kind=one_kind,
    )


def _read_other_names(draft: UsageDraft, raw: Raw, inside: Raw) -> None:
    """Read what CrewAI, LiteLLM and other providers add."""
    cached = count(raw, "cached_prompt_tokens") or draft.cache_read
    others = {count(raw, name) for name in _CACHED_NAMES} - {None, 0, cached}
    if cached and others:
        draft.flags.append("counts_disagree")
    draft.cache_read = cached or count(raw, *_CACHED_NAMES) or 0
    flag_second_names(draft, raw, count(raw, *_WRITTEN) or 0)
    draft.reasoning = count(raw, "reasoning_tokens") or draft.reasoning
    tools = part(raw, "server_side_tool_usage_details")
    server_tools = part(raw, "server_tool_use")
    draft.web_searches = (
        count(raw, "num_search_queries")
        or count(server_tools, "web_search_requests")
        or count(inside, "web_search_requests")
        or count(tools, "web_search_calls")
        or 0
    )
    for name, unit in SERVER_TOOLS.items():
        draft.add_unit(
            unit,
            count(tools, name),
        )
    draft.add_unit("search_source", count(raw, "num_sources_used"))
    flag_uncounted_tools(draft, raw, tools)
    if raw.get("is_byok") is True and not part(raw, "cost_details").get("upstream_inference_cost"):
        # The provider behind a gateway bills the user's own key, at nobody here knows what.
        draft.flags.append("unknown_usage:is_byok")


def _add_request_size(draft: UsageDraft, raw: Raw) -> None:
    """Count the request's fee by its search context (docs.perplexity.ai, "Pricing").

    Only Perplexity has the key, and behind a gateway nobody may have named it.
    """
    size = raw.get("search_context_size")
    if size in ("low", "medium", "high"):
        draft.add_unit(f"request:{size}", 1)


def _flag_hidden_cache(draft: UsageDraft, raw: Raw, inside: Raw, provider: str | None) -> None:
    """Say that CrewAI's Azure SDK drops the cached count."""
    if draft.cache_read or inside:
        return
    if provider == "azure.ai.openai" and "cached_prompt_tokens" in raw:
        draft.flags.append("cached_not_reported")


def _read_output(draft: UsageDraft, raw: Raw, provider: str | None) -> None:
    """Read the output, with the reasoning in it.

    Reasoning is inside ``completion_tokens``, but beside it at xAI, Perplexity and Gemini's
    OpenAI endpoint: the total tells.
    """
    draft.add_unit("citation_token", count(raw, "citation_tokens"))
    answer = count(raw, "completion_tokens")
    total = count(raw, "total_tokens")
    prompt = draft.input
    draft.output = answer
    if answer is None:
        if total and prompt is not None:
            draft.output = max(0, total - prompt)
    elif prompt is None:
        # With reasoning, which may be beside the answer, the total does not tell.
        if total and not draft.reasoning:
            draft.input = max(0, total - answer)
    elif provider == "perplexity" and draft.reasoning > answer:
        draft.output = answer + draft.reasoning
        if total and total not in (prompt + answer, prompt + draft.output):
            draft.flags.append(_TOTAL_MISMATCH)
    elif total:
        _fit_total(
            draft,
            total - prompt,
            answer,
            provider,
        )


def _fit_total(draft: UsageDraft, rest: int, answer: int, provider: str | None) -> None:
    """Compare ``answer`` with ``rest``, what the total has beyond the prompt."""
    if rest == answer:
        return
    if draft.reasoning and rest == answer + draft.reasoning:
        draft.output = rest
    elif provider in _GOOGLE and rest > answer:
        draft.output = rest
        draft.reasoning = max(
            draft.reasoning,
            rest - answer,
        )
    else:
        # Also where the rest is as many as the cached tokens: those stand inside the prompt, and a
        # total that adds them says that they were billed beside it.
        draft.flags.append(_TOTAL_MISMATCH)


def read_chat(facts: ResponseFacts, answer: Json) -> None:
    """Take finish reason, and usage where others than OpenAI put it."""
    choice = first_map(answer.get("choices"))
    facts.set_finish(choice.get("finish_reason"))
    note_hosted_tools(facts, answer, choice)
    usage = choice.get("usage")  # Moonshot's streams
    if isinstance(usage, dict):
        facts.report(usage)
    if "x_groq" in answer:
        groq = as_map(answer["x_groq"])
        facts.report(as_map(groq.get("usage")))
    if "provider_metadata" in answer:  # Vercel's AI gateway
        metadata = as_map(answer["provider_metadata"])
        gateway = as_map(metadata.get("gateway"))
        facts.report({"cost": gateway.get("cost")})
    if answer.get("web_search"):  # Zhipu's search tool has a fee for each use
        facts.flag_unknown("response.web_search")
    if answer.get("choices") and SEARCH_MODELS in (facts.request_model or ""):
        facts.count_searches(1)


OPENAI_STREAM = StreamFormat(
    marks=(
        b'"usage":{',
        b'"usage": {',
        b'_reason":"',
        b'_reason": "',
        b'"error"',
        b"[DONE]",
        b'"x_groq"',
        b"_token_count",
    ),
    marks_of=HOSTED_TOOL_MARKS,
    text_keys=(
        b'"content":',
        b'"arguments":',
        b'"reasoning_content":',
        b'"reasoning":',
        b'"text":',
        b'"generated_text":',
    ),
)
OPENAI_CHAT = ProviderProtocol(
    name="openai",
    provider="openai",
    routes=(
        Route("completions", semconv.CHAT, "/chat/"),
        Route("completions", semconv.CHAT, "/agents/"),
        Route("completions", semconv.TEXT_COMPLETION),
        Route("embeddings", semconv.EMBEDDINGS, sure=False),
        Route("multimodalembeddings", semconv.EMBEDDINGS, sure=False),
        Route("contextualizedembeddings", semconv.EMBEDDINGS, sure=False),
        Route("rawPredict", semconv.CHAT, "/publishers/"),
        Route("streamRawPredict", semconv.CHAT, "/publishers/"),
    ),
    stream=OPENAI_STREAM,
    shapes=(
        UsageShape(
            "prompt_tokens",
            read_usage_counts,
            OPENAI_KEYS,
            read_plain=read_plain_usage,
        ),
    ),
    read_plain=read_plain_usage,
    read_plain_answer=read_plain_answer,
    read=read_chat,
    response_keys=_RESPONSE_KEYS,
)
SNOWFLAKE = ProviderProtocol(
    name="snowflake",
    provider="snowflake",
    routes=(Route("complete", semconv.CHAT, "/cortex/"),),
    stream=OPENAI_STREAM,
    read=read_chat,
    response_keys=_RESPONSE_KEYS,
)
"""Snowflake Cortex answers like OpenAI, at an address of its own."""
