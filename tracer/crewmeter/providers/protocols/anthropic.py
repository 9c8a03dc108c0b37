"""Anthropic's Messages API, at Anthropic and on Vertex AI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_list, as_map
from crewmeter.providers.plain_answers.plain_anthropic_answer import (
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
from crewmeter.providers.unknown_usage import flag_of
from crewmeter.usage.draft import Raw, UsageDraft, count, items, part

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["ANTHROPIC", "ANTHROPIC_STREAM", "read_message", "unwrap_event"]

_NEUTRAL_GEO = frozenset({"global", "not_available", "unknown", ""})
"""Regions of inference that cost nothing extra (docs.claude.com, "Data residency")."""
_NORMAL_SPEED = frozenset({"", "standard"})
_COUNTS = (
    "input_tokens output_tokens cache_read_input_tokens cache_creation_input_tokens "
    "service_tier speed inference_geo type"
)
_CACHE_READ = {"cache_read_input_tokens": "cache_read"}
_OWN_ITERATIONS = frozenset({"message", "compaction"})
"""Kinds of iteration that the model of the response ran.

An ``advisor_message`` or a fallback is another model's (docs.claude.com, "Advisor tool").
"""
_TTL_SPLIT = keys("ephemeral_5m_input_tokens ephemeral_1h_input_tokens")
_SERVER_TOOLS = keys(
    # Searches have a fee. Fetches and the search for tools cost their tokens only.
    "web_search_requests web_fetch_requests tool_search_requests "
    "tool_search_tool_regex_requests tool_search_tool_bm25_requests"
)
_ITERATION = keys(
    _COUNTS + " model",
    cache_creation=_TTL_SPLIT,
    server_tool_use=_SERVER_TOOLS,
    output_tokens_details=keys("thinking_tokens reasoning_tokens text_tokens"),
)
ANTHROPIC_KEYS = _ITERATION | keys("total_tokens", iterations=_ITERATION)


def read_counts(raw: Raw, _: str | None) -> UsageDraft:
    """Read Anthropic's counts: ``input_tokens`` leaves out what was cached.

    Where the context was compacted, the counts at the top are the last iteration's. The bill is
    the sum of all iterations (docs.claude.com, "Compaction").
    """
    draft = UsageDraft(output=count(raw, "output_tokens"))
    iterations = items(raw, "iterations")
    if iterations:
        _sum_iterations(draft, iterations)
    else:
        _add_input(draft, raw)
    details = part(raw, "output_tokens_details")
    draft.reasoning = count(details, "thinking_tokens", "reasoning_tokens") or 0
    draft.web_searches = count(part(raw, "server_tool_use"), "web_search_requests") or 0
    geo = raw.get("inference_geo")
    if geo == "us":
        draft.flags.append("us_inference")
    elif isinstance(geo, str) and geo not in _NEUTRAL_GEO:
        draft.flags.append("unknown_usage:inference_geo")  # a surcharge that no list has
    return draft


def _sum_iterations(draft: UsageDraft, iterations: list[Raw]) -> None:
    output = 0
    draft.input = 0
    for iteration in iterations:
        kind = iteration.get("type", "message")
        if not isinstance(kind, str):
            kind = "type"
        if kind not in _OWN_ITERATIONS:
            # Another model's, at that model's rates: the row has one model, so it is not billed.
            draft.flags.append(flag_of(f"iterations.{kind}"))
            continue
        one = UsageDraft()
        _add_input(one, iteration)
        draft.input += one.input or 0
        draft.cache_read += one.cache_read
        draft.cache_write_5m += one.cache_write_5m
        draft.cache_write_1h += one.cache_write_1h
        output += count(iteration, "output_tokens") or 0
        draft.flags = [
            *draft.flags,
            *one.flags,
        ]
    draft.flags = list(dict.fromkeys(draft.flags))
    draft.output = max(
        output,
        draft.output or 0,
    )


def _add_input(draft: UsageDraft, raw: Raw) -> None:
    split = part(raw, "cache_creation")
    total = count(raw, "cache_creation_input_tokens")
    five = count(split, "ephemeral_5m_input_tokens")
    hour = count(split, "ephemeral_1h_input_tokens")
    written = draft.add_cache_writes(total, five, hour)
    draft.take(raw, _CACHE_READ)
    uncached = count(raw, "input_tokens") or 0
    draft.input = uncached + draft.cache_read + written


def unwrap_event(facts: ResponseFacts, answer: Json) -> Json:
    """Return the message inside a stream's first event.

    The output count there is a placeholder. The exact one comes with ``message_delta``, if the
    stream gets that far.
    """
    kind = answer.get("type")
    if kind == "message_start":
        facts.is_partial = True
        return as_map(answer.get("message"))
    if "usage" in answer:
        facts.is_partial = False
    return answer


def read_message(facts: ResponseFacts, answer: Json) -> None:
    """Take why the answer stopped, and the price list that served it."""
    delta = as_map(answer.get("delta"))
    facts.set_finish(
        answer.get("stop_reason"),
        delta.get("stop_reason"),
    )
    usage = as_map(answer.get("usage"))
    speed = usage.get("speed")
    if isinstance(speed, str) and speed not in _NORMAL_SPEED:
        facts.set_price_tier(speed)
    if answer.get("container") or delta.get("container"):
        facts.flag("tool_fees_not_counted")
    for item in (*as_list(answer.get("content")), answer.get("content_block")):
        block = as_map(item)
        if block.get("type") == "server_tool_use":
            _flag_fees(facts, block.get("name"))


def _flag_fees(facts: ResponseFacts, tool: object) -> None:
    if not isinstance(tool, str):
        return
    if tool in _BY_THE_HOUR:
        facts.flag("tool_fees_not_counted")
    elif not tool.startswith(_COUNTED_TOOLS):
        facts.flag_unknown(f"server_tool_use.{tool}")


_COUNTED_TOOLS = ("web_search", "web_fetch", "tool_search", "advisor")
"""Server tools that the usage counts, or that cost their tokens only."""
_BY_THE_HOUR = frozenset({"code_execution", "bash_code_execution", "text_editor_code_execution"})
"""Server tools billed by a container's time, beyond a free share that the answer does not tell."""


