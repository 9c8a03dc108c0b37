"""Reports of one answer are put together without loss, and no answer whatever does harm."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crewmeter.providers.answer_body import read_body
from crewmeter.providers.registry import PROTOCOLS
from crewmeter.providers.response_facts import ResponseFacts
from crewmeter.usage.attributes import usage_attributes, usage_from_attributes
from crewmeter.usage.token_usage import TokenUsage

PROTOCOL = {protocol.name: protocol for protocol in PROTOCOLS}
CLAUDE = {"input_tokens": 1500, "cache_read_input_tokens": 0, "output_tokens": 1}


def facts_of(protocol, *answers, provider=None, model="m", operation="chat"):
    """Facts after these answers, or events of a stream."""
    facts = ResponseFacts(
        PROTOCOL[protocol],
        operation=operation,
        provider=provider or PROTOCOL[protocol].provider,
        request_model=lambda: model,
    )
    for answer in answers:
        facts.read(answer)
    return facts


# (what it is, protocol, provider, events, usage): a later report never lowers a count
MERGES = [
    (
        "a delta that says zero again",
        "anthropic",
        None,
        [
            {"type": "message_start", "message": {"usage": CLAUDE}},
            {"type": "message_delta", "usage": {"input_tokens": 0, "output_tokens": 300}},
        ],
        TokenUsage(1500, 300),
    ),
    (
        "a delta that leaves the cache out",
        "anthropic",
        None,
        [
            {
                "type": "message_start",
                "message": {
                    "usage": {
                        **CLAUDE,
                        "cache_read_input_tokens": 400,
                        "cache_creation_input_tokens": 30,
                        "cache_creation": {
                            "ephemeral_5m_input_tokens": 10,
                            "ephemeral_1h_input_tokens": 20,
                        },
                    }
                },
            },
            {
                "type": "message_delta",
                "usage": {
                    "cache_read_input_tokens": 0,
                    "cache_creation_input_tokens": 0,
                    "cache_creation": {
                        "ephemeral_5m_input_tokens": 0,
                        "ephemeral_1h_input_tokens": 0,
                    },
                    "output_tokens": 300,
                },
            },
        ],
        TokenUsage(1930, 300, cache_read=400, cache_write_5m=10, cache_write_1h=20),
    ),
    (
        "running totals, the last without the cached part",
        "gemini",
        None,
        [
            {
                "usageMetadata": {
                    "promptTokenCount": 9,
                    "cachedContentTokenCount": 4,
                    "candidatesTokenCount": 2,
                    "totalTokenCount": 11,
                    "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}],
                    "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 9}],
                }
            },
            {
                "usageMetadata": {
                    "promptTokenCount": 9,
                    "candidatesTokenCount": 7,
                    "totalTokenCount": 16,
                    "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 0}],
                }
            },
        ],
        TokenUsage(9, 7, cache_read=4, cache_read_audio=4, input_audio=9),
    ),
    (
        "chunks that count on, and one that starts again",
        "openai",
        "x_ai",
        [
            {"usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}},
            {"usage": {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17}},
            {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
        ],
        TokenUsage(9, 8),
    ),
    (
        "details that a later chunk leaves out",
        "openai",
        "openai",
        [
            {
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 1,
                    "prompt_tokens_details": {"cached_tokens": 4},
                }
            },
            {"usage": {"prompt_tokens": 9, "completion_tokens": 8, "prompt_tokens_details": {}}},
        ],
        TokenUsage(9, 8, cache_read=4),
    ),
]


@pytest.mark.parametrize("case", MERGES, ids=lambda case: case[0])
def test_a_later_report_never_lowers_a_count(case):
    """Whichever key says less later, the greatest count of it stands."""
    _, protocol, provider, events, usage = case
    assert facts_of(protocol, *events, provider=provider).usage == usage


# (what it is, protocol, provider, answer, what to look at, what it must be)
DIMENSIONS = [
    (
        "the sum of the iterations is the bill",
        "anthropic",
        None,
        {
            "usage": {
                **CLAUDE,
                "input_tokens": 10,
                "output_tokens": 5,
                "iterations": [
                    {"type": "compaction", "input_tokens": 1000, "output_tokens": 100},
                    {
                        "type": "message",
                        "input_tokens": 10,
                        "output_tokens": 5,
                        "cache_read_input_tokens": 7,
                    },
                ],
            }
        },
        "usage",
        TokenUsage(1017, 105, cache_read=7),
    ),
    (
        "the fast price list",
        "anthropic",
        None,
        {"usage": {**CLAUDE, "speed": "fast", "service_tier": "standard"}},
        "service_tier",
        "fast",
    ),
    (
        "a region of inference with a surcharge",
        "anthropic",
        None,
        {"usage": {**CLAUDE, "inference_geo": "us"}},
        "usage",
        TokenUsage(1500, 1, flags=("us_inference",)),
    ),
    (
        "provisioned throughput",
        "gemini",
        None,
        {
            "usageMetadata": {
                "promptTokenCount": 1,
                "candidatesTokenCount": 1,
                "trafficType": "PROVISIONED_THROUGHPUT",
            }
        },
        "service_tier",
        "provisioned",
    ),
    (
        "a tier that nobody knows",
        "gemini",
        None,
        {
            "usageMetadata": {
                "promptTokenCount": 1,
                "candidatesTokenCount": 1,
                "trafficType": "ON_DEMAND_LUNAR",
            }
        },
        "usage",
        TokenUsage(1, 1, flags=("unknown_usage:tier.ON_DEMAND_LUNAR",)),
    ),
    (
        "grounding with maps",
        "gemini",
        None,
        {
            "candidates": [
                {"groundingMetadata": {"groundingChunks": [{"maps": {"placeId": "p"}}]}}
            ],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1},
        },
        "usage",
        TokenUsage(1, 1, units=(("maps_grounding", 1),)),
    ),
    (
        "xAI's own tools, counted in its usage and not twice",
        "responses",
        "x_ai",
        {
            "output": [{"type": "web_search_call"}, {"type": "x_search_call"}],
            "usage": {
                "input_tokens": 9,
                "output_tokens": 1,
                "server_side_tool_usage_details": {"web_search_calls": 1, "x_search_calls": 2},
            },
        },
        "usage",
        TokenUsage(9, 1, web_searches=1, units=(("x_search", 2),)),
    ),
    (
        "a search of files has a fee",
        "responses",
        "openai",
        {
            "output": [{"type": "file_search_call"}, {"type": "function_call"}],
            "usage": {"input_tokens": 9, "output_tokens": 1},
        },
        "usage",
        TokenUsage(9, 1, units=(("storage_search", 1),)),
    ),
    (
        "a kind of output that nobody knows",
        "responses",
        "openai",
        {
            "output": [{"type": "hologram_call"}],
            "usage": {"input_tokens": 9, "output_tokens": 1},
        },
        "usage",
        TokenUsage(9, 1, flags=("unknown_usage:output.hologram_call",)),
    ),
    (
        "a key of the answer that reads like a bill's",
        "openai",
        "openai",
        {
            "usage": {"prompt_tokens": 9, "completion_tokens": 1},
            "premium_tier_surcharge": 3,
        },
        "usage",
        TokenUsage(9, 1, flags=("unknown_usage:response.premium_tier_surcharge",)),
    ),
    (
        "a fee and the bill of a key of one's own",
        "openai",
        "openrouter",
        {
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "cost": 0.0001,
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": 0.002},
            }
        },
        "reported_cost_usd",
        "0.0021",
    ),
    (
        "nothing but the upstream cost",
        "openai",
        "openrouter",
        {
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "cost": 0,
                "cost_details": {"upstream_inference_cost": 0.002},
            }
        },
        "reported_cost_usd",
        "0.002",
    ),
    (
        "DeepInfra's estimate",
        "openai",
        "deepinfra",
        {"usage": {"prompt_tokens": 9, "completion_tokens": 1, "estimated_cost": 0.000123}},
        "reported_cost_usd",
        "0.000123",
    ),
    (
        "Vercel's gateway",
        "openai",
        "vercel_ai_gateway",
        {
            "usage": {"prompt_tokens": 9, "completion_tokens": 1},
            "provider_metadata": {"gateway": {"cost": "0.0012"}},
        },
        "reported_cost_usd",
        "0.0012",
    ),
    (
        "pages read by OCR",
        "mistral_ocr",
        None,
        {"pages": [], "usage_info": {"pages_processed": 29, "doc_size_bytes": 5}},
        "usage",
        TokenUsage(units=(("page", 29),)),
    ),
    (
        "pages read with an annotation",
        "mistral_ocr",
        None,
        {"document_annotation": "{}", "usage_info": {"pages_processed": 2}},
        "usage",
        TokenUsage(units=(("annotated_page", 2),)),
    ),
    (
        "images made by Imagen, those filtered out aside",
        "vertex_images",
        None,
        {"predictions": [{"bytesBase64Encoded": "aGk="}, {"raiFilteredReason": "x"}]},
        "usage",
        TokenUsage(units=(("image", 1),)),
    ),
]


@pytest.mark.parametrize("case", DIMENSIONS, ids=lambda case: case[0])
def test_what_the_price_depends_on_is_read(case):
    """Tiers, fees, regions and stated costs, where each provider puts them."""
    _, protocol, provider, answer, name, expected = case
    assert getattr(facts_of(protocol, answer, provider=provider), name) == expected


def test_each_answer_of_a_search_model_costs_a_search():
    """gpt-5-search-api searches for every answer (platform.openai.com/docs/pricing)."""
    answer = {"choices": [{}], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}
    facts = facts_of("openai", answer, model="gpt-5-search-api")
    assert facts.usage == TokenUsage(9, 1, web_searches=1)


KEYS = st.sampled_from(
    """usage usageMetadata id model choices output type status error candidates predictions
    embeddings statistics tokenCount prompt_tokens completion_tokens total_tokens input_tokens
    output_tokens iterations cache_creation speed inference_geo trafficType promptTokenCount
    promptTokensDetails modality groundingMetadata groundingChunks maps webSearchQueries content
    service_tier serviceTier billed_units meta delta response message usage_info pages_processed
    data seconds duration x_groq cost cost_details is_byok server_tool_use tokens interaction steps
    amazon-bedrock-invocationMetrics inputTokens cacheDetails totalTokens incomplete_details
    provider_metadata gateway results input_token_count brand_new""".split()  # noqa: SIM905
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5000),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.sampled_from(["message_start", "response.completed", "queued", "AUDIO", "server_tool_use"]),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(), inner, max_size=5)
    ),
    max_leaves=25,
)
ANSWERS = st.lists(st.dictionaries(KEYS, JSON, max_size=6), min_size=1, max_size=3)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.mostly_slow("openai", "anthropic")
@pytest.mark.parametrize("protocol", sorted(PROTOCOL))
@given(answers=ANSWERS)
@QUICK
def test_no_answer_whatever_raises(protocol, answers):
    """Any JSON gives facts that are bounded, printable, and fit for a span."""
    facts = facts_of(protocol, *answers)
    usage = facts.usage
    assert usage.status in ("reported", "missing", "invalid", "estimated")
    assert len(usage.flags) <= 24
    assert all(flag.isprintable() and len(flag) <= 120 for flag in usage.flags)
    assert all(0 <= number <= 2**40 for _, number in usage.units)
    for name in (facts.response_id, facts.response_model, facts.service_tier, facts.error_type):
        assert name is None or len(name) <= 300
    if usage.status == "reported":
        again = usage_from_attributes(usage_attributes(usage), facts.operation)
        assert (again.input, again.output, again.units) == (usage.input, usage.output, usage.units)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"usage": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}",
        b'{"usage": {"prompt_tokens": 1e400, "completion_tokens": 1}}',
        json.dumps({"usage": {"prompt_tokens": 1, "k" * 10_000: {"x" * 500: 7}}}).encode(),
        json.dumps({"usage": {f"k{number}": number for number in range(5000)}}).encode(),
    ],
    ids=range(10),
)
def test_a_hostile_body_costs_its_figure_and_no_more(body):
    """Nested, huge, cut or empty: no exception, no exact figure, nothing long."""
    facts = facts_of("openai")
    read_body(facts, body)
    flags = "".join(facts.usage.flags)
    assert facts.usage.status != "reported" or "unknown_usage:" in flags
    assert len(flags) < 1000
