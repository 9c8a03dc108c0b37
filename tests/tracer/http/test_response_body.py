"""Bodies of every protocol and in every condition, through every HTTP library.

Read right, flagged, and passed on untouched.
"""

from __future__ import annotations

import asyncio
import gzip
import json

import aiohttp
import httpx
import pytest
import requests
from support.canned_http import canned

from crewmeter.usage.token_usage import TokenUsage

T = TokenUsage


def by_httpx(url, content, stream):
    with httpx.Client() as client:
        if not stream:
            return client.post(url, content=content).content
        with client.stream("POST", url, content=content) as response:
            return b"".join(response.iter_bytes())


def by_httpx_async(url, content, stream):
    async def run():
        async with httpx.AsyncClient() as client:
            if not stream:
                return (await client.post(url, content=content)).content
            async with client.stream("POST", url, content=content) as response:
                return b"".join([chunk async for chunk in response.aiter_bytes()])

    return asyncio.run(run())


def by_requests(url, content, stream):
    with requests.Session() as session, session.post(url, data=content, stream=stream) as response:
        return b"".join(response.iter_content(512)) if stream else response.content


def by_aiohttp(url, content, stream):
    async def run():
        async with aiohttp.ClientSession() as session, session.post(url, data=content) as response:
            if not stream:
                return await response.read()
            return b"".join([chunk async for chunk in response.content.iter_any()])

    return asyncio.run(run())


LIBRARIES = {
    "httpx": by_httpx,
    "httpx-async": by_httpx_async,
    "requests": by_requests,
    "aiohttp": by_aiohttp,
}


@pytest.fixture(params=LIBRARIES)
def post(request):
    """One of the HTTP libraries."""
    return LIBRARIES[request.param]


CHAT = {
    "id": "c-1",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"finish_reason": "stop", "message": {"content": 'he said "usage": {"x": 1}'}}],
}
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "total_tokens": 1300,
    "prompt_tokens_details": {"cached_tokens": 400},
}
ASK = json.dumps(
    {"messages": [{"role": "user", "content": 'the "model": "gpt-1" of old'}], "model": "gpt-4o"}
).encode()


def test_a_whole_answer_is_read_and_passed_on_untouched(seen, post):
    """The bytes the caller gets are the server's; ids, models, reason and usage are known."""
    body = json.dumps({**CHAT, "usage": USAGE}).encode()
    with canned(body) as server:
        assert post(f"{server.url}/v1/chat/completions", ASK, False) == body
    (exchange,) = seen.closed
    assert exchange.usage == T(1000, 300, cache_read=400)
    assert (exchange.request_model, exchange.response_model, exchange.response_id) == (
        "gpt-4o",
        "gpt-4o-2024-08-06",
        "c-1",
    )
    assert (exchange.finish_reason, exchange.streamed, exchange.host) == (
        "stop",
        False,
        "127.0.0.1",
    )


def _sse(*events: dict) -> bytes:
    return (
        b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
        + b"data: [DONE]\n\n"
    )


STREAM = _sse(
    {"id": "c-2", "model": "gpt-4o", "choices": [{"delta": {"role": "assistant"}}], "usage": None},
    *(
        {"id": "c-2", "choices": [{"delta": {"content": f"word{i} "}}], "usage": None}
        for i in range(40)
    ),
    {"id": "c-2", "choices": [{"delta": {}, "finish_reason": "length"}]},
    {"id": "c-2", "choices": [], "usage": USAGE},
)


@pytest.mark.parametrize("size", [1, 7, 100, 10**6])
def test_a_stream_is_read_however_it_is_cut_into_chunks(seen, post, size):
    """Events may arrive byte by byte, or all in one.

    The same facts, the same bytes to the caller.
    """
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    with canned(*chunks, content_type="text/event-stream; charset=utf-8") as server:
        assert post(f"{server.url}/v1/chat/completions", ASK, True) == STREAM
    (exchange,) = seen.closed
    assert exchange.usage == T(1000, 300, cache_read=400)
    assert (exchange.finish_reason, exchange.response_id, exchange.streamed) == (
        "length",
        "c-2",
        True,
    )


def test_a_compressed_stream_is_read(seen, post):
    """A proxy may compress; what the SDK decodes is what we see."""
    packed = gzip.compress(STREAM)
    chunks = [packed[start : start + 50] for start in range(0, len(packed), 50)]
    with canned(*chunks, content_type="text/event-stream", content_encoding="gzip") as server:
        assert post(f"{server.url}/v1/chat/completions", ASK, True) == STREAM
    assert seen.closed[0].usage == T(1000, 300, cache_read=400)


