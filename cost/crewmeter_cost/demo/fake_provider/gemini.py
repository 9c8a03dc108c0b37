"""Google's Gemini protocol: generateContent, its stream, and embeddings.

Embeddings report no usage at all.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
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

__all__ = ["EMBED", "GENERATE", "STREAM"]

_DIMENSIONS = 768


def _read(arrived: Arrived) -> Prompt:
    body = arrived.body
    contents = as_list(body.get("contents"))
    config = as_map(body.get("generationConfig"))
    functions = [
        function
        for tool in as_list(body.get("tools"))
        for function in as_list(tool.get("functionDeclarations"))
    ]
    return Prompt(
        dialect="gemini",
        provider="gcp.gemini",
        operation="chat",
        model=arrived.parts["model"],
        text="\n".join([flatten(body.get("systemInstruction")), flatten(contents)]),
        tools={str(function.get("name")): _parameters(function) for function in functions},
        schema=as_map(config.get("responseJsonSchema"))
        or as_map(config.get("responseSchema"))
        or None,
        json_mode=config.get("responseMimeType") == "application/json",
        tool_results=sum(
            "functionResponse" in part
            for content in contents
            for part in as_list(content.get("parts"))
        ),
        body=body,
    )


def _parameters(function: Mapping[str, object]) -> Mapping[str, object]:
    return as_map(function.get("parametersJsonSchema")) or as_map(function.get("parameters"))


def _read_stream(arrived: Arrived) -> Prompt:
    asks_for_events = "alt=sse" in arrived.query
    return replace(
        _read(arrived), stream=True, dialect="gemini" if asks_for_events else "gemini.array"
    )


def _usage(answer: Answer) -> Mapping[str, object]:
    """Return usage as Gemini counts it: candidates without thoughts, total with them."""
    usage = answer.usage
    tokens_in = usage.input or 0
    tokens_out = usage.output or 0
    report: dict[str, object] = {
        "promptTokenCount": tokens_in,
        "candidatesTokenCount": tokens_out - usage.reasoning,
        "totalTokenCount": tokens_in + tokens_out,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens_in}],
    }
    if usage.reasoning:
        report["thoughtsTokenCount"] = usage.reasoning
    if usage.cache_read:
        report["cachedContentTokenCount"] = usage.cache_read
        report["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.cache_read}]
    return report


def _frame(answer: Answer, parts: list[dict[str, object]], finish: str | None) -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "modelVersion": answer.model,
        "responseId": answer.ident(""),
    }


def _calls(answer: Answer) -> list[dict[str, object]]:
    return [
        {"functionCall": {"name": use.name, "args": dict(use.arguments)}}
        for use in answer.reply.tool_calls
    ]


def _whole(answer: Answer) -> Mapping[str, object]:
    parts = _calls(answer) or [{"text": answer.reply.text}]
    return {**_frame(answer, parts, "STOP"), "usageMetadata": _usage(answer)}


def _stream(answer: Answer) -> Iterator[bytes]:
    """Yield a stream as events, or as the array that Vertex AI's SDK reads."""
    if answer.prompt.dialect == "gemini":
        yield from map(event, _responses(answer))
        return
    separator = b"["
    for response in _responses(answer):
        yield separator + json.dumps(response).encode()
        separator = b","
    yield b"]"


def _responses(answer: Answer) -> Iterator[Mapping[str, object]]:
    """Yield whole responses whose usage grows and is complete in the last."""
    calls = _calls(answer)
    parts_sent: list[list[dict[str, object]]] = (
        [calls] if calls else [[{"text": piece}] for piece in pieces(answer.reply.text)]
    )
    so_far = {
        "promptTokenCount": answer.usage.input or 0,
        "totalTokenCount": answer.usage.input or 0,
    }
    for index, parts in enumerate(parts_sent):
        finish = None
        usage: Mapping[str, object] = so_far
        if index == len(parts_sent) - 1:
            finish = "STOP"
            usage = _usage(answer)
        yield {**_frame(answer, parts, finish), "usageMetadata": usage}


def _failure(status: int, message: str) -> Mapping[str, object]:
    name = {
        401: "UNAUTHENTICATED",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
    }.get(status, "INVALID_ARGUMENT")
    return {"error": {"code": status, "message": message, "status": name}}


def _read_embed(arrived: Arrived) -> Prompt:
    requested = as_list(arrived.body.get("requests")) or [arrived.body]
    return Prompt(
        dialect="gemini.embeddings",
        provider="gcp.gemini",
        operation="embeddings",
        model=arrived.parts["model"],
        text="\n".join(flatten(request.get("content")) for request in requested),
        inputs=len(requested),
        body=arrived.body,
    )


def _whole_embed(answer: Answer) -> Mapping[str, object]:
    length = len(answer.prompt.text)
    vectors = [
        {
            "values": [
                1.0 if context == (length + index) % _DIMENSIONS else 0.0
                for context in range(_DIMENSIONS)
            ]
        }
        for index in range(answer.prompt.inputs)
    ]
    if "requests" in answer.prompt.body:
        return {"embeddings": vectors}
    return {"embedding": vectors[0]}


GENERATE = ProviderDialect(
    name="gemini",
    provider="gcp.gemini",
    operation="chat",
    pattern=re.compile(r"/v1\w*/(?:.*/)?models/(?P<model>[^:/]+):generateContent"),
    read=_read,
    whole=_whole,
    stream=None,
    failure=_failure,
    response_id=lambda answer: answer.ident(""),
)
STREAM = replace(
    GENERATE,
    pattern=re.compile(r"/v1\w*/(?:.*/)?models/(?P<model>[^:/]+):streamGenerateContent"),
    read=_read_stream,
    stream=_stream,
)
EMBED = ProviderDialect(
    name="gemini.embeddings",
    provider="gcp.gemini",
    operation="embeddings",
    pattern=re.compile(
        r"/v1\w*/(?:.*/)?models/(?P<model>[^:/]+):(?:batchEmbedContents|embedContent)"
    ),
    read=_read_embed,
    whole=_whole_embed,
    stream=None,
    failure=_failure,
    response_id=lambda answer: None,
    tells_usage=False,
)
