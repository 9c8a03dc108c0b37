"""The shapes in which providers, SDKs and CrewAI report usage, each told by its keys and read into one `UsageDraft`.

Pure. The order of `SHAPES` matters: a signature that is a subset of another comes after it. A reader takes the
mapping as the provider sent it and answers with totals (input with cached tokens, output with reasoning).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crewmeter.usage.draft import Raw, UsageDraft, count, part

__all__ = ["SHAPES"]

Reader = Callable[[Raw, str | None], UsageDraft]


def _bedrock(raw: Raw, _: str | None) -> UsageDraft:
    """Bedrock Converse: input excludes cached tokens, unless its own total says otherwise."""
    read = count(raw, "cacheReadInputTokens", "cacheReadInputTokenCount") or 0
    written = count(raw, "cacheWriteInputTokens", "cacheWriteInputTokenCount") or 0
    fresh, output, total = (
        count(raw, "inputTokens") or 0,
        count(raw, "outputTokens") or 0,
        count(raw, "totalTokens"),
    )
    counts = UsageDraft(output=output, cache_read=read)
    split: dict[object, int] = {}
    details = raw.get("cacheDetails")
    for detail in details if isinstance(details, list | tuple) else ():
        if isinstance(detail, Mapping):
            split[detail.get("ttl")] = split.get(detail.get("ttl"), 0) + (
                count(detail, "inputTokens") or 0
            )
    written = counts.add_cache_writes(written, split.get("5m"), split.get("1h"))
    counts.input = fresh + read + written
    if total is not None and total != counts.input + output and total == fresh + output:
        counts.input = fresh
    return counts


_MODALITIES = {
    ("AUDIO", "in"): "input_audio",
    ("AUDIO", "out"): "output_audio",
    ("IMAGE", "in"): "input_image",
    ("IMAGE", "out"): "output_image",
    ("DOCUMENT", "in"): "input_image",
    ("DOCUMENT", "out"): "output_image",
}


def _gemini(raw: Raw, _: str | None) -> UsageDraft:
    """Gemini's ``usageMetadata``, in the REST API's camel case or the SDK's snake case; thoughts are outside candidates."""
    prompt = count(raw, "promptTokenCount", "prompt_token_count") or 0
    tools = count(raw, "toolUsePromptTokenCount", "tool_use_prompt_token_count") or 0
    answer = count(raw, "candidatesTokenCount", "candidates_token_count", "responseTokenCount") or 0
    thoughts = count(raw, "thoughtsTokenCount", "thoughts_token_count") or 0
    total = count(raw, "totalTokenCount", "total_token_count")
    counts = UsageDraft(input=prompt + tools, output=answer + thoughts, reasoning=thoughts)
    if total is not None and total == prompt + tools + answer:
        counts.output = answer
    counts.cache_read = count(raw, "cachedContentTokenCount", "cached_content_token_count") or 0
    for way, keys in (
        (
            "in",
            (
                "promptTokensDetails",
                "prompt_tokens_details",
                "toolUsePromptTokensDetails",
                "tool_use_prompt_tokens_details",
            ),
        ),
        ("out", ("candidatesTokensDetails", "candidates_tokens_details")),
    ):
        for detail in (d for key in keys for d in _listed(raw.get(key))):
            name = _MODALITIES.get((str(detail.get("modality")), way))
            if name:
                setattr(
                    counts,
                    name,
                    getattr(counts, name) + (count(detail, "tokenCount", "token_count") or 0),
                )
    return counts


def _listed(value: object) -> list[Raw]:
    return (
        [item for item in value if isinstance(item, Mapping)]
        if isinstance(value, list | tuple)
        else []
    )


def _crewai_gemini(raw: Raw, _: str | None) -> UsageDraft:
    """CrewAI's Gemini event: tokens of tool use are only in the total; ``completion_tokens`` has the thoughts in it."""
    prompt, answer = count(raw, "prompt_token_count") or 0, count(raw, "candidates_token_count")
    output = count(raw, "completion_tokens")
    if output is None:
        output = (answer or 0) + (count(raw, "reasoning_tokens") or 0)
    total = count(raw, "total_token_count", "total_tokens") or 0
    counts = UsageDraft(input=prompt + max(0, total - prompt - output), output=output)
    counts.cache_read = count(raw, "cached_prompt_tokens") or 0
    counts.reasoning = count(raw, "reasoning_tokens") or 0
    if answer is not None and total == prompt + answer:
        counts.output = answer
    return counts


