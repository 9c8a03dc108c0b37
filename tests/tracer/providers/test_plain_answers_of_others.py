"""The short way for Anthropic's and Gemini's answers says what the whole reading says."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewmeter import semconv
from crewmeter.http.http_call import HttpExchange, HttpObserver
from crewmeter.http.response_body import read_whole
from crewmeter.providers.protocols.anthropic import ANTHROPIC
from crewmeter.providers.protocols.gemini import GEMINI
from crewmeter.providers.unknown_usage import unknown_paths

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "container": None,
    "usage": {
        "input_tokens": 100,
        "cache_creation_input_tokens": 500,
        "cache_read_input_tokens": 400,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 300},
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 12},
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "service_tier": "standard",
        "speed": "standard",
        "inference_geo": "not_available",
    },
}
GENERATION = {
    "candidates": [
        {"content": {"parts": [{"text": "hi"}], "role": "model"}, "finishReason": "STOP"}
    ],
    "usageMetadata": {
        "promptTokenCount": 1000,
        "candidatesTokenCount": 180,
        "thoughtsTokenCount": 120,
        "totalTokenCount": 1300,
        "cachedContentTokenCount": 400,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}],
        "trafficType": "ON_DEMAND",
    },
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r-1",
}
PLAIN = {"anthropic": MESSAGE, "gemini": GENERATION}
PROTOCOLS = {"anthropic": ANTHROPIC, "gemini": GEMINI}
USAGE = {"anthropic": "usage", "gemini": "usageMetadata"}
HEADERS = {"content-type": "application/json"}
ODD_VALUES = st.one_of(
    st.integers(-2, 5),
    st.sampled_from([True, 7.0, "12", "", None, [], {}, [{}], {"a": 1}, {"": 1}, 2**41, [1]]),
    st.sampled_from(
        [
            "priority",
            "FLEX",
            "fast",
            "us",
            "message_start",
            [{"type": "server_tool_use", "name": "web_search"}],
            [{"type": "server_tool_use", "name": "code_execution"}, {"type": "text"}],
            [{"groundingMetadata": {"webSearchQueries": ["a"]}, "finishReason": "STOP"}],
            [{"modality": "AUDIO", "tokenCount": 3}],
            [{"modality": "TEXT", "tokenCount": 3, "surprise": 4}],
            {"web_search_requests": 2},
            {"web_search_requests": ""},
            {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 0},
            {"ephemeral_5m_input_tokens": True},
            {"type": "ephemeral", "usage": {"input_tokens": 1}},
        ]
    ),
)
NEW_KEYS = st.sampled_from(
    ["error", "cost", "iterations", "service_tier", "toolUsePromptTokenCount", "new_tokens", "id"]
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


def exchange_of(name, answer, headers=HEADERS):
    """An exchange whose answer is in memory and not read."""
    body = json.dumps(answer).encode()
    exchange = HttpExchange(
        operation=semconv.CHAT,
        protocol=PROTOCOLS[name],
        provider=PROTOCOLS[name].provider,
        host="api.example.com",
        port=443,
        request_model="m-1",
        request_body=lambda: b"{}",
    )
    observer = HttpObserver(opened=lambda _: None, closed=lambda _: None)
    read_whole(observer, exchange, body, headers, lambda: b"{}")
    return exchange


def facts_of(exchange):
    """What an exchange says of its answer."""
    return {fact: getattr(exchange, fact) for fact in FACTS}


@st.composite
def answers(draw, name):
    """Answers that are plain but for a key or two, at the top or in a usage."""
    answer = copy.deepcopy(PLAIN[name])
    usage = answer[USAGE[name]]
    for _ in range(draw(st.integers(0, 2))):
        part = draw(st.sampled_from([answer, usage, usage]))
        key = draw(st.one_of(st.sampled_from(sorted(part)), NEW_KEYS) if part else NEW_KEYS)
        if draw(st.integers(0, 3)):
            part[key] = draw(ODD_VALUES)
        else:
            part.pop(key, None)
    return answer


@pytest.mark.parametrize("name", PLAIN)
def test_the_short_way_of_other_protocols_says_what_the_whole_reading_says(name):
    """Whatever the short way takes, every fact of it is as the whole reading has it."""
    seen = {"plain": 0, "other": 0}
    whole_protocol = PROTOCOLS[name]

    @settings(max_examples=1500, deadline=None)
    @given(answers(name))
    def compare(answer):
        quick = exchange_of(name, answer)
        is_plain = quick.plain_answer() is not None
        seen["plain" if is_plain else "other"] += 1
        if not is_plain:
            return
        whole = exchange_of(name, answer)
        raw = answer[USAGE[name]]
        shape = next(each for each in whole_protocol.shapes if each.read_plain is not None)
        assert shape.read_plain(raw) == shape.read(raw, None).finish(semconv.CHAT)
        assert unknown_paths(raw, shape.known) == ()
        assert facts_of(quick) == facts_of(whole)

    compare()
    assert seen["plain"] > 20
    assert seen["other"] > 20


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (
            "anthropic",
            ("msg_1", "claude-sonnet-4-5", "standard", "end_turn", (1000, 30, 400, 200, 300, 12)),
        ),
        ("gemini", ("r-1", "gemini-2.5-flash", None, "STOP", (1000, 300, 400, 0, 0, 120))),
    ],
)
def test_plain_answers_of_other_protocols_take_the_short_way(name, plain):
    """What most calls get is read by it, and the exchange says the same afterwards."""
    exchange = exchange_of(name, PLAIN[name])
    assert exchange.plain_answer() == plain
    assert facts_of(exchange) == facts_of(exchange_of(name, PLAIN[name]))


@pytest.mark.parametrize(
    ("tier", "is_plain"), [("standard", True), ("STANDARD", True), ("priority", False)]
)
def test_a_tier_in_the_headers_is_for_the_whole_reading(tier, is_plain):
    """Gemini names the tier that served a request in a header."""
    headers = HEADERS | {"x-gemini-service-tier": tier}
    quick = exchange_of("gemini", GENERATION, headers)
    assert (quick.plain_answer() is not None) == is_plain
    assert facts_of(quick) == facts_of(exchange_of("gemini", GENERATION, headers))
    assert quick.service_tier == (None if is_plain else "priority")


SEARCHED = [{"type": "server_tool_use", "name": "code_execution"}]
GROUNDED = [{"groundingMetadata": {"webSearchQueries": ["a"]}, "finishReason": "STOP"}]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("anthropic", {"content": SEARCHED}),
        ("anthropic", {"container": {"id": "c"}}),
        ("anthropic", {"usage": MESSAGE["usage"] | {"speed": "fast"}}),
        ("anthropic", {"usage": MESSAGE["usage"] | {"inference_geo": "us"}}),
        ("anthropic", {"usage": MESSAGE["usage"] | {"iterations": [{}]}}),
        ("gemini", {"candidates": GROUNDED}),
        ("gemini", {"usageMetadata": GENERATION["usageMetadata"] | {"trafficType": "FLEX"}}),
        ("gemini", {"usageMetadata": GENERATION["usageMetadata"] | {"totalTokenCount": 1400}}),
    ],
)
def test_whatever_has_a_fee_or_a_tier_is_read_whole(name, changes):
    """Tools, containers, grounding, regions, speeds, tiers and sums that differ."""
    assert exchange_of(name, PLAIN[name] | changes).plain_answer() is None