def test_a_stream_given_up_by_its_reader_is_estimated(seen):
    """Closing a response in the middle ends its exchange at once."""
    with (
        canned(STREAM[:900], STREAM[900:], content_type="text/event-stream") as server,
        httpx.Client() as client,
    ):
        with client.stream("POST", f"{server.url}/v1/chat/completions", content=ASK) as response:
            next(response.iter_bytes(300))
        (exchange,) = seen.closed
    assert exchange.usage.status == "estimated"
    assert exchange.usage.flags == ("stream_cut", "output_estimated", "input_estimated")
    assert exchange.usage.output > 0


def test_a_broken_connection_is_recorded_and_still_raised(seen, post):
    """The caller gets its own library's exception; the exchange says what it knows."""
    broken = canned(STREAM[:900], content_type="text/event-stream", cut=True)
    with (
        broken as server,
        pytest.raises(Exception, match=r"(?i)peer closed|prematurely|closed|payload"),
    ):
        post(f"{server.url}/v1/chat/completions", ASK, True)
    (exchange,) = seen.closed
    assert exchange.error_type in (
        "RemoteProtocolError",
        "ChunkedEncodingError",
        "ClientPayloadError",
    )
    assert exchange.usage.status == "estimated"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"usage": ',
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"text"',
        b"[1,2]",
        b"{" * 5000,
        b'{"usage": 7}',
        b'{"usage": {"x": {}}}',
    ],
    ids=repr,
)
def test_a_broken_body_reaches_the_caller_and_is_unknown(seen, post, body):
    """Whatever the body is, the caller gets it, and the exchange ends without a made-up number."""
    with canned(*([body] if body else [])) as server:
        assert post(f"{server.url}/v1/chat/completions", ASK, False) == body
    (exchange,) = seen.closed
    assert exchange.done
    assert (exchange.usage.status, exchange.usage.input) == ("missing", None)


@pytest.mark.parametrize(
    "body",
    [
        b"data: nonsense\n\n",
        b":\n\n\n",
        b"data: {\n\n",
        b"\x00" * 5000,
        b"data: [1]\n\ndata: [DONE]\n\n",
    ],
    ids=repr,
)
def test_a_broken_stream_reaches_the_caller(seen, post, body):
    """A stream of anything passes through."""
    with canned(body, content_type="text/event-stream") as server:
        assert post(f"{server.url}/v1/chat/completions", ASK, True) == body
    assert seen.closed[0].done


@pytest.mark.parametrize(
    "frame", [b"\x00\x00\x00\x10\x00\x00\x00\x00cccccccc", b"\xff" * 64, b"\x00" * 64, b"short"]
)
def test_broken_event_frames_reach_the_caller(seen, post, frame):
    """Frames that are none pass through as well."""
    with canned(frame, content_type="application/vnd.amazon.eventstream") as server:
        assert post(f"{server.url}/model/x/converse-stream", b"{}", True) == frame
    assert seen.closed[0].done


