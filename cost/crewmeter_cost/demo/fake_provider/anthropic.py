"""Anthropic's Messages protocol.

Its ``input_tokens`` exclude tokens read from or written to the cache.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from crewmeter_cost.demo.fake_provider.fake_protocol import (
    Answer,
    Arrived,
    ProviderDialect,
    as_list,
    as_map,
    event,
    flatten,
    pieces,
)
from crewmeter_cost.demo.fake_provider.scripted_answers import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["MESSAGES"]


def _read(arrived: Arrived) -> Prompt:
    body = arrived.body
    messages = as_list(body.get("messages"))
    choice = as_map(body.get("tool_choice"))
    form = as_map(body.get("output_format")) or as_map(
        as_map(body.get("output_config")).get("format")
    )
    return Prompt(
        dialect="anthropic",
        provider="anthropic",
        operation="chat",
        model=str(body.get("model", "")),
        text="\n".join([flatten(body.get("system")), flatten(messages)]),
        stream=body.get("stream") is True,
        tools={
            str(tool.get("name")): as_map(tool.get("input_schema"))
            for tool in as_list(body.get("tools"))
        },
        forced_tool=str(choice["name"]) if choice.get("type") == "tool" else None,
        schema=as_map(form.get("schema")) or None,
        tool_results=sum(
            block.get("type") == "tool_result"
            or (message.get("role") == "assistant" and "Observation:" in flatten(block.get("text")))
            for message in messages
            for block in _blocks(message.get("content"))
        ),
        body=body,
    )


def _blocks(content: object) -> list[Mapping[str, object]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return as_list(content)


def _usage(answer: Answer, *, output: int) -> dict[str, object]:
    usage = answer.usage
    written = usage.cache_write_5m + usage.cache_write_1h
    report: dict[str, object] = {
        "input_tokens": (usage.input or 0) - usage.cache_read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": output,
        "service_tier": answer.tier or "standard",
    }
    if usage.web_searches:
        report["server_tool_use"] = {"web_search_requests": usage.web_searches}
    return report


def _content(answer: Answer) -> list[dict[str, object]]:
    if not answer.reply.tool_calls:
        return [{"type": "text", "text": answer.reply.text}]
    return [
        {
            "type": "tool_use",
            "id": answer.ident("toolu_", index),
            "name": use.name,
            "input": dict(use.arguments),
        }
        for index, use in enumerate(answer.reply.tool_calls, start=1)
    ]


def _frame(answer: Answer) -> dict[str, object]:
    return {
        "id": answer.ident("msg_"),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
    }


def _stop(answer: Answer) -> str:
    return "tool_use" if answer.reply.tool_calls else "end_turn"


def _whole(answer: Answer) -> Mapping[str, object]:
    return {
        **_frame(answer),
        "content": _content(answer),
        "stop_reason": _stop(answer),
        "stop_sequence": None,
        "usage": _usage(answer, output=answer.usage.output or 0),
    }


def _stream(answer: Answer) -> Iterator[bytes]:
    """Yield typed events.

    The first holds the input's usage and a placeholder of one output token, the last but one the
    output's.
    """

    def typed(kind: str, **fields: object) -> bytes:
        return event({"type": kind, **fields}, kind)

    start = {
        **_frame(answer),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(answer, output=1),
    }
    yield typed("message_start", message=start)
    for index, block in enumerate(_content(answer)):
        if block["type"] == "text":
            yield typed(
                "content_block_start", index=index, content_block={"type": "text", "text": ""}
            )
            for piece in pieces(answer.reply.text):
                yield typed(
                    "content_block_delta", index=index, delta={"type": "text_delta", "text": piece}
                )
        else:
            yield typed(
                "content_block_start",
                index=index,
                content_block={**block, "input": {}},
            )
            for piece in pieces(json.dumps(block["input"])):
                yield typed(
                    "content_block_delta",
                    index=index,
                    delta={"type": "input_json_delta", "partial_json": piece},
                )
        yield typed("content_block_stop", index=index)
    final = {"output_tokens": answer.usage.output or 0}
    yield typed(
        "message_delta", delta={"stop_reason": _stop(answer), "stop_sequence": None}, usage=final
    )
    yield typed("message_stop")


def _failure(status: int, message: str) -> Mapping[str, object]:
    kind = {401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}.get(
        status, "api_error"
    )
    return {"type": "error", "error": {"type": kind, "message": message}}


MESSAGES = ProviderDialect(
    name="anthropic",
    provider="anthropic",
    operation="chat",
    pattern=re.compile(r"/v1/messages"),
    read=_read,
    whole=_whole,
    stream=_stream,
    failure=_failure,
    response_id=lambda answer: answer.ident("msg_"),
    headers=lambda answer: {"request-id": answer.ident("req_")},
)
