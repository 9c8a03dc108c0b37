"""Every shape usage comes in, as providers, SDKs and CrewAI's events send it, read into disjoint
buckets.
"""

from __future__ import annotations

import pytest

from crewmeter.providers.usage_reading import read_usage, reported_cost
from crewmeter.usage.token_usage import TokenUsage

T = TokenUsage
TTL = ("cache_ttl_assumed",)

# (what it is, provider, raw usage, expected)
CASES: list[tuple[str, str | None, dict[str, object] | None, TokenUsage]] = [
    # --- missing
    # ---------------------------------------------------------------------------------------------
    ("nothing", None, None, T(status="missing")),
    ("empty", None, {}, T(status="missing")),
    ("crewai's 'no usage'", "openai", {"total_tokens": 0}, T(status="missing")),
    ("unknown keys", None, {"tokens_used_probably": 7}, T(status="missing")),
    (
        "a total alone has no split",
        "openai",
        {"total_tokens": 70},
        T(status="missing", flags=("split_not_reported",)),
    ),
    (
        "zeros are no usage",
        "ollama",
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        T(status="missing", flags=("zero_usage",)),
    ),
    # --- CrewAI events
    # ---------------------------------------------------------------------------------------------
    (
        "gpt-4o event",
        "openai",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "cached_prompt_tokens": 400,
            "reasoning_tokens": 120,
        },
        T(1000, 300, cache_read=400, reasoning=120),
    ),
    (
        "claude event is inclusive and knows no TTL",
        "anthropic",
        {
            "input_tokens": 1000,
            "output_tokens": 300,
            "total_tokens": 1300,
            "cached_prompt_tokens": 400,
            "cache_creation_tokens": 500,
        },
        T(1000, 300, cache_read=400, cache_write_5m=500, flags=TTL),
    ),
    (
        "gemini event hides tool-use tokens in the total",
        "gemini",
        {
            "prompt_token_count": 1000,
            "candidates_token_count": 180,
            "completion_tokens": 300,
            "total_token_count": 1350,
            "total_tokens": 1350,
            "cached_prompt_tokens": 400,
            "reasoning_tokens": 120,
        },
        T(1050, 300, cache_read=400, reasoning=120),
    ),
    (
        "gemini event whose candidates already hold the thoughts",
        "gemini",
        {
            "prompt_token_count": 1000,
            "candidates_token_count": 300,
            "completion_tokens": 420,
            "total_token_count": 1300,
            "total_tokens": 1300,
            "cached_prompt_tokens": 0,
            "reasoning_tokens": 120,
        },
        T(1000, 300, reasoning=120),
    ),
    (
        "azure event: the SDK drops the cached count",
        "azure",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "cached_prompt_tokens": 0,
            "reasoning_tokens": 0,
        },
        T(1000, 300, flags=("cached_not_reported",)),
    ),
    (
        "litellm event with nested and flattened cache counts counts them once",
        "anthropic",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "cache_read_input_tokens": 400,
            "cache_creation_input_tokens": 500,
            "cached_prompt_tokens": 400,
            "cache_creation_tokens": 500,
            "prompt_tokens_details": {
                "cached_tokens": 400,
                "cache_creation_tokens": 500,
                "cache_write_tokens": 500,
                "cache_creation_token_details": {
                    "ephemeral_5m_input_tokens": 200,
                    "ephemeral_1h_input_tokens": 300,
                },
            },
        },
        T(1000, 300, cache_read=400, cache_write_5m=200, cache_write_1h=300),
    ),
    (
        "cached beyond the input",
        "openai",
        {"prompt_tokens": 100, "completion_tokens": 1, "cached_prompt_tokens": 400},
        T(status="invalid", flags=("parts_exceed_whole",)),
    ),
    # --- OpenAI on the wire
    # ------------------------------------------------------------------------------------------
    (
        "openai chat",
        "openai",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "prompt_tokens_details": {
                "cached_tokens": 400,
                "audio_tokens": 50,
                "cache_write_tokens": 100,
            },
            "completion_tokens_details": {
                "reasoning_tokens": 120,
                "audio_tokens": 20,
                "accepted_prediction_tokens": 0,
            },
        },
        T(
            1000,
            300,
            cache_read=400,
            cache_write_5m=100,
            reasoning=120,
            input_audio=50,
            output_audio=20,
        ),
    ),
    (
        "openai responses",
        "openai",
        {
            "input_tokens": 10000,
            "input_tokens_details": {"cached_tokens": 2000, "cache_write_tokens": 3000},
            "output_tokens": 1000,
            "output_tokens_details": {"reasoning_tokens": 400},
            "total_tokens": 11000,
        },
        T(10000, 1000, cache_read=2000, cache_write_5m=3000, reasoning=400),
    ),
    ("openai embeddings", "openai", {"prompt_tokens": 12345, "total_tokens": 12345}, T(12345, 0)),
    (
        "openai images",
        "openai",
        {
            "input_tokens": 60,
            "output_tokens": 4160,
            "total_tokens": 4220,
            "input_tokens_details": {"text_tokens": 20, "image_tokens": 40},
            "output_tokens_details": {"image_tokens": 4160},
        },
        T(60, 4160, input_image=40, output_image=4160),
    ),
    # --- Anthropic on the wire
    # ---------------------------------------------------------------------------------------
    (
        "anthropic raw excludes the cache",
        "anthropic",
        {
            "input_tokens": 100,
            "cache_read_input_tokens": 400,
            "cache_creation_input_tokens": 500,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 300},
            "output_tokens": 300,
            "server_tool_use": {"web_search_requests": 2},
            "service_tier": "standard",
        },
        T(1000, 300, cache_read=400, cache_write_5m=200, cache_write_1h=300, web_searches=2),
    ),
    (
        "anthropic raw without the TTL split",
        "anthropic",
        {
            "input_tokens": 500,
            "cache_creation_input_tokens": 1500,
            "cache_read_input_tokens": 0,
            "output_tokens": 800,
        },
        T(2000, 800, cache_write_5m=1500, flags=TTL),
    ),
    (
        "anthropic raw with nulls",
        "anthropic",
        {
            "input_tokens": 5,
            "output_tokens": 3,
            "cache_creation_input_tokens": None,
            "cache_creation": None,
        },
        T(5, 3),
    ),
    # --- Gemini on the wire
    # ------------------------------------------------------------------------------------------
    (
        "gemini usageMetadata",
        "gcp.gemini",
        {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 180,
            "thoughtsTokenCount": 120,
            "toolUsePromptTokenCount": 50,
            "cachedContentTokenCount": 400,
            "totalTokenCount": 1350,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 700},
                {"modality": "AUDIO", "tokenCount": 300},
            ],
            "candidatesTokensDetails": [
                {"modality": "IMAGE", "tokenCount": 100},
                {"modality": "TEXT", "tokenCount": 80},
            ],
        },
        T(1050, 300, cache_read=400, reasoning=120, input_audio=300, output_image=100),
    ),
    (
        "gemini whose candidates already hold the thoughts",
        "gcp.gemini",
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 30,
            "thoughtsTokenCount": 20,
            "totalTokenCount": 40,
        },
        T(10, 30, reasoning=20),
    ),
    (
        "gemini that stopped while thinking",
        "gcp.gemini",
        {"promptTokenCount": 10, "thoughtsTokenCount": 90, "totalTokenCount": 100},
        T(10, 90, reasoning=90),
    ),
    (
        "genai SDK in snake case",
        "gemini",
        {
            "prompt_token_count": 10,
            "candidates_token_count": 5,
            "thoughts_token_count": 7,
            "total_token_count": 22,
        },
        T(10, 12, reasoning=7),
    ),
    (
        "gemini's OpenAI endpoint leaves thoughts out of completion_tokens",
        "gemini",
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115},
        T(10, 105, reasoning=100),
    ),
    # --- Bedrock
    # ---------------------------------------------------------------------------------------------
    (
        "bedrock converse excludes the cache",
        "aws.bedrock",
        {
            "inputTokens": 3,
            "outputTokens": 12,
            "totalTokens": 13256,
            "cacheReadInputTokens": 13216,
            "cacheWriteInputTokens": 25,
        },
        T(13244, 12, cache_read=13216, cache_write_5m=25, flags=TTL),
    ),
    (
        "bedrock sends the cached count under two names: taken once",
        "aws.bedrock",
        {
            "inputTokens": 3,
            "outputTokens": 12,
            "totalTokens": 13231,
            "cacheReadInputTokens": 13216,
            "cacheReadInputTokenCount": 13216,
            "cacheWriteInputTokens": 0,
            "cacheWriteInputTokenCount": 0,
        },
        T(13219, 12, cache_read=13216),
    ),
    (
        "bedrock whose total shows the input to be inclusive",
        "aws.bedrock",
        {
            "inputTokens": 1000,
            "outputTokens": 100,
            "totalTokens": 1100,
            "cacheReadInputTokens": 400,
        },
        T(1000, 100, cache_read=400),
    ),
    (
        "bedrock TTL split",
        "aws.bedrock",
        {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 115,
            "cacheWriteInputTokens": 100,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 60}, {"ttl": "5m", "inputTokens": 40}],
        },
        T(110, 5, cache_write_5m=40, cache_write_1h=60),
    ),
    (
        "llama on bedrock",
        "aws.bedrock",
        {"prompt_token_count": 20, "generation_token_count": 9},
        T(20, 9),
    ),
    ("titan embeddings", "aws.bedrock", {"inputTextTokenCount": 8}, T(8, 0)),
    # --- the rest
    # ---------------------------------------------------------------------------------------------
    (
        "cohere bills units, not what the model saw",
        "cohere",
        {
            "billed_units": {"input_tokens": 5.0, "output_tokens": 40.0},
            "tokens": {"input_tokens": 71, "output_tokens": 42},
        },
        T(5, 40),
    ),
    (
        "cohere rerank bills searches",
        "cohere",
        {"billed_units": {"search_units": 2}},
        T(0, 0, search_units=2),
    ),
    (
        "cohere image embeddings",
        "cohere",
        {"billed_units": {"input_tokens": 3, "image_tokens": 512}},
        T(515, 0, input_image=512),
    ),
    (
        "mistral",
        "mistral",
        {"prompt_tokens": 16, "total_tokens": 50, "completion_tokens": 34},
        T(16, 34),
    ),
    (
        "deepseek",
        "deepseek",
        {
            "prompt_tokens": 100000,
            "completion_tokens": 2000,
            "total_tokens": 102000,
            "prompt_tokens_details": {"cached_tokens": 90000},
            "completion_tokens_details": {"reasoning_tokens": 500},
            "prompt_cache_hit_tokens": 90000,
            "prompt_cache_miss_tokens": 10000,
        },
        T(100000, 2000, cache_read=90000, reasoning=500),
    ),
    (
        "deepseek's older answer",
        "deepseek",
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 36,
        },
        T(100, 20, cache_read=64),
    ),
    (
        "openrouter",
        "openrouter",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "cost": 0.00642,
            "prompt_tokens_details": {"cached_tokens": 400},
        },
        T(1000, 300, cache_read=400),
    ),
    (
        "openrouter's cache writes have a TTL it doesn't tell",
        "openrouter",
        {
            "prompt_tokens": 1000,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 900},
        },
        T(1000, 3, cache_write_5m=900, flags=TTL),
    ),
    (
        "xai counts reasoning outside the completion",
        "xai",
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94},
        },
        T(32, 103, reasoning=94),
    ),
    (
        "perplexity deep research",
        "perplexity",
        {
            "prompt_tokens": 33,
            "completion_tokens": 7163,
            "total_tokens": 7196,
            "citation_tokens": 20016,
            "num_search_queries": 18,
            "reasoning_tokens": 203741,
        },
        T(33, 210904, reasoning=203741, web_searches=18, units=(("citation_token", 20016),)),
    ),
    (
        "moonshot",
        "moonshot",
        {"prompt_tokens": 19, "completion_tokens": 13, "cached_tokens": 10},
        T(19, 13, cache_read=10),
    ),
    ("voyage embeddings", "voyageai", {"total_tokens": 10}, T(10, 0)),
    (
        "voyage multimodal",
        None,
        {"text_tokens": 5, "image_pixels": 2000, "total_tokens": 10},
        T(5, 0, units=(("image_pixel", 2000),)),
    ),
    ("jina embeddings", "jina_ai", {"total_tokens": 10, "prompt_tokens": 10}, T(10, 0)),
    ("ollama chat", "ollama", {"prompt_eval_count": 26, "eval_count": 298}, T(26, 298)),
    (
        "ollama with a cached prompt leaves out the prompt count",
        "ollama",
        {"eval_count": 298},
        T(0, 298),
    ),
    (
        "an output that Ollama leaves out is not zero",
        "ollama",
        {"prompt_eval_count": 8},
        T(status="missing", flags=("split_not_reported",)),
    ),
    ("watsonx", "watsonx", {"input_token_count": 8, "generated_token_count": 3}, T(8, 3)),
    ("vertex embeddings", "vertex_ai", {"token_count": 8.0, "truncated": False}, T(8, 0)),
]


