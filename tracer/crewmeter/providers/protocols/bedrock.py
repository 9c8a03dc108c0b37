"""Amazon Bedrock: Converse and InvokeModel, through AWS's clients or plain HTTP."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_list, as_map, as_text
from crewmeter.providers.protocols.anthropic import read_message, unwrap_event
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
from crewmeter.usage.token_usage import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crewmeter.providers.response_facts import ResponseFacts

__all__ = [
    "BEDROCK",
    "BEDROCK_INVOKE",
    "flag_guardrail",
    "invoked_operation",
    "rerank_usage",
]

_DEFAULT_SIDE = 1024
_IMAGE_SIDES = (512, 1024, 2048)
"""Longest sides, in pixels, up to which images have one price (aws.amazon.com/bedrock/pricing)."""
_STANDARD_TIERS = frozenset({"", "default", "standard"})
_LONGEST_COUNT = 15
_DOCUMENTS_A_QUERY = 100
"""Bedrock bills a rerank query per hundred documents or part of it
(aws.amazon.com/bedrock/pricing).
"""
_COUNT_HEADERS = {
    "inputTokens": "x-amzn-bedrock-input-token-count",
    "outputTokens": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": "x-amzn-bedrock-cache-write-input-token-count",
}
_METRICS = {
    "inputTokens": "inputTokenCount",
    "outputTokens": "outputTokenCount",
    "cacheReadInputTokens": "cacheReadInputTokenCount",
    "cacheWriteInputTokens": "cacheWriteInputTokenCount",
}
_LLAMA = {
    "prompt_token_count": "prompt_token_count",
    "generation_token_count": "generation_token_count",
}
_CACHE_READ = {
    "cacheReadInputTokenCount": "cache_read",
    "cacheReadInputTokens": "cache_read",
}
_KEYS = keys(
    "inputTokens outputTokens totalTokens cacheReadInputTokens cacheReadInputTokenCount "
    "cacheWriteInputTokens cacheWriteInputTokenCount "
    # The model's own counts, which the invocation metrics repeat.
    "inputTextTokenCount generated_token_count prompt_token_count generation_token_count",
    cacheDetails=keys("ttl inputTokens"),
)


def read_counts(raw: Raw, _: str | None) -> UsageDraft:
    """Read Converse's counts.

    Input leaves out cached tokens, unless the total says otherwise.
    """
    draft = UsageDraft()
    draft.take(raw, _CACHE_READ)
    written = count(raw, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    split = _writes_by_ttl(raw)
    written = draft.add_cache_writes(
        written,
        split.get("5m"),
        split.get("1h"),
    )
    cached = draft.cache_read + written
    fresh = count(raw, "inputTokens")
    output = count(raw, "outputTokens")
    total = count(raw, "totalTokens")
    if total and output is None and fresh is not None:
        output = max(
            0,
            total - fresh - cached,
        )
    if total and fresh is None and output is not None:
        fresh = max(
            0,
            total - output - cached,
        )
    draft.output = output
    if fresh is not None:
        draft.input = fresh + cached
    if total and fresh is not None and output is not None:
        _check_total(draft, fresh + output, total)
    return draft


def _writes_by_ttl(raw: Raw) -> dict[str, int]:
    split: dict[str, int] = {}
    for detail in items(raw, "cacheDetails"):
        ttl = str(detail.get("ttl"))
        number = count(detail, "inputTokens") or 0
        split[ttl] = split.get(ttl, 0) + number
    return split


def _check_total(draft: UsageDraft, uncached: int, total: int) -> None:
    """Take the total's word for what the input has in it."""
    cached = draft.cache_read + draft.cache_write_5m + draft.cache_write_1h
    if total == uncached + cached:
        return
    if total == uncached and draft.input is not None:
        draft.input -= cached
    else:
        draft.flags.append("unknown_usage:totalTokens")


def _read_llama(raw: Raw, _: str | None) -> UsageDraft:
    """Read Llama's counts on ``invoke_model``."""
    prompt = count(raw, "prompt_token_count")
    output = count(raw, "generation_token_count")
    return UsageDraft(input=prompt, output=output)


