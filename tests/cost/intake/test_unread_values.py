"""Values beside a span's counts that are long, unreadable or somebody's answer."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.ledger_build import NOON, SECOND

from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.records import Span

_AI_SDK = {
    "ai.operationId": "ai.generateText.doGenerate",
    "operation.name": "ai.generateText.doGenerate",
    "ai.model.provider": "openai.responses",
    "ai.model.id": "gpt-5",
    "ai.usage.inputTokens": 1000,
    "ai.usage.outputTokens": 100,
}
_OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-4o",
    "llm.provider": "openai",
    "llm.token_count.prompt": 10,
    "llm.token_count.completion": 5,
}


def _span(number, attributes):
    return Span(
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_span_id=None,
        name="chat",
        started_ns=NOON + number * SECOND,
        ended_ns=NOON + (number + 1) * SECOND,
        error=False,
        attributes=attributes,
        resource={},
        scope="another",
    )


def _charge(book, metadata):
    span = _span(1, {**_AI_SDK, "ai.response.providerMetadata": metadata})
    ((_, charge),) = Pipeline(None, book).price([span]).calls
    return charge


def test_long_metadata_of_a_provider_is_read(book):
    """A service tier beside log probabilities of 200 tokens sets the price."""
    probabilities = [{"token": "abc", "logprob": -0.123456, "top_logprobs": []}] * 200
    short = {"openai": {"serviceTier": "priority"}}
    long = {"openai": {"serviceTier": "priority", "logprobs": probabilities}}
    expected = _charge(book, json.dumps(short))
    assert _charge(book, json.dumps(long)).cost_pusd == expected.cost_pusd


@pytest.mark.parametrize(
    ("metadata", "status"),
    [
        ('{"openai": {"serviceTier": "pri…', "lower_bound"),
        ("{{}: 1}", "lower_bound"),
        ("{}", "priced"),
        (" null", "priced"),
        ("", "priced"),
    ],
)
def test_metadata_that_cannot_be_read_is_no_exact_price(book, metadata, status):
    """A text that is cut off may have said more, an empty one says nothing."""
    assert _charge(book, metadata).status == status


@pytest.mark.parametrize(
    ("output", "response_id"),
    [
        ('{"id": "john.doe:4111-1111-1111-1111", "name": "John"}', None),
        ('{"id": "9b2f1c52-7a51-4b6e-9a0b-0123456789ab", "name": "John"}', None),
        (
            '{"id":"9b2f1c52-7a51-4b6e-9a0b-0123456789ab","choices":[]}',
            "9b2f1c52-7a51-4b6e-9a0b-0123456789ab",
        ),
        ('{"id":"chatcmpl-abcdefghijkl","object":1}', "chatcmpl-abcdefghijkl"),
    ],
)
def test_the_id_of_an_answer_is_no_id_of_a_response(book, output, response_id):
    """Only a provider's own form of id is taken from an output. The rest is content."""
    span = _span(1, {**_OPENINFERENCE, "output.value": output})
    ((call, _),) = Pipeline(None, book).price([span]).calls
    assert call.response_id == response_id


@pytest.mark.parametrize("value", ["{{'a': 1}}", "{[]: 1}"])
def test_an_odd_literal_costs_neither_its_span_nor_others(book, value):
    """Text that Python cannot make a dictionary of is no usage, and raises nothing."""
    odd = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.usage_details": value,
    }
    priced = Pipeline(None, book).price([_span(1, _OPENINFERENCE), _span(2, odd)])
    assert len(priced.calls) == 2


def test_a_span_that_cannot_be_read_is_ignored(book, caplog):
    """The calls beside it are priced, and it counts as ignored."""
    unreadable = _span(2, None)
    priced = Pipeline(None, book).price([_span(1, _OPENINFERENCE), unreadable])
    assert len(priced.calls) == 1
    assert priced.ignored == 1
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(("scope", "status"), [("litellm", "cached"), ("another", "upper_bound")])
def test_a_cache_hit_is_free_where_a_known_client_says_so(book, scope, status):
    """Elsewhere the provider's cache of prompts may be meant, which is not free."""
    span = replace(_span(1, {**_OPENINFERENCE, "cache_hit": True}), scope=scope)
    ((_, charge),) = Pipeline(None, book).price([span]).calls
    assert charge.status == status
