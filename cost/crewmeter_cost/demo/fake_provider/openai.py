"""OpenAI's Chat Completions and Embeddings protocols.

OpenRouter, Groq, DeepSeek and most gateways speak them too.
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

__all__ = ["CHAT", "EMBEDDINGS", "failure", "read_chat", "stream_chat", "usage_of", "whole_chat"]

_DIMENSIONS = 1536
"""Length of text-embedding-3-small's vectors; a request may ask for fewer."""

_ALWAYS_TELL_USAGE = frozenset({"mistral_ai"})
"""Providers of this protocol that end every stream with its usage."""


def read_chat(arrived: Arrived) -> Prompt:
    """Read a chat completion request."""
    body = arrived.body
    messages = as_list(body.get("messages"))
    functions = [as_map(tool.get("function")) for tool in as_list(body.get("tools"))]
    form = as_map(body.get("response_format"))
    schema = as_map(as_map(form.get("json_schema")).get("schema"))
    choice = as_map(as_map(body.get("tool_choice")).get("function")).get("name")
    tier = body.get("service_tier")
    forced = choice if isinstance(choice, str) else None
    return Prompt(
        dialect="openai.chat",
        provider="openai",
        operation="chat",
        model=str(body.get("model", "")),
        text="\n".join(flatten(message.get("content")) for message in messages),
        stream=body.get("stream") is True,
        tools={
            str(function.get("name")): as_map(function.get("parameters")) for function in functions
        },
        forced_tool=forced,
        schema=schema or None,
        json_mode=form.get("type") == "json_object",
        tool_results=sum(
            message.get("role") == "tool"
            or (
                message.get("role") == "assistant"
                and "Observation:" in flatten(message.get("content"))
            )
            for message in messages
        ),
        tier=str(tier) if tier else None,
        body=body,
    )


def usage_of(answer: Answer) -> dict[str, object]:
    """Return usage as Chat Completions reports it, with ``cost`` for OpenRouter."""
    usage = answer.usage
    tokens_in = usage.input or 0
    tokens_out = usage.output or 0
    details: dict[str, object] = {
        "cached_tokens": usage.cache_read,
        "audio_tokens": usage.input_audio,
    }
    if usage.cache_write_5m or usage.cache_write_1h:
        details["cache_write_tokens"] = usage.cache_write_5m + usage.cache_write_1h
    report: dict[str, object] = {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.output_audio,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    if answer.reported_cost_usd is not None:
        report["cost"] = float(answer.reported_cost_usd)
    return report


def _calls(answer: Answer) -> list[dict[str, object]]:
    return [
        {
            "id": answer.ident("call_", index),
            "type": "function",
            "function": {"name": use.name, "arguments": json.dumps(dict(use.arguments))},
        }
        for index, use in enumerate(answer.reply.tool_calls, start=1)
    ]


def whole_chat(answer: Answer) -> Mapping[str, object]:
    """Return a chat completion in one piece."""
    calls = _calls(answer)
    message: dict[str, object] = {
        "role": "assistant",
        "content": None if calls else answer.reply.text,
        "refusal": None,
    }
    if calls:
        message["tool_calls"] = calls
    return {
        **_frame(answer, "chat.completion"),
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": "tool_calls" if calls else "stop",
            }
        ],
        "usage": usage_of(answer),
    }


def _frame(answer: Answer, kind: str) -> dict[str, object]:
    return {
        "id": answer.ident("chatcmpl-"),
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "service_tier": answer.tier or "default",
        "system_fingerprint": "fp_fake",
    }


def stream_chat(answer: Answer) -> Iterator[bytes]:
    """Yield a chat completion as server-sent events.

    The usage chunk comes only where the request asks for it, as OpenAI does.
    """

    def chunk(delta: Mapping[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**_frame(answer, "chat.completion.chunk"), "choices": [choice]})

    calls = _calls(answer)
    yield chunk({"role": "assistant", "content": None if calls else ""})
    for index, call in enumerate(calls):
        function = as_map(call["function"])
        yield chunk(
            {
                "tool_calls": [
                    {
                        "index": index,
                        **call,
                        "function": {"name": function["name"], "arguments": ""},
                    }
                ]
            }
        )
        for piece in pieces(str(function["arguments"])):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if not calls:
        for piece in pieces(answer.reply.text):
            yield chunk({"content": piece})
    yield chunk({}, "tool_calls" if calls else "stop")
    options = as_map(answer.prompt.body.get("stream_options"))
    if options.get("include_usage") is True or answer.prompt.provider in _ALWAYS_TELL_USAGE:
        yield event(
            {**_frame(answer, "chat.completion.chunk"), "choices": [], "usage": usage_of(answer)}
        )
    yield b"data: [DONE]\n\n"


def failure(status: int, message: str) -> Mapping[str, object]:
    """Return an error body as OpenAI words it."""
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "server_error" if status >= 500 else "invalid_request_error"
    )
    code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _embedded_text(text: object) -> str:
    """Return a text to embed, with as many words as a client counted tokens."""
    if isinstance(text, str):
        return text
    tokens = len(text) if isinstance(text, list) else 1
    return "tok " * tokens


def _inputs(texts: list[object]) -> int:
    """Return how many texts are embedded. A list of token numbers is one."""
    if texts and isinstance(texts[0], int):
        return 1
    return max(1, len(texts))


def _read_embeddings(arrived: Arrived) -> Prompt:
    given = arrived.body.get("input", "")
    texts: list[object] = given if isinstance(given, list) else [given]
    return Prompt(
        dialect="openai.embeddings",
        provider="openai",
        operation="embeddings",
        model=str(arrived.body.get("model", "")),
        text="\n".join(_embedded_text(text) for text in texts),
        inputs=_inputs(texts),
        body=arrived.body,
    )


def _whole_embeddings(answer: Answer) -> Mapping[str, object]:
    requested = answer.prompt.body.get("dimensions")
    length = requested if isinstance(requested, int) else _DIMENSIONS
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _vector(answer.prompt, index, length),
            }
            for index in range(answer.prompt.inputs)
        ],
        "model": answer.model,
        "usage": {"prompt_tokens": answer.usage.input, "total_tokens": answer.usage.input},
    }


def _vector(prompt: Prompt, index: int, length: int) -> object:
    """Return a unit vector as a list or as base64 of little-endian float32."""
    axis = (len(prompt.text) + index) % length
    if prompt.body.get("encoding_format") != "base64":
        return [1.0 if context == axis else 0.0 for context in range(length)]
    import base64
    import struct

    raw = bytearray(4 * length)
    struct.pack_into("<f", raw, 4 * axis, 1.0)
    return base64.b64encode(raw).decode()


CHAT = ProviderDialect(
    name="openai.chat",
    provider="openai",
    operation="chat",
    pattern=re.compile(r"(?:/api|/openai)?(?:/v1)?/chat/completions"),
    read=read_chat,
    whole=whole_chat,
    stream=stream_chat,
    failure=failure,
    response_id=lambda answer: answer.ident("chatcmpl-"),
)
EMBEDDINGS = ProviderDialect(
    name="openai.embeddings",
    provider="openai",
    operation="embeddings",
    pattern=re.compile(r"(?:/api|/openai)?(?:/v1)?/embeddings"),
    read=_read_embeddings,
    whole=_whole_embeddings,
    stream=None,
    failure=failure,
    response_id=lambda answer: None,
)