PROTOCOLS = [
    # (path, request, answer, expected usage, other facts)
    (
        "/v1/messages",
        {"model": "claude-sonnet-4-5", "max_tokens": 9},
        {
            "id": "msg_1",
            "type": "message",
            "model": "claude-sonnet-4-5-20250929",
            "stop_reason": "tool_use",
            "content": [
                {
                    "type": "tool_use",
                    "input": {"usage": {"input_tokens": 9}, "model": "T", "id": "x"},
                }
            ],
            "usage": {
                "input_tokens": 100,
                "cache_read_input_tokens": 400,
                "cache_creation_input_tokens": 500,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 200,
                    "ephemeral_1h_input_tokens": 300,
                },
                "output_tokens": 30,
                "server_tool_use": {"web_search_requests": 3},
                "service_tier": "priority",
            },
        },
        T(1000, 30, cache_read=400, cache_write_5m=200, cache_write_1h=300, web_searches=3),
        {
            "provider": "anthropic",
            "service_tier": "priority",
            "finish_reason": "tool_use",
            "response_id": "msg_1",
        },
    ),
    (
        "/v1/responses",
        {"model": "gpt-5", "input": "x"},
        {
            "id": "resp_1",
            "object": "response",
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "model": "gpt-5-2025-08-07",
            "service_tier": "flex",
            "output": [
                {"type": "web_search_call", "action": {"type": "search"}},
                {"type": "web_search_call", "action": {"type": "open_page"}},
                {"type": "code_interpreter_call"},
            ],
            "usage": {
                "input_tokens": 50,
                "input_tokens_details": {"cached_tokens": 10},
                "output_tokens": 20,
                "output_tokens_details": {"reasoning_tokens": 5},
                "total_tokens": 70,
            },
        },
        T(50, 20, cache_read=10, reasoning=5, web_searches=1, flags=("tool_fees_not_counted",)),
        {"provider": "openai", "service_tier": "flex", "finish_reason": "max_output_tokens"},
    ),
    (
        "/v1beta/models/gemini-3-pro:generateContent",
        {"contents": []},
        {
            "responseId": "g1",
            "modelVersion": "gemini-3-pro-001",
            "candidates": [
                {"finishReason": "STOP", "groundingMetadata": {"webSearchQueries": ["a", "b", "a"]}}
            ],
            "usageMetadata": {
                "promptTokenCount": 10,
                "candidatesTokenCount": 5,
                "totalTokenCount": 15,
                "trafficType": "PROVISIONED_THROUGHPUT",
            },
        },
        T(10, 5, web_searches=2),
        {
            "provider": "gcp.gemini",
            "request_model": "gemini-3-pro",
            "response_id": "g1",
            "service_tier": "provisioned",
        },
    ),
    (
        "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:generateContent",
        {"contents": []},
        {
            "candidates": [{"groundingMetadata": {"webSearchQueries": ["a", "b"]}}],
            "usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10},
        },
        T(10, 0, web_searches=1),
        {"provider": "gcp.vertex_ai", "request_model": "gemini-2.5-flash"},
    ),
    (
        "/openai/deployments/my%20gpt/chat/completions?api-version=2024-06-01",
        {"messages": []},
        {**CHAT, "usage": USAGE},
        T(1000, 300, cache_read=400),
        {
            "provider": "azure.ai.openai",
            "request_model": "my gpt",
            "response_model": "gpt-4o-2024-08-06",
        },
    ),
    (
        "/at/openrouter/api/v1/chat/completions",
        {"model": "anthropic/claude-sonnet-4.5"},
        {**CHAT, "usage": {**USAGE, "cost": 0.00642}},
        T(1000, 300, cache_read=400),
        {"reported_cost_usd": "0.00642"},
    ),
    (
        "/v2/chat",
        {"model": "command-a"},
        {
            "id": "co-1",
            "finish_reason": "COMPLETE",
            "usage": {
                "billed_units": {"input_tokens": 5.0, "output_tokens": 7.0},
                "tokens": {"input_tokens": 70},
            },
        },
        T(5, 7),
        {"provider": "cohere", "finish_reason": "COMPLETE"},
    ),
    (
        "/v2/rerank",
        {"model": "rerank-v3.5", "query": "q", "documents": ["usage"]},
        {"id": "r", "results": [], "meta": {"billed_units": {"search_units": 1}}},
        T(0, 0, search_units=1),
        {"operation": "rerank"},
    ),
    (
        "/v1/rerank",
        {"model": "jina-reranker-v2", "query": "q"},
        {"model": "jina-reranker-v2", "usage": {"total_tokens": 64}, "results": []},
        T(64, 0),
        {"operation": "rerank"},
    ),
    (
        "/api/chat",
        {"model": "llama3.3"},
        {
            "model": "llama3.3",
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 26,
            "eval_count": 298,
        },
        T(26, 298),
        {"provider": "ollama", "finish_reason": "stop"},
    ),
    (
        "/ml/v1/text/chat?version=1",
        {"model_id": "ibm/granite", "messages": []},
        {
            "model_id": "ibm/granite",
            "choices": [{"finish_reason": "stop"}],
            "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
        },
        T(4, 2),
        {"provider": "ibm.watsonx.ai", "response_model": "ibm/granite"},
    ),
    (
        "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
        {"messages": []},
        {
            "stopReason": "end_turn",
            "serviceTier": {"type": "priority"},
            "usage": {
                "inputTokens": 3,
                "outputTokens": 12,
                "totalTokens": 13256,
                "cacheReadInputTokens": 13216,
                "cacheWriteInputTokens": 25,
            },
        },
        T(13244, 12, cache_read=13216, cache_write_5m=25, flags=("cache_ttl_assumed",)),
        {
            "provider": "aws.bedrock",
            "request_model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "service_tier": "priority",
        },
    ),
]


@pytest.mark.parametrize(
    ("path", "request_body", "answer", "usage", "facts"),
    PROTOCOLS,
    ids=[case[0].split("?")[0] for case in PROTOCOLS],
)
def test_each_protocol_says_what_it_billed(seen, path, request_body, answer, usage, facts):
    """Usage, tier, reason, ids and models of every protocol, also where a tool's arguments carry
    the same names.
    """
    with canned(json.dumps(answer).encode()) as server:
        by_httpx(server.url + path, json.dumps(request_body).encode(), False)
    (exchange,) = seen.closed
    assert exchange.usage == usage
    assert {name: getattr(exchange, name) for name in facts} == facts


