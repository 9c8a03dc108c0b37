"""Gemini's generateContent and embedContent, at Google AI Studio and on Vertex AI."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_list, as_map, first_map
from crewmeter.providers.plain_answers.plain_gemini_answer import (
    STANDARD_TIERS,
    TIER_HEADER,
    has_plain_headers,
    read_plain_answer,
    read_plain_usage,
)
from crewmeter.providers.provider_protocol import (
    Headers,
    Json,
    ProviderProtocol,
    Route,
    StreamFormat,
    UsageShape,
    keys,
)
from crewmeter.usage.draft import Raw, UsageDraft, count, items

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["GEMINI", "add_modalities", "report_statistics", "set_tier"]

_TIERS = {
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "PROVISIONED_THROUGHPUT": "provisioned",
    "FLEX": "flex",
    "PRIORITY": "priority",
    "BATCH": "batch",
}
"""``trafficType`` and ``serviceTier`` → the tier's name in price lists."""
_INPUT_FIELDS = {
    "AUDIO": "input_audio",
    "IMAGE": "input_image",
    "DOCUMENT": "input_image",
    "VIDEO": "input_video",
}
_OUTPUT_FIELDS = {
    "AUDIO": "output_audio",
    "IMAGE": "output_image",
    "DOCUMENT": "output_image",
    "VIDEO": "output_video",
}
_CACHE_FIELDS = {"AUDIO": "cache_read_audio", "IMAGE": "cache_read_image"}
_MODALITIES = frozenset({"TEXT", *_INPUT_FIELDS, "MODALITY_UNSPECIFIED"})
_PER_MODALITY = keys("modality tokenCount token_count tokens")
_COUNTED_CHUNKS = frozenset({"web", "maps"})
_BILLED_PER_PROMPT = re.compile(r"gemini-(?:1|2)")
_EVENT_FIELDS = {"cached_prompt_tokens": "cache_read", "reasoning_tokens": "reasoning"}
_DETAIL_FIELDS = {
    "promptTokensDetails": _INPUT_FIELDS,
    "prompt_tokens_details": _INPUT_FIELDS,
    "toolUsePromptTokensDetails": _INPUT_FIELDS,
    "tool_use_prompt_tokens_details": _INPUT_FIELDS,
    "candidatesTokensDetails": _OUTPUT_FIELDS,
    "candidates_tokens_details": _OUTPUT_FIELDS,
    "responseTokensDetails": _OUTPUT_FIELDS,
    "response_tokens_details": _OUTPUT_FIELDS,
    "cacheTokensDetails": _CACHE_FIELDS,
    "cache_tokens_details": _CACHE_FIELDS,
}
"""Lists of token counts by modality → the counts they belong to."""
GEMINI_KEYS = keys(
    "promptTokenCount prompt_token_count candidatesTokenCount candidates_token_count "
    "responseTokenCount response_token_count thoughtsTokenCount thoughts_token_count "
    "totalTokenCount total_token_count toolUsePromptTokenCount tool_use_prompt_token_count "
    "cachedContentTokenCount cached_content_token_count trafficType traffic_type serviceTier "
    "service_tier "
    # CrewAI's event.
    "completion_tokens total_tokens cached_prompt_tokens reasoning_tokens prompt_tokens "
    "cache_creation_tokens "
    # What embedContent says of its billing, in characters of text that tokens bill.
    "billableCharacterCount billable_character_count",
    **dict.fromkeys(_DETAIL_FIELDS, _PER_MODALITY),
)


def read_metadata(raw: Raw, _: str | None) -> UsageDraft:
    """Read ``usageMetadata``, in the REST API's camel case or the SDK's snake case.

    Thoughts are beside the candidates. The total has everything in it.
    """
    prompt = count(raw, "promptTokenCount", "prompt_token_count")
    tools = count(raw, "toolUsePromptTokenCount", "tool_use_prompt_token_count") or 0
    answer = count(
        raw,
        "candidatesTokenCount",
        "candidates_token_count",
        "responseTokenCount",
        "response_token_count",
    )
    thoughts = count(raw, "thoughtsTokenCount", "thoughts_token_count") or 0
    total = count(raw, "totalTokenCount", "total_token_count")
    draft = UsageDraft()
    draft.reasoning = thoughts
    _fill(
        draft,
        prompt,
        tools,
        answer,
        thoughts,
        total,
    )
    draft.cache_read = count(raw, "cachedContentTokenCount", "cached_content_token_count") or 0
    for name in _DETAIL_FIELDS.keys() & raw.keys():
        add_modalities(
            draft,
            items(raw, name),
            _DETAIL_FIELDS[name],
        )
    return draft


