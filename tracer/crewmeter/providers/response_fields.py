"""What a provider's answer says about its bill: ids, models, tier, usage. Shapes, not content; pure but for the exchange it fills."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.usage_reading import read_usage, reported_cost
from crewmeter.usage.token_usage import MISSING

if TYPE_CHECKING:
    from crewmeter.http.http_call import HttpExchange

__all__ = ["absorb", "absorb_body", "merge_usage"]

Json = Mapping[str, object]
"""A JSON object; made by `json`, so always a dict, which is quicker to tell than any mapping."""
_WHOLE_UP_TO = 8 * 2**20
"""Bytes of an answer that are parsed whole; of a longer one only the part with the usage."""
_EMBEDDINGS_WHOLE_UP_TO = 16 * 1024
_FEES = "tool_fees_not_counted"
_TOOL_FEES = frozenset(
    {"file_search_call", "code_interpreter_call", "image_generation_call", "computer_call"}
)


def absorb_body(exchange: HttpExchange, body: bytes) -> None:
    """Read a whole answer. A large one (embeddings) is searched for its usage instead of parsed."""
    limit = _EMBEDDINGS_WHOLE_UP_TO if exchange.operation == semconv.EMBEDDINGS else _WHOLE_UP_TO
    if len(body) > limit:
        _absorb_large(exchange, body)
        return
    try:
        answer = json.loads(body)
    except ValueError:
        exchange.usage = replace(MISSING, flags=("body_not_read",))
        return
    for item in answer if isinstance(answer, list) else (answer,):
        if isinstance(item, dict):
            absorb(exchange, item, {})


def absorb(exchange: HttpExchange, answer: Json, kept: dict[str, object]) -> None:
    """Take the facts of a whole answer, or of one event of a stream; ``kept`` carries usage from event to event."""
    kind = answer.get("type")
    if kind == "message_start" or (isinstance(kind, str) and kind.startswith("response.")):
        inner = answer.get("message") or answer.get("response")
        answer = inner if isinstance(inner, dict) else {}
    elif kind == "error" or ("error" in answer and answer.get("error") and "usage" not in answer):
        _absorb_error(exchange, answer)
        return
    _absorb_names(exchange, answer)
    reader = _READERS.get(exchange.api)
    if reader is not None:
        reader(exchange, answer, kept)
    usage = answer.get("usage")
    if isinstance(usage, dict):
        merge_usage(exchange, usage, kept)
        if kind == "message_start" and exchange.usage.status == "reported":
            # The output count there is a placeholder; the exact one comes with message_delta, if the stream gets that far.
            exchange.usage = replace(
                exchange.usage, status="estimated", flags=(*exchange.usage.flags, "output_partial")
            )


def merge_usage(exchange: HttpExchange, usage: Json, kept: dict[str, object]) -> None:
    """Add counts to those seen before (a later event restates or completes an earlier one) and read the sum of them."""
    kept.update((key, value) for key, value in usage.items() if value is not None)
    read = read_usage(kept, provider=exchange.provider, operation=exchange.operation)
    before = exchange.usage
    if before.web_searches > read.web_searches or _FEES in before.flags:
        flags = (*read.flags, _FEES) if _FEES in before.flags else read.flags
        read = replace(read, web_searches=max(before.web_searches, read.web_searches), flags=flags)
    exchange.usage = read
    exchange.reported_cost_usd = reported_cost(kept) or exchange.reported_cost_usd
    tier = kept.get("service_tier")
    if isinstance(tier, str):
        exchange.service_tier = tier


def _text(value: object) -> str | None:
    return value[:300] if isinstance(value, str) and value else None


def _first(value: object) -> Json:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def _map(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _absorb_names(exchange: HttpExchange, answer: Json) -> None:
    exchange.response_id = (
        exchange.response_id or _text(answer.get("id")) or _text(answer.get("responseId"))
    )
    exchange.response_model = (
        _text(answer.get("model")) or _text(answer.get("modelVersion")) or exchange.response_model
    )
    exchange.service_tier = _text(answer.get("service_tier")) or exchange.service_tier


def _absorb_error(exchange: HttpExchange, answer: Json) -> None:
    """An error inside an answer that began well: the call failed, whatever it has used until then is billed."""
    error = answer.get("error")
    named = _map(error).get("type") or _map(error).get("code") or _map(error).get("status")
    exchange.error_type = _text(named) if isinstance(named, str) else "error"


def _flag(exchange: HttpExchange, flag: str) -> None:
    if flag not in exchange.usage.flags:
        exchange.usage = replace(exchange.usage, flags=(*exchange.usage.flags, flag))


def _searched(exchange: HttpExchange, searches: int) -> None:
    if searches > exchange.usage.web_searches:
        exchange.usage = replace(exchange.usage, web_searches=searches)


def _openai(exchange: HttpExchange, answer: Json, kept: dict[str, object]) -> None:
    finish = _text(_first(answer.get("choices")).get("finish_reason"))
    exchange.finish_reason = finish or exchange.finish_reason
    groq = _map(answer.get("x_groq")).get("usage")
    if isinstance(groq, dict):
        merge_usage(exchange, groq, kept)


def _responses(exchange: HttpExchange, answer: Json, _: dict[str, object]) -> None:
    status = _text(answer.get("status"))
    if status and status not in ("in_progress", "queued"):
        exchange.finish_reason = (
            _text(_map(answer.get("incomplete_details")).get("reason")) or status
        )
        if status == "failed":
            exchange.error_type = _text(_map(answer.get("error")).get("code")) or "failed"
    searches, output = 0, answer.get("output")
    for item in output if isinstance(output, list) else ():
        kind = _map(item).get("type")
        if kind == "web_search_call":
            # Only a search is billed; opening a page and finding in it are not (platform.openai.com/docs/pricing).
            searches += _map(_map(item).get("action")).get("type", "search") == "search"
        elif kind in _TOOL_FEES:
            _flag(exchange, _FEES)
    _searched(exchange, searches)


def _anthropic(exchange: HttpExchange, answer: Json, _: dict[str, object]) -> None:
    stop = answer.get("stop_reason") or _map(answer.get("delta")).get("stop_reason")
    exchange.finish_reason = _text(stop) or exchange.finish_reason


def _gemini(exchange: HttpExchange, answer: Json, kept: dict[str, object]) -> None:
    candidates = answer.get("candidates")
    exchange.finish_reason = _text(_first(candidates).get("finishReason")) or exchange.finish_reason
    queries: set[str] = set()
    for candidate in candidates if isinstance(candidates, list) else ():
        grounding = _map(_map(candidate).get("groundingMetadata")).get("webSearchQueries")
        queries.update(q for q in grounding if isinstance(q, str)) if isinstance(
            grounding, list
        ) else None
    if queries:
        # Gemini 3 bills each query, earlier models each grounded prompt (ai.google.dev/gemini-api/docs/pricing).
        per_prompt = bool(re.match(r"gemini-(?:1|2)", exchange.request_model or ""))
        _searched(exchange, 1 if per_prompt else len(queries))
    usage = answer.get("usageMetadata")
    if isinstance(usage, dict):
        merge_usage(exchange, usage, kept)
        if usage.get("trafficType") == "PROVISIONED_THROUGHPUT":
            exchange.service_tier = "provisioned"
    elif exchange.operation == semconv.EMBEDDINGS:
        _statistics(
            exchange, (_map(item).get("statistics") for item in _items(answer, "embeddings")), kept
        )


def _items(answer: Json, key: str) -> list[object]:
    value = answer.get(key)
    return value if isinstance(value, list) else []


def _statistics(exchange: HttpExchange, found: object, kept: dict[str, object]) -> None:
    """Sum the token counts that Google's embedding answers give per text."""
    total, seen = 0, False
    for statistics in found if hasattr(found, "__iter__") else ():
        tokens = _map(statistics).get("tokenCount", _map(statistics).get("token_count"))
        if isinstance(tokens, int | float):
            total, seen = total + int(tokens), True
    if seen:
        merge_usage(exchange, {"token_count": total}, kept)


