"""Every client of CrewAI's, sync and async, whole and streamed.

The wire says to the token what the provider billed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.http_recording import PROVIDERS, call, llm

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # the SDKs' own: deprecations, sessions they leave open

CASES = [
    # Importing LiteLLM takes seconds of a worker.
    pytest.param(name, marks=[pytest.mark.slow] * name.startswith("litellm"))
    for name in PROVIDERS
]
BILL = "hello [[usage:in=1000 read=400 out=300 reasoning=120]] there"


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("provider", CASES)
def test_one_call_is_one_exchange_with_the_usage_the_provider_billed(
    server, seen, provider, stream, way
):
    """Whatever client, protocol and way of reading.

    One exchange, closed, its tokens, id and model those of the provider's books.
    """
    call(llm(provider, server, stream=stream), BILL, way=way)
    (billed,) = server.billing_log.billed
    (exchange,) = seen.closed
    assert exchange is seen.opened[0]
    # Not every protocol has a field for reasoning; it is information only and never added.
    assert replace(exchange.usage, reasoning=0) == replace(billed.usage, reasoning=0)
    assert exchange.response_id == billed.response_id
    assert (exchange.request_model, exchange.response_model or billed.model) == (
        billed.request_model,
        billed.model,
    )
    assert exchange.streamed == stream
    assert (exchange.first_chunk_ns is not None) == stream
    assert exchange.status_code == 200
    assert exchange.done
    assert exchange.started_ns < exchange.ended_ns


@pytest.mark.mostly_slow("whole-anthropic", "streamed-bedrock")
@pytest.mark.parametrize(
    ("provider", "five", "hour"),
    [("anthropic", 100, 50), ("bedrock", 100, 50), ("litellm-anthropic", 100, 50)],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_cache_writes_keep_their_time_to_live(server, seen, provider, five, hour, stream):
    """CrewAI's events add five-minute and one-hour cache writes together.

    The wire keeps them apart.
    """
    call(
        llm(provider, server, stream=stream),
        f"x [[usage:in=1000 read=400 w5m={five} w1h={hour} out=300]]",
        way="sync",
    )
    usage = seen.closed[0].usage
    assert (usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h) == (
        1000,
        400,
        five,
        hour,
    )
    assert usage.flags == ()


@pytest.mark.mostly_slow("openai", "responses", "anthropic")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("provider", ["openai", "responses", "anthropic", "litellm"])
def test_the_tier_that_served_the_call_is_known(server, seen, provider, stream):
    """The response's service tier decides the rate; no event has it."""
    call(llm(provider, server, stream=stream), "x [[tier:flex]]", way="sync")
    assert seen.closed[0].service_tier == "flex"


@pytest.mark.parametrize("provider", ["anthropic", "responses"])
def test_web_searches_are_counted(server, seen, provider):
    """Searches are billed per request, besides their tokens."""
    call(llm(provider, server), "x [[usage:in=100 out=50 searches=2]]", way="sync")
    assert seen.closed[0].usage.web_searches == server.billing_log.billed[0].usage.web_searches == 2


def test_each_attempt_is_an_exchange_and_only_the_last_is_paid(server, seen):
    """An SDK that retries a refused request makes three exchanges of one call.

    Two were turned away and not billed.
    """
    model = llm("openai", server)
    model.max_retries = 3
    call(model, "x [[fail:429 x2]]", way="sync")
    assert [exchange.status_code for exchange in seen.closed] == [429, 429, 200]
    assert [exchange.usage.flags for exchange in seen.closed] == [("rejected",), ("rejected",), ()]
    assert len(seen.paid) == len(server.billing_log.billed) == 1


@pytest.mark.parametrize("provider", CASES)
def test_a_refused_request_is_not_billed_and_says_why(server, seen, provider):
    """An HTTP error status ends the exchange with neither token count, flagged as turned away."""
    with pytest.raises(Exception):  # noqa: B017,PT011 - each SDK has its own
        call(llm(provider, server), "x [[fail:400]]", way="sync")
    assert server.billing_log.billed == []
    assert seen.closed
    assert {exchange.error_type for exchange in seen.closed} == {"400"}
    assert all(
        exchange.usage.flags == ("rejected",) and exchange.usage.input is None
        for exchange in seen.closed
    )


def test_a_connection_that_breaks_may_have_been_billed(server, seen):
    """When the server hangs up without an answer nobody knows.

    When it can't be reached, nothing was sent.
    """
    with pytest.raises(Exception):  # noqa: B017,PT011 - each SDK has its own
        call(llm("openai", server), "x [[drop:1]]", way="sync")
    assert seen.closed[0].usage.flags == ("may_be_billed",)
    seen.closed.clear()
    unreachable = llm("openai", server)
    unreachable.base_url = "http://127.0.0.1:9"
    unreachable._client = None
    with pytest.raises(Exception):  # noqa: B017,PT011 - each SDK has its own
        call(unreachable, "x", way="sync")
    assert {exchange.usage.flags for exchange in seen.closed} == {("rejected",)}
