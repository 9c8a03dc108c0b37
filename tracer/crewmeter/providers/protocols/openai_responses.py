"""OpenAI's Responses API, and those who speak it.

Azure, xAI, OpenRouter and Perplexity do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.hosted_tools import flag_uncounted_tools
from crewmeter.providers.json_values import as_map, as_text
from crewmeter.providers.protocols.openai_chat import (
    CACHED_FIELDS,
    INPUT_FIELDS,
    OPENAI_KEYS,
    OUTPUT_FIELDS,
    SERVER_TOOLS,
)
from crewmeter.providers.provider_protocol import (
    Json,
    ProviderProtocol,
    Route,
    StreamFormat,
    UsageShape,
    keys,
)
from crewmeter.usage.draft import Raw, UsageDraft, count, part
from crewmeter.usage.plain_usage import PlainForm, plain_reader

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["INCLUSIVE_KEYS", "OPENAI_RESPONSES", "read_inclusive"]

_read_plain = plain_reader(
    PlainForm(
        input="input_tokens",
        output="output_tokens",
        total="total_tokens",
        input_details="input_tokens_details",
        cached="cached_tokens",
        output_details="output_tokens_details",
        reasoning="reasoning_tokens",
    )
)
_TOP_FIELDS = {"cached_prompt_tokens": "cache_read", "reasoning_tokens": "reasoning"}
_FREE_ITEMS = frozenset(
    [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "mcp_call",
        "mcp_list_tools",
        "mcp_approval_request",
        "local_shell_call",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
        "compaction",
        "computer_call",
        "computer_call_output",
        "item_reference",
        "tool_search_call",
        "tool_search_output",
    ]
)
"""Kinds of output that cost their tokens and nothing more: the tools run at the client's."""
_FEE_ITEMS = {
    "file_search_call": "storage_search",
    "x_search_call": "x_search",
    "document_search_call": "document_search",
    "collections_search_call": "document_search",
}
"""Kinds of output with a fee each → the unit."""
_CONTAINER_ITEMS = frozenset({"code_interpreter_call", "image_generation_call"})
"""Kinds of output billed by something that the answer does not say: a container's time, images."""
_FEES_NOT_COUNTED = "tool_fees_not_counted"
_UNFINISHED = frozenset({"in_progress", "queued"})
_DETAILS = keys(
    "cached_tokens audio_tokens image_tokens text_tokens video_tokens cache_read_input_tokens "
    "cache_write_tokens cache_creation_tokens reasoning_tokens orchestration_input_tokens "
    "orchestration_input_cached_tokens orchestration_output_tokens",
    cached_tokens_details=keys("text_tokens audio_tokens image_tokens"),
)
INCLUSIVE_KEYS = OPENAI_KEYS | keys(
    "input_tokens output_tokens total_tokens context_details",
    input_tokens_details=_DETAILS,
    output_tokens_details=_DETAILS,
    input_token_details=_DETAILS,
    output_token_details=_DETAILS,
    tool_calls_details=keys(
        "",
        search_web=keys("invocation"),
        fetch_url=keys("invocation"),
    ),
)


def read_inclusive(raw: Raw, provider: str | None) -> UsageDraft:
    """Read ``input_tokens`` with everything in it.

    Responses, images and CrewAI's Anthropic event report usage in this form.
    """
    draft = UsageDraft()
    draft.take(raw, _TOP_FIELDS)
    inside = part(raw, "input_tokens_details", "input_token_details")
    outside = part(raw, "output_tokens_details", "output_token_details")
    draft.take(outside, OUTPUT_FIELDS)
    if inside:
        cached = draft.cache_read
        draft.take(inside, INPUT_FIELDS)
        draft.cache_read = cached or draft.cache_read
        draft.take(part(inside, "cached_tokens_details"), CACHED_FIELDS)
    draft.input = count(raw, "input_tokens")
    draft.output = count(raw, "output_tokens")
    written = count(raw, "cache_creation_tokens")
    openai_writes = count(inside, "cache_write_tokens")
    draft.add_cache_writes(
        written or openai_writes,
        None,
        None,
        one_kind=not written,
    )
    _read_fees(draft, raw)
    _complete_by_total(draft, count(raw, "total_tokens"))
    return draft