def _is_last(event: Json) -> bool:
    return event.get("type") == "message_stop"


def _is_whole(event: Json) -> bool:
    return event.get("type") == "message_delta"


ANTHROPIC_STREAM = StreamFormat(
    marks=(
        b'"message_start"',
        b'"message_delta"',
        b'"message_stop"',
        b'"error"',
        b'"server_tool_use"',
    ),
    text_keys=(b'"text":', b'"partial_json":', b'"thinking":'),
    is_last=_is_last,
    is_whole=_is_whole,
)
ANTHROPIC = ProviderProtocol(
    name="anthropic",
    provider="anthropic",
    routes=(
        Route("messages", semconv.CHAT, sure=False),
        Route("rawPredict", semconv.CHAT, "/publishers/anthropic/"),
        Route("streamRawPredict", semconv.CHAT, "/publishers/anthropic/"),
        Route("complete", semconv.TEXT_COMPLETION, "/v1/complete", provider="anthropic"),
    ),
    stream=ANTHROPIC_STREAM,
    shapes=(
        UsageShape(
            "input_tokens",
            read_counts,
            ANTHROPIC_KEYS,
            any_of=frozenset(
                {
                    "cache_read_input_tokens",
                    "cache_creation_input_tokens",
                    "cache_creation",
                    "iterations",
                    "speed",
                    "inference_geo",
                }
            ),
            read_plain=read_plain_usage,
        ),
    ),
    read_plain_answer=read_plain_answer,
    read=read_message,
    unwrap=unwrap_event,
    response_keys=frozenset(
        [
            "id",
            "type",
            "role",
            "model",
            "content",
            "stop_reason",
            "stop_sequence",
            "stop_details",
            "usage",
            "container",
            "context_management",
            "delta",
            "index",
            "message",
            "content_block",
        ]
    ),
)