def _fill(
    draft: UsageDraft,
    prompt: int | None,
    tools: int,
    answer: int | None,
    thoughts: int,
    total: int | None,
) -> None:
    """Set input and output.

    A zero is left out of the JSON, so the total tells what is missing.
    """
    if prompt is None and answer is not None and total:
        prompt = max(
            0,
            total - tools - answer - thoughts,
        )
    if prompt is None:
        draft.input = tools or None
        draft.output = None if answer is None else answer + thoughts
        return
    draft.input = prompt + tools
    if total is None:
        draft.output = None if answer is None else answer + thoughts
        return
    rest = total - draft.input
    if answer is None:
        draft.output = max(rest, thoughts, 0)
    elif rest == answer:
        draft.output = answer  # the thoughts are among the candidates
    else:
        draft.output = answer + thoughts
        if rest > draft.output and not thoughts:
            draft.output = rest
            draft.reasoning = rest - answer
        elif rest != draft.output:
            draft.flags.append("unknown_usage:totalTokenCount")


def add_modalities(draft: UsageDraft, details: list[Raw], fields: dict[str, str]) -> None:
    """Add token counts by modality to the fields of ``draft`` that they belong to."""
    for detail in details:
        if detail.get("modality") == "TEXT":
            continue
        modality = str(detail.get("modality")).upper().rpartition(".")[2]
        number = count(detail, "tokenCount", "token_count", "tokens") or 0
        name = fields.get(modality)
        if name is not None:
            setattr(
                draft,
                name,
                getattr(draft, name) + number,
            )
        elif number and modality not in _MODALITIES:
            draft.flags.append("unknown_usage:modality")


def read_crewai_event(raw: Raw, _: str | None) -> UsageDraft:
    """Read CrewAI's Gemini event: tokens of tool use are only in its total.

    ``completion_tokens`` has the thoughts in it.
    """
    draft = UsageDraft()
    draft.take(raw, _EVENT_FIELDS)
    prompt = count(raw, "prompt_token_count") or 0
    answer = count(raw, "candidates_token_count")
    output = count(raw, "completion_tokens")
    if output is None:
        output = (answer or 0) + draft.reasoning
    total = count(raw, "total_token_count", "total_tokens") or 0
    tools = max(
        0,
        total - prompt - output,
    )
    draft.input = prompt + tools
    draft.output = output
    if answer is not None and total == prompt + answer:
        draft.output = answer
    return draft


def set_tier(facts: ResponseFacts, value: object) -> None:
    """Take the tier that served a request, whichever of Google's names it has."""
    if not isinstance(value, str):
        return
    name = value.upper()
    if name in _TIERS:
        facts.set_price_tier(_TIERS[name])
    elif name not in STANDARD_TIERS:
        facts.flag_unknown(f"tier.{name}")


def _read_headers(facts: ResponseFacts, headers: Headers) -> None:
    set_tier(facts, headers.get(TIER_HEADER))


def _read(facts: ResponseFacts, answer: Json) -> None:
    candidates = as_list(answer.get("candidates"))
    first = first_map(candidates)
    facts.set_finish(first.get("finishReason"))
    _count_grounding(facts, candidates)
    usage = answer.get("usageMetadata")
    if isinstance(usage, dict):
        facts.report(usage)
        set_tier(facts, usage.get("trafficType"))
        set_tier(facts, usage.get("serviceTier"))
    elif facts.operation == semconv.EMBEDDINGS:
        texts = []
        for item in as_list(answer.get("embeddings")):
            embedding = as_map(item)
            texts.append(embedding.get("statistics"))
        report_statistics(facts, texts)


def _count_grounding(facts: ResponseFacts, candidates: list[object]) -> None:
    """Count web searches and maps queries.

    Gemini 3 bills each query, earlier models each grounded prompt
    (ai.google.dev/gemini-api/docs/pricing).
    """
    queries: set[str] = set()
    for candidate in candidates:
        grounding = as_map(as_map(candidate).get("groundingMetadata"))
        if not grounding:
            continue
        found = as_list(grounding.get("webSearchQueries"))
        for query in found:
            queries.add(str(query))
        is_grounded = grounding.get("searchEntryPoint") or _has_chunk(grounding, "web")
        if is_grounded and not found:
            # A grounded answer is billed, and for how many queries it does not say.
            facts.count_searches(1)
            facts.flag_unknown("groundingMetadata.groundingChunks")
        _flag_other_queries(facts, grounding)
        if _has_maps(grounding):
            facts.count_units("maps_grounding", 1)
    if queries:
        model = facts.request_model or ""
        is_per_prompt = _BILLED_PER_PROMPT.match(model)
        facts.count_searches(1 if is_per_prompt else len(queries))


