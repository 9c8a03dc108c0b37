"""Calls that CrewAI reports and nobody sent."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

pytest.importorskip("crewai")

from crewai import BaseLLM
from crewai.events.types.llm_events import LLMCallType

USAGE = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}


class OwnLlm(BaseLLM):
    """A model whose answers come from where nobody observes, with the usual events."""

    def call(self, messages, *_, **__):
        self._emit_call_started_event(messages=messages, tools=None)
        answer = self.answer(messages)
        self._emit_call_completed_event(
            response=answer, call_type=LLMCallType.LLM_CALL, messages=messages, usage=USAGE
        )
        return answer

    def answer(self, messages):
        return "hello"


@pytest.mark.slow
def test_an_answer_from_litellms_cache_costs_nothing(meter):
    """CrewAI reports the usage of the request that filled the cache, and none was sent."""
    caching = pytest.importorskip("litellm.caching.caching")
    cache = caching.Cache(type="local")
    question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "the same"}]}
    assert cache.get_cache(**question) is None
    cache.add_cache({"choices": []}, **question)

    class Cached(OwnLlm):
        def answer(self, messages):
            return str(cache.get_cache(**question))

    Cached(model="gpt-4o-mini", provider="openai").call("the same")
    (row,) = meter.calls()
    assert (row["cost_status"], row["cost_pusd"]) == ("cached", 0)
    assert row["input_tokens"] == 1000


@pytest.mark.slow
def test_a_request_that_follows_a_cache_hit_is_billed(meter, llm, fake_provider):
    """A hit counts only where no request was seen."""
    caching = pytest.importorskip("litellm.caching.caching")
    cache = caching.Cache(type="local")
    cache.add_cache({"choices": []}, model="m", messages=[])

    class Refreshed(OwnLlm):
        def answer(self, messages):
            import httpx

            assert cache.get_cache(model="m", messages=[]) is not None
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}
            url = f"{fake_provider.url}/v1/chat/completions"
            return str(httpx.post(url, json=body).json()["id"])

    Refreshed(model="gpt-4o-mini", provider="openai").call("x")
    (row,) = meter.calls()
    assert row["cost_status"] == "priced"
    assert row["cost_pusd"] > 0


def test_a_mocked_client_costs_nothing(meter, llm, fake_provider):
    """A unit test of the app with the provider's client mocked leaves no cost on the books."""
    from openai.types.chat import ChatCompletion

    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "hello"},
    }
    completion = ChatCompletion.model_validate(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-mini",
            "choices": [choice],
            "usage": USAGE,
        }
    )
    client = MagicMock()
    raw = client.chat.completions.with_raw_response.create.return_value
    raw.text = completion.model_dump_json()
    raw.parse.return_value = completion
    llm._client = client
    assert llm.call("hello") == "hello"
    (row,) = meter.calls()
    assert fake_provider.billing_log.billed == []
    assert (row["cost_status"], row["cost_pusd"]) == ("cached", 0)


def test_a_client_that_is_not_observed_is_billed_and_flagged(meter):
    """A model behind a transport of its own may have been billed: its reported usage counts."""
    OwnLlm(model="gpt-4o-mini", provider="openai").call("hello")
    (row,) = meter.calls()
    assert row["cost_status"] == "priced"
    assert row["cost_pusd"] > 0
    assert "no_exchange" in str(row["cost_flags"])