def _llama(raw: Raw, _: str | None) -> UsageDraft:
    """Llama on Bedrock's ``invoke_model``."""
    return UsageDraft(
        input=count(raw, "prompt_token_count") or 0,
        output=count(raw, "generation_token_count") or 0,
    )


def _cohere(raw: Raw, _: str | None) -> UsageDraft:
    """Cohere: ``billed_units`` is what the invoice counts, ``tokens`` what the model saw."""
    billed = part(raw, "billed_units")
    counts = UsageDraft(search_units=count(billed, "search_units") or 0)
    counts.input = (count(billed, "input_tokens", "total_tokens") or 0) + (
        count(billed, "image_tokens") or 0
    )
    counts.input_image = count(billed, "image_tokens") or 0
    counts.output = count(billed, "output_tokens") or 0
    return counts


def _anthropic(raw: Raw, _: str | None) -> UsageDraft:
    """Anthropic's own: ``input_tokens`` excludes what was read from and written to the cache."""
    counts = UsageDraft(output=count(raw, "output_tokens") or 0)
    split = part(raw, "cache_creation")
    five, hour = (
        count(split, "ephemeral_5m_input_tokens"),
        count(split, "ephemeral_1h_input_tokens"),
    )
    written = counts.add_cache_writes(count(raw, "cache_creation_input_tokens"), five, hour)
    counts.cache_read = count(raw, "cache_read_input_tokens") or 0
    counts.input = (count(raw, "input_tokens") or 0) + counts.cache_read + written
    counts.reasoning = count(part(raw, "output_tokens_details"), "thinking_tokens") or 0
    counts.web_searches = count(part(raw, "server_tool_use"), "web_search_requests") or 0
    return counts


def _inclusive(raw: Raw, _: str | None) -> UsageDraft:
    """``input_tokens`` with everything in it: OpenAI Responses, images and transcriptions; CrewAI's Anthropic event."""
    counts = UsageDraft(input=count(raw, "input_tokens"), output=count(raw, "output_tokens"))
    details, out = (
        part(raw, "input_tokens_details", "input_token_details"),
        part(raw, "output_tokens_details", "output_token_details"),
    )
    counts.cache_read = (
        count(raw, "cached_prompt_tokens")
        or count(details, "cached_tokens", "cache_read_input_tokens")
        or 0
    )
    written = count(raw, "cache_creation_tokens")
    openai_writes = count(details, "cache_write_tokens")
    counts.add_cache_writes(written or openai_writes, None, None, one_kind=not written)
    counts.reasoning = count(out, "reasoning_tokens") or count(raw, "reasoning_tokens") or 0
    counts.input_audio, counts.output_audio = (
        count(details, "audio_tokens") or 0,
        count(out, "audio_tokens") or 0,
    )
    counts.input_image, counts.output_image = (
        count(details, "image_tokens") or 0,
        count(out, "image_tokens") or 0,
    )
    searches = part(part(raw, "tool_calls_details"), "search_web")
    counts.web_searches = (
        count(searches, "invocation")
        or count(part(raw, "server_tool_use"), "web_search_requests")
        or 0
    )
    return counts


_PLAIN = frozenset(
    {
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
    }
)
"""What OpenAI itself sends; whoever sends more is asked for all the other names, too."""


def _openai(raw: Raw, provider: str | None) -> UsageDraft:
    """``prompt_tokens``: OpenAI chat and embeddings, and the many who speak its protocol; LiteLLM."""
    counts = UsageDraft(input=count(raw, "prompt_tokens") or 0)
    details, out = part(raw, "prompt_tokens_details"), part(raw, "completion_tokens_details")
    written = None
    if details:
        counts.cache_read = count(details, "cached_tokens") or 0
        counts.input_audio = count(details, "audio_tokens") or 0
        counts.input_image = count(details, "image_tokens") or 0
        written = count(details, "cache_creation_tokens", "cache_write_tokens")
    if out:
        counts.reasoning = count(out, "reasoning_tokens") or 0
        counts.output_audio = count(out, "audio_tokens") or 0
        counts.output_image = count(out, "image_tokens") or 0
    if not raw.keys() <= _PLAIN:
        written = _openai_more(counts, raw, details, provider) or written
    _openai_output(counts, raw, provider)
    if written:
        split = part(details, "cache_creation_token_details") or part(
            raw, "cache_creation_token_details", "cache_creation"
        )
        five, hour = (
            count(split, "ephemeral_5m_input_tokens"),
            count(split, "ephemeral_1h_input_tokens"),
        )
        one_kind = not count(details, "cache_creation_tokens") and not count(raw, *_WRITTEN)
        counts.add_cache_writes(
            written,
            five,
            hour,
            one_kind=one_kind and provider in (None, "openai", "azure.ai.openai"),
        )
    return counts