def rerank_usage(params: Mapping[str, object]) -> TokenUsage:
    """Return what a Rerank request is billed for.

    A query counts once for each hundred documents.
    """
    queries = max(
        1,
        len(as_list(params.get("queries"))),
    )
    documents = len(as_list(params.get("sources")))
    hundreds = max(
        1,
        math.ceil(documents / _DOCUMENTS_A_QUERY),
    )
    return TokenUsage(
        input=0,
        output=0,
        search_units=queries * hundreds,
        flags=("units_counted_in_request",),
    )


def invoked_operation(model: str | None) -> str:
    """Return what InvokeModel does, which only the model's name tells."""
    name = model or ""
    if "embed" in name:
        return semconv.EMBEDDINGS
    if "rerank" in name:
        return semconv.RERANK
    return semconv.CHAT


def _read_converse(facts: ResponseFacts, answer: Json) -> None:
    facts.set_finish(answer.get("stopReason"))
    tier = as_map(answer.get("serviceTier"))
    _set_tier(facts, tier.get("type"))
    performance = as_map(answer.get("performanceConfig"))
    if performance.get("latency") == "optimized":
        facts.set_price_tier("optimized")
    trace = as_map(answer.get("trace"))
    if trace.get("guardrail"):
        flag_guardrail(facts)
    router = as_map(trace.get("promptRouter"))
    routed = as_text(router.get("invokedModelId"))
    if routed is not None:
        facts.response_model = routed
        # A router has a fee per request (aws.amazon.com/bedrock/pricing).
        facts.flag_unknown("trace.promptRouter")


def flag_guardrail(facts: ResponseFacts) -> None:
    """Say that a guardrail ran: billed by text units (aws.amazon.com/bedrock/pricing).

    The answer tells of it only where its trace was requested.
    """
    facts.flag_unknown("guardrail")


def _read_converse_request(facts: ResponseFacts, request: Json) -> None:
    if request.get("guardrailConfig"):
        flag_guardrail(facts)


def _set_tier(facts: ResponseFacts, tier: object) -> None:
    if isinstance(tier, str) and tier not in _STANDARD_TIERS:
        facts.set_price_tier(tier)


def _read_invoke_request(facts: ResponseFacts, request: Json) -> None:
    """Name size and quality of images made, and flag an image that is embedded."""
    if request.get("inputImage"):
        # Embedded images are billed by the piece, and the answer counts only the text.
        facts.flag_unknown("request.inputImage")
    if not facts.unit("image"):
        return
    settings = as_map(request.get("imageGenerationConfig"))
    sides = [settings[name] for name in ("width", "height") if settings.get(name) is not None]
    lengths = [side for side in sides if isinstance(side, int | float) and type(side) is not bool]
    if len(lengths) < len(sides):
        facts.flag_unknown("request.imageGenerationConfig")
    longest = max(lengths, default=_DEFAULT_SIDE)
    side = next((step for step in _IMAGE_SIDES if longest <= step), _IMAGE_SIDES[-1])
    quality = "premium" if settings.get("quality") == "premium" else "standard"
    facts.rename_unit("image", f"image:{quality}:{side}x{side}")


def _read_invoke(facts: ResponseFacts, answer: Json) -> None:
    read_message(facts, answer)
    if "amazon-bedrock-guardrailAction" in answer:
        flag_guardrail(facts)
    metrics = as_map(answer.get("amazon-bedrock-invocationMetrics"))
    if metrics and not facts.has_report("input_tokens"):
        facts.report(_renamed(metrics, _METRICS))
    if "inputTextTokenCount" in answer:
        facts.report(_titan_usage(answer))
    if "prompt_token_count" in answer:
        facts.report(_renamed(answer, _LLAMA))
    images = as_list(answer.get("images")) or as_list(answer.get("artifacts"))
    if images:
        facts.count_units("image", len(images))


