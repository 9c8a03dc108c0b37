"""What a bill holds beside plain tokens: regions, tiers, fees, time, pages and images."""

from __future__ import annotations

import pytest

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.charge import charge

_AT_NS = 1_795_262_400 * 10**9
BEDROCK = "bedrock-runtime.{}.amazonaws.com"


def _charge(book, provider, model, usage, **more):
    return charge(usage, book, provider=provider, model=model, at_ns=_AT_NS, **more)


@pytest.mark.parametrize(
    ("region", "usd", "status"),
    [
        ("eu-west-1", "0.0321", "priced"),  # 0.18 and 1.41 a million
        ("sa-east-1", "0.0325", "priced"),  # 0.18 and 1.45
        ("us-east-1", "0.027", "priced"),  # 0.15 and 1.20
        ("eu-central-1", "0.027", "lower_bound"),  # no row for this region
    ],
)
def test_bedrock_is_priced_by_the_region_of_its_host(book, region, usd, status):
    """A region's own row is the price; where only other regions have rows, the sum is a bound."""
    usage = TokenUsage(100_000, 10_000)
    model = "qwen.qwen3-next-80b-a3b"
    made = _charge(book, "aws.bedrock", model, usage, host=BEDROCK.format(region))
    assert (made.cost_pusd, made.status) == (round(float(usd) * 10**12), status)


def test_a_profile_over_several_regions_has_its_own_price(book):
    """``us.`` and ``eu.`` profiles are not priced by the region that they were called in."""
    usage = TokenUsage(1000, 100)
    model = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
    made = _charge(book, "aws.bedrock", model, usage, host=BEDROCK.format("eu-central-1"))
    assert (made.cost_pusd, made.status) == (4_950_000_000, "priced")


@pytest.mark.parametrize(
    ("tier", "usd"), [("fast", 0.15), ("standard", 0.075), (None, 0.075), ("batch", 0.0375)]
)
def test_anthropics_speed_is_a_tier(book, tier, usd):
    """Opus 4.8 in fast mode costs 10 and 50 USD a million, twice the standard price."""
    made = _charge(book, "anthropic", "claude-opus-4-8", TokenUsage(10_000, 1000), tier=tier)
    assert (made.cost_pusd, made.status) == (round(usd * 10**12), "priced")


def test_provisioned_throughput_is_not_billed_by_the_token(book):
    """Vertex says that it was paid for beforehand: the listed price is the most it can be."""
    usage = TokenUsage(1000, 100)
    made = _charge(book, "gcp.vertex_ai", "gemini-2.5-pro", usage, tier="PROVISIONED_THROUGHPUT")
    assert made.status == "upper_bound"


def test_azures_model_router_costs_besides_the_model(book):
    """1,000 x 0.25 + 300 x 2 + 1,000 x 0.14, a million each."""
    made = _charge(
        book,
        "azure.ai.openai",
        "model-router",
        TokenUsage(1000, 300),
        response_model="gpt-5-mini-2025-08-07",
    )
    assert (made.cost_pusd, made.status) == (990_000_000, "priced")
    assert [item.item for item in made.items] == ["input", "output", "model_router"]


def test_every_response_of_a_search_model_is_a_search(book):
    """100 x 2.5 + 500 x 10 a million, and 0.025 for the search."""
    made = _charge(
        book,
        "openai",
        "gpt-4o-search-preview",
        TokenUsage(100, 500),
        response_model="gpt-4o-search-preview-2025-03-11",
    )
    assert (made.cost_pusd, made.status) == (30_250_000_000, "priced")
    mini = _charge(book, "openai", "gpt-4o-mini-search-preview", TokenUsage(1000, 500))
    assert mini.cost_pusd == 25_450_000_000
    plain = _charge(book, "openai", "gpt-4o-mini", TokenUsage(1000, 500))
    assert plain.cost_pusd == 450_000_000


@pytest.mark.parametrize(
    ("size", "usd", "status"),
    [("low", 0.005, "priced"), ("high", 0.012, "priced"), (None, 0.012, "upper_bound")],
)
def test_perplexitys_fee_depends_on_the_search_context(book, size, usd, status):
    """1,000 tokens each way at 1 USD a million, and the fee of the size."""
    units = ((f"request:{size}", 1),) if size else ()
    made = _charge(book, "perplexity", "sonar", TokenUsage(1000, 1000, units=units))
    assert (made.cost_pusd, made.status) == (round((0.002 + usd) * 10**12), status)


UNITS = {
    "xAI's tools": (
        "x_ai",
        "grok-4-0709",
        TokenUsage(3834, 467, web_searches=2),
        28_507_000_000,
    ),
    "whisper by the second": (
        "openai",
        "whisper-1",
        TokenUsage(units=(("input_audio_ms", 60_000),)),
        6_000_000_000,
    ),
    "speech by the character": (
        "openai",
        "tts-1-hd",
        TokenUsage(units=(("character", 1000),)),
        30_000_000_000,
    ),
    "pages": ("mistral_ai", "mistral-ocr-2505", TokenUsage(units=(("page", 7),)), 7_000_000_000),
    "DALL-E 3 by quality and size": (
        "openai",
        "dall-e-3",
        TokenUsage(units=(("image:hd:1024x1792", 2),)),
        240_000_000_000,
    ),
    "Azure's DALL-E 3": (
        "azure.ai.openai",
        "dall-e-3",
        TokenUsage(units=(("image:standard:1024x1024", 1),)),
        40_000_000_000,
    ),
    "an image at one price": (
        "aws.bedrock",
        "stability.sd3-large-v1:0",
        TokenUsage(units=(("image:standard:1024x1024", 3),)),
        240_000_000_000,
    ),
    "an image by its size": (
        "aws.bedrock",
        "amazon.titan-image-generator-v1",
        TokenUsage(units=(("image:standard:512x512", 3),)),
        24_000_000_000,
    ),
    "images counted in tokens": (
        "openai",
        "gpt-image-1.5",
        TokenUsage(943, 1000, output_image=1000, units=(("image:high:1024x1024", 1),)),
        36_715_000_000,
    ),
}


@pytest.mark.parametrize(("provider", "model", "usage", "pusd"), UNITS.values(), ids=UNITS)
def test_units_beside_tokens_are_priced(book, provider, model, usage, pusd):
    """Time, characters, pages and images have prices of their own."""
    made = _charge(book, provider, model, usage)
    assert (made.cost_pusd, made.status) == (pusd, "priced")
