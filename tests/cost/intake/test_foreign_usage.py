"""What the counts of other instrumentors come to, and when they are a bound."""

from __future__ import annotations

import pytest

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.intake.instrumentors.usage import usage_of, usage_of_raw
from crewmeter_cost.intake.instrumentors.usage_names import LANGFUSE, MLFLOW
from crewmeter_cost.pricing.charge import charge

_AT_NS = 1_795_262_400 * 10**9


def _genai(**counts: int) -> dict[str, object]:
    return {f"gen_ai.usage.{name.replace('__', '.')}": count for name, count in counts.items()}


EXACT = {
    "cached tokens inside the prompt, first spelling": (
        "openai",
        _genai(input_tokens=1000, output_tokens=300, cache_read_input_tokens=400),
        TokenUsage(1000, 300, 400),
    ),
    "cached tokens beside the prompt, as the total tells": (
        "aws.bedrock",
        {
            "llm.token_count.prompt": 3,
            "llm.token_count.completion": 442,
            "llm.token_count.total": 8712,
            "llm.token_count.prompt_details.cache_read": 7917,
            "llm.token_count.prompt_details.cache_write": 350,
        },
        TokenUsage(8270, 442, 7917, 350, flags=("cache_ttl_assumed",)),
    ),
    "thoughts beside the output, as the total tells": (
        "gcp.gemini",
        _genai(
            input_tokens=324, output_tokens=1364, total_tokens=2183, reasoning__output_tokens=495
        ),
        TokenUsage(324, 1859, reasoning=495),
    ),
    "thoughts inside the output, as the total tells": (
        "gcp.gemini",
        _genai(
            input_tokens=324, output_tokens=1859, total_tokens=2183, reasoning__output_tokens=495
        ),
        TokenUsage(324, 1859, reasoning=495),
    ),
    "cached tokens and thoughts both beside": (
        "gcp.gemini",
        _genai(
            input_tokens=600,
            output_tokens=100,
            total_tokens=1150,
            cached_tokens=400,
            reasoning_tokens=50,
        ),
        TokenUsage(1000, 150, 400, reasoning=50),
    ),
    "audio inside": (
        "openai",
        {
            "llm.token_count.prompt": 1000,
            "llm.token_count.completion": 500,
            "llm.token_count.total": 1500,
            "llm.token_count.prompt_details.audio": 800,
            "llm.token_count.completion_details.audio": 400,
        },
        TokenUsage(1000, 500, input_audio=800, output_audio=400),
    ),
    "modalities of the conventions": (
        "openai",
        _genai(
            input_tokens=1000,
            output_tokens=500,
            text__input_tokens=100,
            audio__input_tokens=800,
            image__input_tokens=100,
            audio__output_tokens=400,
        ),
        TokenUsage(1000, 500, input_audio=800, input_image=100, output_audio=400),
    ),
    "cache writes by lifetime, from the anthropic SDK": (
        "anthropic",
        {
            **_genai(input_tokens=9000, output_tokens=100, cache_write__input_tokens=3000),
            "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 1000,
            "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 2000,
        },
        TokenUsage(9000, 100, 0, 1000, 2000),
    ),
    "the AI SDK, version 6": (
        "anthropic",
        {
            "ai.usage.inputTokens": 1300,
            "ai.usage.outputTokens": 50,
            "ai.usage.totalTokens": 1350,
            "ai.usage.cachedInputTokens": 1000,
            "ai.usage.inputTokenDetails.cacheReadTokens": 1000,
            "ai.usage.inputTokenDetails.noCacheTokens": 300,
        },
        TokenUsage(1300, 50, 1000),
    ),
    "details in a dictionary, from LangSmith": (
        "openai",
        {
            **_genai(input_tokens=1000, output_tokens=300, total_tokens=1300),
            "gen_ai.usage.input_token_details": "{'cache_read': 400, 'audio': 0}",
        },
        TokenUsage(1000, 300, 400),
    ),
}