def _renamed(holder: Json, names: dict[str, str]) -> dict[str, object]:
    """Return the values under ``names``: the name wanted → the name in ``holder``."""
    return {wanted: holder[name] for wanted, name in names.items() if name in holder}


def _titan_usage(answer: Json) -> dict[str, object]:
    """Return the counts of a Titan answer, as usage names them."""
    usage: dict[str, object] = {"inputTextTokenCount": answer["inputTextTokenCount"]}
    output = None
    for result in as_list(answer.get("results")):
        number = as_map(result).get("tokenCount")
        if isinstance(number, int):
            output = (output or 0) + number
    if output is not None:
        usage["generated_token_count"] = output
    return usage


def _read_invoke_headers(facts: ResponseFacts, headers: Headers) -> None:
    counts: dict[str, object] = {}
    for name, header in _COUNT_HEADERS.items():
        text = headers.get(header, "")
        if text.isdecimal():
            counts[name] = int(text[:_LONGEST_COUNT])
    if counts:
        facts.report_headers(counts)
    facts.response_id = headers.get("x-amzn-requestid")
    _set_tier(facts, headers.get("x-amzn-bedrock-service-tier"))


def _is_last(event: Json) -> bool:
    """Tell the last event of a stream: invocation metrics, or Converse's metadata."""
    return "amazon-bedrock-invocationMetrics" in event or ("usage" in event and "metrics" in event)


_FRAME_MARKS = (b'"usage"', b'"stopReason"', b'"bytes"', b"invocationMetrics")
_TOOL_MARKS = (b'"toolUse"', b'"delta"')
BEDROCK = ProviderProtocol(
    name="bedrock",
    provider="aws.bedrock",
    routes=(
        Route("converse", semconv.CHAT, "/model/"),
        Route("converse-stream", semconv.CHAT, "/model/"),
    ),
    stream=StreamFormat(
        marks=_FRAME_MARKS,
        text_keys=(b'"text":', b'"input":'),
        is_last=_is_last,
        is_whole=_is_last,
        tool_marks=_TOOL_MARKS,
    ),
    shapes=(
        UsageShape("inputTokens", read_counts, _KEYS),
        UsageShape("outputTokens", read_counts, _KEYS),
    ),
    read=_read_converse,
    read_request=_read_converse_request,
    request_marks=(b'"guardrailConfig"',),
    response_keys=frozenset(
        [
            "output",
            "stopReason",
            "usage",
            "metrics",
            "additionalModelResponseFields",
            "trace",
            "performanceConfig",
            "serviceTier",
            "ResponseMetadata",
            "messageStop",
            "metadata",
        ]
    ),
    model_in_path=True,
)
BEDROCK_INVOKE = ProviderProtocol(
    name="bedrock.invoke",
    provider="aws.bedrock",
    routes=(
        Route("invoke", semconv.CHAT, "/model/"),
        Route("invoke-with-response-stream", semconv.CHAT, "/model/"),
    ),
    stream=StreamFormat(
        marks=_FRAME_MARKS,
        text_keys=(
            b'"text":',
            b'"partial_json":',
            b'"thinking":',
            b'"generation":',
            b'"outputText":',
        ),
        is_last=_is_last,
        is_whole=_is_last,
        tool_marks=_TOOL_MARKS,
    ),
    shapes=(
        UsageShape(
            "prompt_token_count",
            _read_llama,
            keys("prompt_token_count generation_token_count"),
            any_of=frozenset({"generation_token_count"}),
        ),
    ),
    read=_read_invoke,
    read_request=_read_invoke_request,
    request_marks=(b'"imageGenerationConfig"', b'"inputImage"'),
    unwrap=unwrap_event,
    read_headers=_read_invoke_headers,
    response_keys=frozenset(
        [
            "amazon-bedrock-invocationMetrics",
            "inputTextTokenCount",
            "prompt_token_count",
            "generation_token_count",
            "totalOutputTextTokenCount",
            "amazon-bedrock-trace",
            "usage",
        ]
    ),
    model_in_path=True,
    operation_of=invoked_operation,
)