_WRITTEN = ("cache_creation_tokens", "cache_creation_input_tokens")


def _openai_more(counts: UsageDraft, raw: Raw, details: Raw, provider: str | None) -> int | None:
    """What CrewAI, LiteLLM and other providers put beside OpenAI's own keys; answers with the cache-write tokens."""
    counts.cache_read = (
        count(raw, "cached_prompt_tokens")
        or counts.cache_read
        or count(
            raw,
            "prompt_cache_hit_tokens",
            "cache_read_input_tokens",
            "cached_tokens",
            "cached_prompt_text_tokens",
        )
        or 0
    )
    counts.reasoning = count(raw, "reasoning_tokens") or counts.reasoning
    counts.web_searches = (
        count(raw, "num_search_queries")
        or count(part(raw, "server_tool_use"), "web_search_requests")
        or count(details, "web_search_requests")
        or 0
    )
    if (
        provider == "azure.ai.openai"
        and not counts.cache_read
        and "cached_prompt_tokens" in raw
        and not details
    ):
        counts.flags.append("cached_not_reported")  # CrewAI's Azure SDK drops the cached count
    return count(raw, *_WRITTEN)


def _openai_output(counts: UsageDraft, raw: Raw, provider: str | None) -> None:
    """Reasoning is inside ``completion_tokens``, but outside at xAI, Perplexity and Gemini's OpenAI door: the total tells."""
    prompt, answer, total = (
        counts.input or 0,
        count(raw, "completion_tokens"),
        count(raw, "total_tokens"),
    )
    if answer is None:
        counts.output = max(0, total - prompt) if total else None
        return
    counts.output = answer
    citations = count(raw, "citation_tokens") or 0
    if citations or (provider == "perplexity" and counts.reasoning > answer):
        counts.output = answer + counts.reasoning + citations
        if citations:
            counts.flags.append("citation_tokens_as_output")
    elif counts.reasoning and total == prompt + answer + counts.reasoning:
        counts.output = answer + counts.reasoning
    elif (
        provider in ("gcp.gemini", "gcp.vertex_ai")
        and total is not None
        and total > prompt + answer
    ):
        counts.output = total - prompt
        counts.reasoning = max(counts.reasoning, total - prompt - answer)


def _ollama(raw: Raw, _: str | None) -> UsageDraft:
    """Ollama's own API, chat and embed."""
    return UsageDraft(
        input=count(raw, "prompt_eval_count") or 0, output=count(raw, "eval_count") or 0
    )


def _one_sided(raw: Raw, _: str | None) -> UsageDraft:
    """Embeddings counted by one number: watsonx, Titan, Vertex."""
    return UsageDraft(
        input=count(raw, "input_token_count", "inputTextTokenCount", "token_count") or 0,
        output=count(raw, "generated_token_count") or 0,
    )


def _total_only(raw: Raw, provider: str | None) -> UsageDraft:
    """``total_tokens`` and nothing else: Voyage and Jina, who only read. Elsewhere the split is not known."""
    reads_only = (
        provider in ("voyageai", "jina_ai") or "image_pixels" in raw or "text_tokens" in raw
    )
    return UsageDraft(input=count(raw, "total_tokens"), output=0 if reads_only else None)


SHAPES: tuple[tuple[tuple[str, ...], tuple[str, ...], Reader], ...] = (
    (("inputTokens",), (), _bedrock),
    (("outputTokens",), (), _bedrock),
    (("promptTokenCount",), (), _gemini),
    (("totalTokenCount",), (), _gemini),
    (("prompt_token_count",), ("generation_token_count",), _llama),
    (
        ("prompt_token_count",),
        ("thoughts_token_count", "tool_use_prompt_token_count", "cached_content_token_count"),
        _gemini,
    ),
    (("prompt_token_count",), (), _crewai_gemini),
    (("billed_units",), (), _cohere),
    (("prompt_tokens",), (), _openai),
    (
        ("input_tokens",),
        ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"),
        _anthropic,
    ),
    (("input_tokens",), (), _inclusive),
    (("completion_tokens",), (), _openai),
    (("prompt_eval_count",), (), _ollama),
    (("eval_count",), (), _ollama),
    (("input_token_count",), (), _one_sided),
    (("inputTextTokenCount",), (), _one_sided),
    (("token_count",), (), _one_sided),
    (("total_tokens",), (), _total_only),
)
"""(all of these keys, any of these or none named, reader), first match wins."""
