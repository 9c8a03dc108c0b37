"""OpenAI's Responses protocol."""

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
from crewmeter_cost.demo.fake_provider.openai import failure
from crewmeter_cost.demo.fake_provider.scripted_answers import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RESPONSES"]


def _read(arrived: Arrived) -> Prompt:
    body = arrived.body
    given = body.get("input", "")
    items = as_list(given)
    form = as_map(as_map(body.get("text")).get("format"))
    choice = as_map(body.get("tool_choice")).get("name")
    tier = body.get("service_tier")
    question = given if isinstance(given, str) else flatten(items)
    forced = choice if isinstance(choice, str) else None
    return Prompt(
        dialect="openai.responses",
        provider="openai",
        operation="chat",
        model=str(body.get("model", "")),
        text="\n".join([flatten(body.get("instructions")), question]),
        stream=body.get("stream") is True,
        tools={
            str(tool["name"]): as_map(tool.get("parameters"))
            for tool in as_list(body.get("tools"))
            if "name" in tool
        },
        forced_tool=forced,
        schema=as_map(form.get("schema")) or None,
        json_mode=form.get("type") == "json_object",
        tool_results=sum(item.get("type") == "function_call_output" for item in items),
        tier=str(tier) if tier else None,
        body=body,
    )


def _usage(answer: Answer) -> Mapping[str, object]:
    usage = answer.usage
    tokens_in = usage.input or 0
    tokens_out = usage.output or 0
    return {
        "input_tokens": tokens_in,
        "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": tokens_out,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": tokens_in + tokens_out,
    }


def _items(answer: Answer) -> list[dict[str, object]]:
    """Return the output: an item a web search, then function calls or the message."""
    searches: list[dict[str, object]] = [
        {
            "type": "web_search_call",
            "id": answer.ident("ws_", index),
            "status": "completed",
            "action": {"type": "search", "query": "crew", "queries": ["crew"]},
        }
        for index in range(1, answer.usage.web_searches + 1)
    ]
    if answer.reply.tool_calls:
        return searches + [
            {
                "type": "function_call",
                "id": answer.ident("fc_", index),
                "call_id": answer.ident("call_", index),
                "name": use.name,
                "arguments": json.dumps(dict(use.arguments)),
                "status": "completed",
            }
            for index, use in enumerate(answer.reply.tool_calls, start=1)
        ]
    content = {
        "type": "output_text",
        "text": answer.reply.text,
        "annotations": [],
        "logprobs": [],
    }
    return [
        *searches,
        {
            "type": "message",
            "id": answer.ident("msg_"),
            "status": "completed",
            "role": "assistant",
            "content": [content],
        },
    ]


def _frame(answer: Answer, status: str) -> dict[str, object]:
    done = status == "completed"
    usage = _usage(answer) if done else None
    return {
        "id": answer.ident("resp_"),
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": answer.model,
        "output": _items(answer) if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "service_tier": answer.tier or "default",
        "usage": usage,
    }


def _stream(answer: Answer) -> Iterator[bytes]:
    """Yield a streamed response's typed events, usage only in ``response.completed``."""
    number = iter(range(10**9))

    def typed(kind: str, **fields: object) -> bytes:
        return event(
            {"type": kind, "sequence_number": next(number), **fields},
            kind,
        )

    yield typed("response.created", response=_frame(answer, "in_progress"))
    for context, item in enumerate(_items(answer)):
        opened = {**item, "status": "in_progress"}
        if item["type"] == "message":
            opened["content"] = []
        if item["type"] == "function_call":
            opened["arguments"] = ""
        yield typed(
            "response.output_item.added",
            output_index=context,
            item=opened,
        )
        base = {"item_id": item["id"], "output_index": context}
        if item["type"] == "message":
            yield typed(
                "response.content_part.added",
                **base,
                content_index=0,
                part={"type": "output_text", "text": "", "annotations": []},
            )
            for piece in pieces(answer.reply.text):
                yield typed(
                    "response.output_text.delta", **base, content_index=0, delta=piece, logprobs=[]
                )
            yield typed(
                "response.output_text.done",
                **base,
                content_index=0,
                text=answer.reply.text,
                logprobs=[],
            )
        if item["type"] == "function_call":
            for piece in pieces(str(item["arguments"])):
                yield typed("response.function_call_arguments.delta", **base, delta=piece)
        yield typed("response.output_item.done", output_index=context, item=item)
    yield typed("response.completed", response=_frame(answer, "completed"))


RESPONSES = ProviderDialect(
    name="openai.responses",
    provider="openai",
    operation="chat",
    pattern=re.compile(r"(?:/openai)?/v1/responses"),
    read=_read,
    whole=lambda answer: _frame(answer, "completed"),
    queued=lambda answer: _frame(answer, "queued"),
    stream=_stream,
    failure=failure,
    response_id=lambda answer: answer.ident("resp_"),
)