@pytest.mark.parametrize(
    ("provider", "raw", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_shape_is_read_exactly(provider, raw, expected):
    """The counts of every known shape land in the buckets the provider bills, and what was assumed
    is flagged.
    """
    assert read_usage(raw, provider=provider) == expected


@pytest.mark.parametrize(
    "bad", [-1, True, 1.5, "12", 2**40 + 1, float("nan"), float("inf"), [], {}]
)
@pytest.mark.parametrize(
    "shape",
    [
        {"prompt_tokens": 5, "completion_tokens": 5},
        {"input_tokens": 5, "output_tokens": 5},
        {"inputTokens": 5, "outputTokens": 5},
        {"promptTokenCount": 5, "candidatesTokenCount": 5},
        {"prompt_token_count": 5, "completion_tokens": 5},
    ],
    ids=lambda shape: next(iter(shape)),
)
def test_a_broken_count_is_invalid_and_never_a_number(shape, bad):
    """A negative, absurd, fractional or non-numeric count makes the usage invalid, with neither
    token count.
    """
    for key in shape:
        usage = read_usage({**shape, key: bad})
        assert (usage.status, usage.input, usage.output) == ("invalid", None, None)
        assert usage.flags == (f"bad_count:{key}",)


def test_an_operation_decides_a_missing_output():
    """An embedding has no output, so a lone input count is complete; for a chat it is not."""
    assert read_usage({"input_tokens": 7}, operation="embeddings") == TokenUsage(7, 0)
    assert read_usage({"input_tokens": 7}, operation="chat").status == "missing"


@pytest.mark.parametrize(
    ("raw", "usd"),
    [
        ({"cost": 0.00642}, "0.00642"),
        ({"cost": 0}, "0"),
        ({"cost": 1e-7}, "0.0000001"),
        ({"cost": "0.25"}, "0.25"),
        ({"cost": {"input_tokens_cost": 0.1, "total_cost": 0.5}}, "0.5"),
        ({"cost_in_usd_ticks": 37756000}, "0.0037756"),
        ({"cost": -1}, None),
        ({"cost": True}, None),
        ({"cost": "free"}, None),
        ({"cost": float("nan")}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_reported_cost_is_an_exact_decimal_or_nothing(raw, usd):
    """OpenRouter, Perplexity and xAI say what they charge.

    Anything that is no amount in USD is dropped.
    """
    assert reported_cost(raw) == usd


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("advisor_message", "unknown_usage:iterations.advisor_message"),
        ("\x1b[31m " + "x" * 400, None),
        ({"text": "said"}, "unknown_usage:iterations.type"),
    ],
    ids=["known", "hostile", "no text"],
)
def test_another_models_iteration_leaves_a_lower_bound(kind, flag):
    """What is ours stays counted; the flag names the kind, short and printable."""
    ours = {"type": "message", "input_tokens": 10, "output_tokens": 5}
    theirs = {"type": kind, "input_tokens": 100, "output_tokens": 50}
    raw = {"input_tokens": 10, "output_tokens": 5, "iterations": [ours, theirs]}
    usage = read_usage(raw, provider="anthropic")
    assert (usage.status, usage.input, usage.output) == ("reported", 10, 5)
    (said,) = usage.flags
    assert said == flag or (flag is None and said.isprintable() and len(said) < 120)
    assert " " not in said