def _events(*events: dict, end: str = "") -> bytes:
    """Server-sent events, with the line ends some servers use."""
    return (
        b"".join(b"data: " + json.dumps(event).encode() + b"\r\n\r\n" for event in events)
        + end.encode()
    )


STREAMED = {
    "ollama": (
        "/api/chat",
        b'{"model":"m","message":{"content":"a"},"done":false}\n'
        b'{"model":"m","done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":4}\n',
        T(9, 4),
        "stop",
    ),
    "cohere": (
        "/v2/chat",
        _events(
            {"id": "c", "type": "message-start"},
            {
                "type": "message-end",
                "delta": {
                    "finish_reason": "COMPLETE",
                    "usage": {"billed_units": {"input_tokens": 3, "output_tokens": 2}},
                },
            },
        ),
        T(3, 2),
        "COMPLETE",
    ),
    "anthropic": (
        "/v1/messages",
        _events(
            {
                "type": "message_start",
                "message": {
                    "id": "m",
                    "usage": {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 5},
                },
            },
            {"type": "content_block_delta", "delta": {"text": "hi"}},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 20, "server_tool_use": {"web_search_requests": 1}},
            },
            {"type": "message_stop"},
        ),
        T(15, 20, cache_read=5, web_searches=1),
        "end_turn",
    ),
    "groq": (  # puts the usage of a stream beside the choices
        "/v1/chat/completions",
        _events(
            {"id": "q", "model": "llama", "choices": [{"delta": {"content": "a"}}]},
            {
                "id": "q",
                "choices": [{"delta": {}, "finish_reason": "stop"}],
                "x_groq": {
                    "id": "r",
                    "usage": {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9},
                },
            },
            end="data: [DONE]\n\n",
        ),
        T(6, 3),
        "stop",
    ),
    "gemini": (  # restates its usage in every event
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        _events(
            {
                "candidates": [{"content": {"parts": [{"text": "a"}]}}],
                "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8},
                "responseId": "g",
            },
            {
                "candidates": [{"finishReason": "STOP"}],
                "usageMetadata": {
                    "promptTokenCount": 8,
                    "candidatesTokenCount": 2,
                    "thoughtsTokenCount": 5,
                    "totalTokenCount": 15,
                },
            },
        ),
        T(8, 7, reasoning=5),
        "STOP",
    ),
}


@pytest.mark.parametrize(("path", "events", "usage", "reason"), STREAMED.values(), ids=STREAMED)
def test_each_streamed_protocol_says_what_it_billed(seen, post, path, events, usage, reason):
    """Usage of a stream is where its protocol puts it.

    Last line, last event, first and last, beside the choices.
    """
    kind = "application/x-ndjson" if path == "/api/chat" else "text/event-stream"
    with canned(events, content_type=kind) as server:
        post(server.url + path, b'{"model": "m", "max_tokens": 5}', True)
    (exchange,) = seen.closed
    assert exchange.usage == usage
    assert (exchange.finish_reason, exchange.error_type) == (reason, None)


def test_an_error_inside_a_stream_is_a_failed_call(seen, post):
    """A provider that fails after it began bills what it read.

    The error is named, the usage estimated.
    """
    events = (
        b'data: {"type":"message_start","message":{"id":"m","model":"claude",'
        b'"usage":{"input_tokens":10,"output_tokens":1}}}\n\n'
        b"event: error\ndata: "
        b'{"type":"error","error":{"type":"overloaded_error","message":"secret"}}\n\n'
    )
    with canned(events, content_type="text/event-stream") as server:
        post(f"{server.url}/v1/messages", b'{"model": "m"}', True)
    (exchange,) = seen.closed
    assert exchange.error_type == "overloaded_error"
    assert (exchange.usage.status, exchange.usage.input) == ("estimated", 10)


def test_other_requests_are_not_looked_at(seen, post):
    """A POST that only resembles a model call, and one to anywhere else, is no exchange."""
    with canned(b"{}") as server:
        for path in (
            "/",
            "/api/messages",
            "/surveys/7/responses",
            "/v1/embeddings/search",
            "/chat",
            "/model",
            "/v1/files",
        ):
            post(server.url + path, b'{"text": "hello"}', False)
    assert seen.opened == []


def test_a_gateways_price_is_recorded_beside(seen):
    """LiteLLM's proxy says in a header what a call cost it."""
    with canned(
        json.dumps({**CHAT, "usage": USAGE}).encode(), x_litellm_response_cost="0.0125"
    ) as server:
        by_httpx(f"{server.url}/v1/chat/completions", ASK, False)
    assert seen.closed[0].reported_cost_usd == "0.0125"
