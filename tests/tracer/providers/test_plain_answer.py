"""The short way to read a whole answer gives what the whole reading gives, or nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewmeter import semconv
from crewmeter.http.http_call import HttpExchange, HttpObserver
from crewmeter.http.response_body import read_whole
from crewmeter.providers.protocols.openai_chat import OPENAI_CHAT

PLAIN = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-5-2025",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hi", "refusal": None, "annotations": []},
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
}
HEADERS = {"content-type": "application/json", "x-ratelimit-remaining-tokens": "12"}
ODD_VALUES = st.sampled_from(
    [None, "", "x" * 400, 3, 0.5, True, [], [{}], [{"usage": {"prompt_tokens": 1}}], {"a": 1}]
)
ODD_KEYS = st.sampled_from(
    [
        *PLAIN,
        "error",
        "citations",
        "x_groq",
        "provider_metadata",
        "web_search",
        "cost",
        "data",
        "new_tokens",
    ]
)
CALLED = {"function": {"name": "$web_search"}}
MESSAGES = st.sampled_from(
    [
        None,
        {},
        {"content": "hi"},
        {"executed_tools": [{"type": "search"}]},
        {"tool_calls": [CALLED]},
        {"annotations": [{"type": "url_citation"}]},
    ]
)
FACTS = (
    "response_id",
    "response_model",
    "service_tier",
    "finish_reason",
    "reported_cost_usd",
    "error_type",
    "usage",
)


def exchange_of(
    body,
    headers=HEADERS,
    request=b'{"model":"gpt-5"}',
    operation=semconv.CHAT,
    provider="openai",
):
    """An exchange whose answer is in memory and not read."""
    exchange = HttpExchange(
        operation=operation,
        protocol=OPENAI_CHAT,
        provider=provider,
        host="api.openai.com",
        port=443,
        request_model=None,
        request_body=lambda: request,
    )
    observer = HttpObserver(opened=lambda _: None, closed=lambda _: None)
    read_whole(observer, exchange, body, headers, lambda: request)
    return exchange


def facts_of(exchange):
    """What an exchange says of its answer."""
    return {name: getattr(exchange, name) for name in FACTS}


@st.composite
def answers(draw):
    """Answers that are plain but for a key or two."""
    answer = dict(PLAIN)
    for _ in range(draw(st.integers(0, 2))):
        answer[draw(ODD_KEYS)] = draw(ODD_VALUES)
    if draw(st.booleans()):
        answer.pop(draw(st.sampled_from(sorted(answer))))
    if draw(st.booleans()):
        choice = {"finish_reason": draw(ODD_VALUES), "message": draw(MESSAGES)}
        answer["choices"] = [choice | draw(st.sampled_from([{}, {"usage": PLAIN["usage"]}]))]
    return answer


@settings(max_examples=400, deadline=None)
@given(
    answers(),
    st.sampled_from(["gpt-5", "gpt-5-search-api", ""]),
    st.sampled_from(["openai", "openrouter", "x_ai", "groq"]),
)
def test_the_short_way_says_what_the_whole_reading_says(answer, model, provider):
    """Whatever the short way takes, every fact of it is as the whole reading has it."""
    body = json.dumps(answer).encode()
    request = json.dumps({"model": model}).encode()
    quick = exchange_of(body, request=request, provider=provider)
    if quick.plain_answer() is not None:
        whole = exchange_of(body, request=request, provider=provider)
        assert facts_of(quick) == facts_of(whole)


def test_a_plain_answer_takes_the_short_way():
    """What most calls get is read by it, and the exchange says the same afterwards."""
    exchange = exchange_of(json.dumps(PLAIN).encode())
    assert exchange.plain_answer() == (
        "chatcmpl-1",
        "gpt-5-2025",
        "default",
        "stop",
        (9, 4, 3, 0, 0, 2),
    )
    assert facts_of(exchange) == facts_of(exchange_of(json.dumps(PLAIN).encode()))


@pytest.mark.parametrize(
    ("body", "headers", "operation"),
    [
        (PLAIN, {"x-litellm-response-cost": "0.5"}, semconv.CHAT),
        (PLAIN, {"helicone-cache": "HIT"}, semconv.CHAT),
        (PLAIN, {"x-surcharge-tokens": "7"}, semconv.CHAT),
        (PLAIN, HEADERS, semconv.EMBEDDINGS),
        ([PLAIN], HEADERS, semconv.CHAT),
        (PLAIN | {"unheard_of_fee": 2}, HEADERS, semconv.CHAT),
        (PLAIN | {"choices": PLAIN["choices"] * 2}, HEADERS, semconv.CHAT),
    ],
)
def test_anything_else_is_read_whole(body, headers, operation):
    """A header, an operation or a key that may cost money is for the whole reading."""
    exchange = exchange_of(json.dumps(body).encode(), headers, operation=operation)
    assert exchange.plain_answer() is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"3", b'{"a":' * 5000])
def test_a_broken_answer_takes_the_whole_reading(body):
    """It does not raise, and the whole reading says what is wrong."""
    exchange = exchange_of(body)
    assert exchange.plain_answer() is None
    assert exchange.usage.status == "missing"