def _read_fees(draft: UsageDraft, raw: Raw) -> None:
    tools = part(raw, "server_side_tool_usage_details")
    draft.web_searches = (
        count(part(part(raw, "tool_calls_details"), "search_web"), "invocation")
        or count(part(raw, "server_tool_use"), "web_search_requests")
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


def _complete_by_total(draft: UsageDraft, total: int | None) -> None:
    """Find a part that is missing by the total, or say that they do not agree."""
    if not total:
        return
    total_in = draft.input
    total_out = draft.output
    if total_in is None and total_out is not None:
        draft.input = max(total - total_out, 0)
    elif total_out is None and total_in is not None:
        draft.output = max(total - total_in, 0)
    elif total_in is not None and total_out is not None:
        rest = total - total_in - total_out
        if rest and rest == draft.reasoning:
            draft.output = total_out + rest
        elif rest:
            draft.flags.append("unknown_usage:total_tokens")


def _unwrap(_: ResponseFacts, answer: Json) -> Json:
    """Return the response inside an event of a stream."""
    kind = answer.get("type")
    if isinstance(kind, str) and kind.startswith("response."):
        return as_map(answer.get("response"))
    return answer


def _read(facts: ResponseFacts, answer: Json) -> None:
    status = as_text(answer.get("status"))
    facts.is_unfinished = status in _UNFINISHED
    if status and not facts.is_unfinished:
        incomplete = as_map(answer.get("incomplete_details"))
        facts.set_finish(incomplete.get("reason"), status)
    if status == "failed":
        error = as_map(answer.get("error"))
        facts.fail(as_text(error.get("code")) or "failed")
    payer = as_map(answer.get("billing")).get("payer")
    if payer not in (None, "developer"):
        facts.flag("other_payer")
    output = answer.get("output")
    if isinstance(output, list):
        searches = _count_items(facts, output)
        tools = answer.get("tools")
        if tools and isinstance(tools, list):
            _flag_tools(facts, tools, searches)


def _flag_tools(facts: ResponseFacts, tools: list[object], searches: int) -> None:
    """Flag tools whose price is not that of their output's kind."""
    for item in tools:
        tool = as_map(item)
        kind = str(tool.get("type"))
        if searches and kind.startswith("web_search") and _searches_otherwise(facts, kind):
            facts.flag_unknown(f"tools.{kind}")
        environment = str(as_map(tool.get("environment")).get("type"))
        if kind == "shell" and environment.startswith("container"):
            facts.flag(_FEES_NOT_COUNTED)


def _searches_otherwise(facts: ResponseFacts, kind: str) -> bool:
    """Tell whether a search costs other than the listed fee and the tokens counted.

    The preview of the tool has a higher fee at models that do not reason, and small models are
    billed a fixed number of tokens for what was found (platform.openai.com/docs/pricing).
    """
    model = facts.response_model or facts.request_model or ""
    if kind.startswith("web_search_preview"):
        return model.startswith(_NOT_REASONING)
    return model.startswith(_SMALL)


_NOT_REASONING = ("gpt-4o", "gpt-4.1")
_SMALL = ("gpt-4o-mini", "gpt-4.1-mini")


def _count_items(facts: ResponseFacts, output: list[object]) -> int:
    """Count what the output has fees for, and return the number of searches in it."""
    searches = 0
    fees: dict[str, int] = {}
    for item in output:
        kind = as_map(item).get("type")
        if kind in _FREE_ITEMS or not isinstance(kind, str):
            continue
        if kind == "web_search_call":
            # Only a search is billed; opening a page and finding in it are not
            # (platform.openai.com/docs/pricing).
            is_search = as_map(as_map(item).get("action")).get("type", "search") == "search"
            if is_search and as_map(item).get("status") == "failed":
                facts.flag_unknown("output.web_search_call.failed")
            else:
                searches += is_search
        elif kind in _FEE_ITEMS:
            unit = _FEE_ITEMS[kind]
            fees[unit] = fees.get(unit, 0) + 1
        elif kind in _CONTAINER_ITEMS:
            facts.flag(_FEES_NOT_COUNTED)
        else:
            facts.flag_unknown(f"output.{kind}")
    if facts.provider != "x_ai":  # its usage counts them, and says more
        facts.count_searches(searches)
        for unit, number in fees.items():
            facts.count_units(unit, number)
    return searches


def _is_last(event: Json) -> bool:
    kinds = ("response.completed", "response.incomplete", "response.failed")
    return event.get("type") in kinds


OPENAI_RESPONSES = ProviderProtocol(
    name="responses",
    provider="openai",
    routes=(
        Route("responses", semconv.CHAT, sure=False),
        Route("compact", semconv.CHAT, "/responses/", sure=False),
    ),
    stream=StreamFormat(
        marks=(
            b'"response.completed"',
            b'"response.incomplete"',
            b'"response.failed"',
            b'"error":{',
            b'"error": {',
            b'"type":"error"',
            b'"type": "error"',
        ),
        text_keys=(b'"delta":',),
        is_last=_is_last,
        is_whole=_is_last,
    ),
    shapes=(
        UsageShape(
            "input_tokens",
            read_inclusive,
            INCLUSIVE_KEYS,
            read_plain=_read_plain,
        ),
    ),
    read_plain=_read_plain,
    read=_read,
    unwrap=_unwrap,
    answers_later=True,
    response_keys=frozenset(
        [
            "id",
            "object",
            "created",
            "created_at",
            "completed_at",
            "status",
            "background",
            "billing",
            "error",
            "incomplete_details",
            "instructions",
            "max_output_tokens",
            "max_tool_calls",
            "model",
            "output",
            "output_text",
            "parallel_tool_calls",
            "previous_response_id",
            "prompt",
            "prompt_cache_key",
            "prompt_cache_retention",
            "reasoning",
            "safety_identifier",
            "service_tier",
            "store",
            "temperature",
            "text",
            "tool_choice",
            "tools",
            "top_logprobs",
            "top_p",
            "truncation",
            "usage",
            "user",
            "metadata",
            "conversation",
            "frequency_penalty",
            "presence_penalty",
        ]
    ),
)