def _vertex(exchange: HttpExchange, answer: Json, kept: dict[str, object]) -> None:
    predictions = _items(answer, "predictions")
    _statistics(
        exchange, (_map(_map(p).get("embeddings")).get("statistics") for p in predictions), kept
    )


def _bedrock(exchange: HttpExchange, answer: Json, _: dict[str, object]) -> None:
    exchange.finish_reason = _text(answer.get("stopReason")) or exchange.finish_reason
    exchange.service_tier = (
        _text(_map(answer.get("serviceTier")).get("type")) or exchange.service_tier
    )
    routed = _text(_map(_map(answer.get("trace")).get("promptRouter")).get("invokedModelId"))
    exchange.response_model = routed or exchange.response_model


def _invoke(exchange: HttpExchange, answer: Json, kept: dict[str, object]) -> None:
    _anthropic(exchange, answer, kept)
    metrics = _map(answer.get("amazon-bedrock-invocationMetrics"))
    if metrics and "input_tokens" not in kept:
        names = {
            "inputTokens": "inputTokenCount",
            "outputTokens": "outputTokenCount",
            "cacheReadInputTokens": "cacheReadInputTokenCount",
            "cacheWriteInputTokens": "cacheWriteInputTokenCount",
        }
        merge_usage(
            exchange,
            {ours: metrics[theirs] for ours, theirs in names.items() if theirs in metrics},
            kept,
        )
    for key in ("inputTextTokenCount", "prompt_token_count"):
        if key in answer:
            merge_usage(
                exchange,
                {key: answer[key], "generation_token_count": answer.get("generation_token_count")},
                kept,
            )