def _has_maps(grounding: Json) -> bool:
    if grounding.get("googleMapsWidgetContextToken"):
        return True
    return _has_chunk(grounding, "maps")


def _has_chunk(grounding: Json, kind: str) -> bool:
    chunks = as_list(grounding.get("groundingChunks"))
    return any(kind in as_map(chunk) for chunk in chunks)


def _flag_other_queries(facts: ResponseFacts, grounding: Json) -> None:
    """Flag searches of other kinds: images, one's own data store.

    An answer may have what they found and not the queries.
    Each has a fee that no list here has (cloud.google.com/vertex-ai/pricing).
    """
    for name, value in grounding.items():
        if name.endswith("Queries") and name != "webSearchQueries" and value:
            facts.flag_unknown(f"groundingMetadata.{name}")
    for chunk in as_list(grounding.get("groundingChunks")):
        if as_map(chunk).keys() - _COUNTED_CHUNKS:
            facts.flag_unknown("groundingMetadata.groundingChunks")


def _read_request(facts: ResponseFacts, _: Json) -> None:
    """Flag a search of the web for enterprises, which costs more and answers alike."""
    if facts.web_searches:
        facts.flag_unknown("tools.enterpriseWebSearch")


def report_statistics(facts: ResponseFacts, statistics: list[object]) -> None:
    """Report the sum of the token counts that Google gives per embedded text."""
    total = 0
    is_counted = False
    for item in statistics:
        found = as_map(item)
        tokens = found.get("tokenCount", found.get("token_count"))
        if isinstance(tokens, int | float):
            total += int(tokens)
            is_counted = True
    if is_counted:
        facts.report({"token_count": total})


def _is_whole(event: Json) -> bool:
    return bool(first_map(event.get("candidates")).get("finishReason"))


GEMINI = ProviderProtocol(
    name="gemini",
    provider="gcp.gemini",
    routes=(
        Route("generateContent", semconv.CHAT, "models/"),
        Route("generateContent", semconv.CHAT, "endpoints/"),
        Route("streamGenerateContent", semconv.CHAT, "models/"),
        Route("streamGenerateContent", semconv.CHAT, "endpoints/"),
        Route("embedContent", semconv.EMBEDDINGS, "models/"),
        Route("batchEmbedContents", semconv.EMBEDDINGS, "models/"),
    ),
    stream=StreamFormat(
        marks=(b'"usageMetadata"', b'"finishReason"', b'"groundingMetadata"', b'"error"'),
        text_keys=(b'"text":',),
        is_whole=_is_whole,
        running_totals=True,
    ),
    shapes=(
        UsageShape("promptTokenCount", read_metadata, GEMINI_KEYS, read_plain=read_plain_usage),
        UsageShape("totalTokenCount", read_metadata, GEMINI_KEYS),
        UsageShape(
            "prompt_token_count",
            read_metadata,
            GEMINI_KEYS,
            any_of=frozenset(
                {
                    "thoughts_token_count",
                    "tool_use_prompt_token_count",
                    "cached_content_token_count",
                    "traffic_type",
                    "prompt_tokens_details",
                    "candidates_tokens_details",
                }
            ),
        ),
        UsageShape("prompt_token_count", read_crewai_event, GEMINI_KEYS),
    ),
    read_plain=read_plain_usage,
    read_plain_answer=read_plain_answer,
    has_plain_headers=has_plain_headers,
    read=_read,
    read_headers=_read_headers,
    read_request=_read_request,
    request_marks=(b'"enterpriseWebSearch"', b'"enterprise_web_search"'),
    response_keys=frozenset(
        [
            "candidates",
            "usageMetadata",
            "modelVersion",
            "responseId",
            "promptFeedback",
            "createTime",
            "modelStatus",
            "automaticFunctionCallingHistory",
            "embedding",
            "embeddings",
            "sdkHttpResponse",
        ]
    ),
    model_in_path=True,
    counts_without_text=True,
)