@pytest.mark.parametrize(("provider", "attributes", "expected"), EXACT.values(), ids=EXACT)
def test_counts_that_can_be_reported_are_exact(provider, attributes, expected):
    """Whatever stands beside its whole is found by the total, or by the name."""
    assert usage_of(attributes, "chat", provider=provider) == expected


BOUNDS = {
    "an unknown name": ("openai", _genai(input_tokens=9, output_tokens=9, turbo_tokens=5), "lower"),
    "an unknown name with a fraction": (
        "openai",
        _genai(input_tokens=9, output_tokens=9, turbo_hours=0.5),
        "lower",
    ),
    "cached tokens of which nothing tells where they stand": (
        "anthropic",
        {
            "llm.token_count.prompt": 1000,
            "llm.token_count.completion": 10,
            "llm.token_count.prompt_details.cache_read": 400,
        },
        "lower",
    ),
    "the AI SDK, version 5, whose total is a sum": (
        "anthropic",
        {
            "ai.usage.inputTokens": 1000,
            "ai.usage.outputTokens": 10,
            "ai.usage.totalTokens": 1010,
            "ai.usage.cachedInputTokens": 400,
        },
        "lower",
    ),
    "a total that nothing explains": (
        "openai",
        _genai(input_tokens=10, output_tokens=10, total_tokens=50),
        "lower",
    ),
    "a total below its parts": (
        "openai",
        _genai(input_tokens=10, output_tokens=10, total_tokens=15),
        "upper",
    ),
    "a rest that may be cache or thoughts": (
        "openai",
        _genai(
            input_tokens=500,
            output_tokens=500,
            total_tokens=1100,
            cache_read__input_tokens=100,
            reasoning__output_tokens=100,
        ),
        "upper",
    ),
    "two counts that disagree": (
        "openai",
        _genai(input_tokens=1000, prompt_tokens=900, output_tokens=10),
        "upper",
    ),
    "thoughts at Gemini without a total": (
        "gcp.gemini",
        _genai(input_tokens=10, output_tokens=100, reasoning_tokens=50),
        "lower",
    ),
}


@pytest.mark.parametrize(("provider", "attributes", "bound"), BOUNDS.values(), ids=BOUNDS)
def test_counts_that_cannot_be_reported_are_a_bound(book, provider, attributes, bound):
    """Where nothing decides, the charge says in which direction it may be off."""
    model = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5"}.get(provider, "gemini-2.5-flash")
    usage = usage_of(attributes, "chat", provider=provider)
    made = charge(usage, book, provider=provider, model=model, at_ns=_AT_NS)
    assert made.status == f"{bound}_bound"


def test_unknown_names_are_bounded_and_zeros_do_not_matter():
    """A hostile span cannot fill the ledger with flags, and an unknown 0 changes nothing."""
    flood = {f"gen_ai.usage.x{n}": 1 for n in range(100)}
    usage = usage_of({**_genai(input_tokens=1, output_tokens=1), **flood}, "chat")
    assert len(usage.flags) <= 8
    assert usage_of(_genai(input_tokens=1, output_tokens=1, x=0), "chat").flags == ()


def test_langfuse_parts_stand_beside_and_mlflow_parts_inside():
    """Langfuse's usage types are disjoint, MLflow's are subsets with the 1 h writes among them."""
    langfuse = {"input": 600, "output": 200, "input_cached_tokens": 400, "total": 1200}
    assert usage_of_raw(langfuse, "chat", LANGFUSE, beside=True) == TokenUsage(1000, 200, 400)
    mlflow = {
        "input_tokens": 5000,
        "output_tokens": 100,
        "total_tokens": 5100,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 3000,
        "cache_creation_input_tokens_above_1hr": 2000,
    }
    assert usage_of_raw(mlflow, "chat", MLFLOW) == TokenUsage(5000, 100, 1000, 1000, 2000)