def _cohere(exchange: HttpExchange, answer: Json, kept: dict[str, object]) -> None:
    event = _map(answer.get("delta")) or _map(answer.get("response"))
    exchange.finish_reason = (
        _text(answer.get("finish_reason"))
        or _text(event.get("finish_reason"))
        or exchange.finish_reason
    )
    for holder in (_map(answer.get("meta")), _map(event.get("meta")), _map(event.get("usage"))):
        if isinstance(holder.get("billed_units"), dict):
            merge_usage(exchange, holder, kept)


def _ollama(exchange: HttpExchange, answer: Json, kept: dict[str, object]) -> None:
    exchange.finish_reason = _text(answer.get("done_reason")) or exchange.finish_reason
    if "prompt_eval_count" in answer or "eval_count" in answer:
        merge_usage(
            exchange, {key: answer.get(key) for key in ("prompt_eval_count", "eval_count")}, kept
        )


def _watsonx(exchange: HttpExchange, answer: Json, kept: dict[str, object]) -> None:
    _openai(exchange, answer, kept)
    exchange.response_model = _text(answer.get("model_id")) or exchange.response_model
    result = _first(answer.get("results"))
    exchange.finish_reason = _text(result.get("stop_reason")) or exchange.finish_reason
    for holder in (result, answer):
        if "input_token_count" in holder:
            keys = ("input_token_count", "generated_token_count")
            merge_usage(exchange, {key: holder.get(key) for key in keys}, kept)
            return


_READERS = {
    "openai": _openai,
    "snowflake": _openai,
    "responses": _responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "vertex": _vertex,
    "bedrock": _bedrock,
    "bedrock.invoke": _invoke,
    "cohere": _cohere,
    "ollama": _ollama,
    "watsonx": _watsonx,
}

_EDGE = 4096
_USAGE = re.compile(rb'"(usage|usageMetadata|meta)"\s*:\s*(?=\{)')
_NAMED = re.compile(rb'"(model|id)"\s*:\s*"((?:[^"\\]|\\.){1,300})"')
_PER_TEXT = re.compile(rb'"token_?[cC]ount"\s*:\s*(\d+)')
_LONE = re.compile(rb'"(prompt_eval_count|inputTextTokenCount|input_token_count)"\s*:\s*(\d+)')
_decoder = json.JSONDecoder()


def _absorb_large(exchange: HttpExchange, body: bytes) -> None:
    """Find usage and model at either edge of a large answer; numbers fill the middle, so nothing there is lost."""
    edges = (body[-_EDGE:], body[:_EDGE])
    answer: dict[str, object] = {}
    for edge in edges:
        for name, value in _NAMED.findall(edge):
            answer.setdefault(name.decode(), value.decode("utf-8", "replace"))
        for match in _USAGE.finditer(edge):
            try:
                value, _ = _decoder.raw_decode(edge[match.end() :].decode("utf-8", "replace"))
            except ValueError:
                continue
            answer.setdefault(match.group(1).decode(), value)
        for name, digits in _LONE.findall(edge):
            answer.setdefault(name.decode(), int(digits))
    kept: dict[str, object] = {}
    absorb(exchange, answer, kept)
    if exchange.usage.status == "missing" and exchange.api in ("gemini", "vertex"):
        counts = [int(digits) for digits in _PER_TEXT.findall(body)]
        if counts:
            merge_usage(exchange, {"token_count": sum(counts)}, kept)
