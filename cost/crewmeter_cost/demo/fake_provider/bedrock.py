"""Amazon Bedrock's Converse protocol, its event stream, and Titan embeddings.

Request ids travel in a header.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from crewmeter_cost.demo.fake_provider.fake_protocol import (
    Answer,
    Arrived,
    ProviderDialect,
    as_list,
    as_map,
    flatten,
    pieces,
)
from crewmeter_cost.demo.fake_provider.scripted_answers import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CONVERSE", "CONVERSE_STREAM", "TITAN_EMBED", "frame"]

_STRING_HEADER = 7
"""Type tag of a string header in the event stream encoding."""


def frame(kind: str, payload: Mapping[str, object]) -> bytes:
    """Return one AWS event stream message.

    It consists of a prelude (lengths and their CRC), headers, payload and a CRC over all.
    """
    headers = b"".join(
        struct.pack(">B", len(name)) + name + struct.pack(">BH", _STRING_HEADER, len(value)) + value
        for name, value in (
            (b":event-type", kind.encode()),
            (b":content-type", b"application/json"),
            (b":message-type", b"event"),
        )
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(
        ">II",
        16 + len(headers) + len(body),
        len(headers),
    )
    message = (
        prelude
        + struct.pack(
            ">I",
            zlib.crc32(prelude),
        )
        + headers
        + body
    )
    return message + struct.pack(
        ">I",
        zlib.crc32(message),
    )


def _read(arrived: Arrived) -> Prompt:
    body = arrived.body
    messages = as_list(body.get("messages"))
    tools = as_map(body.get("toolConfig"))
    specs = [as_map(tool.get("toolSpec")) for tool in as_list(tools.get("tools"))]
    forced = as_map(as_map(tools.get("toolChoice")).get("tool")).get("name")
    return Prompt(
        dialect="bedrock",
        provider="aws.bedrock",
        operation="chat",
        model=unquote(arrived.parts["model"]),
        text="\n".join([flatten(body.get("system")), flatten(messages)]),
        tools={
            str(spec.get("name")): as_map(as_map(spec.get("inputSchema")).get("json"))
            for spec in specs
        },
        forced_tool=forced if isinstance(forced, str) else None,
        tool_results=sum(
            "toolResult" in block
            for message in messages
            for block in as_list(message.get("content"))
        ),
        body=body,
    )


def _read_stream(arrived: Arrived) -> Prompt:
    return replace(_read(arrived), stream=True)


def _usage(answer: Answer) -> Mapping[str, object]:
    usage = answer.usage
    written = usage.cache_write_5m + usage.cache_write_1h
    report: dict[str, object] = {
        "inputTokens": (usage.input or 0) - usage.cache_read - written,
        "outputTokens": usage.output or 0,
        "totalTokens": (usage.input or 0) + (usage.output or 0),
        "cacheReadInputTokens": usage.cache_read,
        "cacheWriteInputTokens": written,
    }
    if usage.cache_write_1h:
        report["cacheDetails"] = [
            {"ttl": "5m", "inputTokens": usage.cache_write_5m},
            {"ttl": "1h", "inputTokens": usage.cache_write_1h},
        ]
    return report


def _uses(answer: Answer) -> list[dict[str, object]]:
    return [
        {
            "toolUseId": answer.ident("tooluse_", index),
            "name": use.name,
            "input": dict(use.arguments),
        }
        for index, use in enumerate(answer.reply.tool_calls, start=1)
    ]


def _stop(answer: Answer) -> str:
    return "tool_use" if answer.reply.tool_calls else "end_turn"


def _whole(answer: Answer) -> Mapping[str, object]:
    content: list[dict[str, object]] = [{"toolUse": use} for use in _uses(answer)] or [
        {"text": answer.reply.text}
    ]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _stop(answer),
        "usage": _usage(answer),
        "metrics": {"latencyMs": 1},
    }


def _stream(answer: Answer) -> Iterator[bytes]:
    """Yield Converse events, with the usage in the last one, ``metadata``."""
    yield frame("messageStart", {"role": "assistant"})
    uses = _uses(answer)
    for index, use in enumerate(uses):
        start = {
            "toolUse": {
                "toolUseId": use["toolUseId"],
                "name": use["name"],
            }
        }
        yield frame("contentBlockStart", {"start": start, "contentBlockIndex": index})
        for piece in pieces(json.dumps(use["input"])):
            yield frame(
                "contentBlockDelta",
                {"delta": {"toolUse": {"input": piece}}, "contentBlockIndex": index},
            )
        yield frame("contentBlockStop", {"contentBlockIndex": index})
    if not uses:
        for piece in pieces(answer.reply.text):
            yield frame("contentBlockDelta", {"delta": {"text": piece}, "contentBlockIndex": 0})
        yield frame("contentBlockStop", {"contentBlockIndex": 0})
    yield frame("messageStop", {"stopReason": _stop(answer)})
    yield frame(
        "metadata",
        {"usage": _usage(answer), "metrics": {"latencyMs": 1}},
    )


def _failure(status: int, message: str) -> Mapping[str, object]:
    name = {
        401: "AccessDeniedException",
        429: "ThrottlingException",
        503: "ServiceUnavailableException",
    }
    return {
        "message": message,
        "__type": name.get(
            status, "InternalServerException" if status >= 500 else "ValidationException"
        ),
    }


def _request_id(answer: Answer) -> str:
    return answer.ident("")


def _read_titan(arrived: Arrived) -> Prompt:
    return Prompt(
        dialect="bedrock.embeddings",
        provider="aws.bedrock",
        operation="embeddings",
        model=unquote(arrived.parts["model"]),
        text=str(arrived.body.get("inputText", "")),
        body=arrived.body,
    )


def _whole_titan(answer: Answer) -> Mapping[str, object]:
    axis = len(answer.prompt.text) % 1024
    return {
        "embedding": [1.0 if context == axis else 0.0 for context in range(1024)],
        "inputTextTokenCount": answer.usage.input,
    }


CONVERSE = ProviderDialect(
    name="bedrock",
    provider="aws.bedrock",
    operation="chat",
    pattern=re.compile(r"/model/(?P<model>[^/]+)/converse"),
    read=_read,
    whole=_whole,
    stream=None,
    failure=_failure,
    response_id=_request_id,
    headers=lambda answer: {"x-amzn-requestid": _request_id(answer)},
)
CONVERSE_STREAM = replace(
    CONVERSE,
    pattern=re.compile(r"/model/(?P<model>[^/]+)/converse-stream"),
    read=_read_stream,
    stream=_stream,
    stream_type="application/vnd.amazon.eventstream",
)
TITAN_EMBED = ProviderDialect(
    name="bedrock.embeddings",
    provider="aws.bedrock",
    operation="embeddings",
    pattern=re.compile(r"/model/(?P<model>amazon\.titan-embed[^/]*)/invoke"),
    read=_read_titan,
    whole=_whole_titan,
    stream=None,
    failure=_failure,
    response_id=_request_id,
    headers=lambda answer: {
        "x-amzn-requestid": _request_id(answer),
        "x-amzn-bedrock-input-token-count": str(answer.usage.input),
    },
)
