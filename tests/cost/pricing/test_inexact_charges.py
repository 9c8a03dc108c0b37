"""What makes a charge a bound, and whose figure is booked."""

from __future__ import annotations

import pytest

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.charge import charge
from crewmeter_cost.pricing.price_book import PriceBook

_AT_NS = 1_763_726_400_000_000_000


def _charge(book, usage, *, provider="openai", model="gpt-4o", **more):
    return charge(usage, book, provider=provider, model=model, at_ns=_AT_NS, **more)


def test_a_usage_key_nobody_knows_makes_the_charge_a_lower_bound(book):
    """An unknown key may be billed: what was understood is the least that the call cost."""
    usage = TokenUsage(1000, 300, flags=("unknown_usage:usage.cortex_tokens",))
    outcome = _charge(book, usage)
    assert (outcome.cost_pusd, outcome.status) == (5_500_000_000, "lower_bound")
    assert outcome.flags == ("unknown_usage:usage.cortex_tokens",)


def test_a_unit_without_a_price_makes_the_charge_a_lower_bound(book):
    """A fee that the book does not list is named by the flag."""
    outcome = _charge(book, TokenUsage(1000, 300, units=(("code_execution", 2),)))
    assert (outcome.cost_pusd, outcome.status) == (5_500_000_000, "lower_bound")
    assert outcome.flags == ("code_execution_rate_missing",)


def test_audio_is_charged_by_the_hour(book):
    """90 s of audio at 0.111 USD an hour are 0.002775 USD."""
    usage = TokenUsage(units=(("input_audio_ms", 90_000),))
    outcome = _charge(book, usage, provider="groq", model="whisper-large-v3")
    assert (outcome.status, outcome.cost_pusd) == ("priced", 2_775_000_000)


def test_a_reported_cost_fills_an_inexact_one(book):
    """Where ours is a bound and the provider says what it billed, its word is the charge."""
    usage = TokenUsage(1000, 300, flags=("unknown_usage:usage.x",))
    outcome = _charge(book, usage, reported_cost_usd="0.0061")
    assert (outcome.cost_pusd, outcome.status) == (6_100_000_000, "provider_reported")


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        # LiteLLM lists a dearer input and a cheaper output: neither floor nor ceiling.
        ("deepseek", "deepseek-chat", "estimated"),
        # Cheaper in both.
        ("ovhcloud", "mixtral-8x7b-instruct-v0.1", "upper_bound"),
        # A fiftieth of a percent is rounding, a percent is another price.
        ("cloudflare", "@cf/zai-org/glm-4.7-flash", "lower_bound"),
        # One list calls what a model speaks output, the other output audio.
        ("openai", "gpt-4o-mini-tts", "priced"),
        # LiteLLM's other price is Vertex AI's.
        ("gcp.gemini", "gemini-2.0-flash", "priced"),
        ("gcp.vertex_ai", "gemini-2.0-flash", "lower_bound"),
    ],
)
def test_lists_that_contradict_each_other_make_a_charge_inexact(book, provider, model, expected):
    """The direction holds for whatever a call used, and other sellers' prices say nothing."""
    outcome = _charge(book, TokenUsage(100, 1_000_000), provider=provider, model=model)
    assert outcome.status == expected
    assert ("sources_disagree" in outcome.flags) == (expected != "priced")


def test_a_report_of_nothing_makes_no_ceiling_of_a_floor(book):
    """The user's own key at OpenRouter: its 0 says nothing of what the maker bills."""
    usage = TokenUsage(1000, 300, flags=("unknown_usage:is_byok",))
    outcome = _charge(
        book, usage, provider="openrouter", model="openai/gpt-4o", reported_cost_usd="0"
    )
    assert outcome.status == "lower_bound"
    assert "reported_divergence" in outcome.flags


@pytest.mark.parametrize(
    ("choice", "expected"), [("book", "provider_reported"), ("compare", "lower_bound")]
)
def test_the_user_chooses_whose_figure_is_booked(tmp_path, choice, expected):
    """``[reported] openai = "book"`` books the provider's figure also where ours differs."""
    path = tmp_path / "prices.toml"
    path.write_text(f'[reported]\nopenai = "{choice}"\n')
    outcome = _charge(PriceBook.load(path), TokenUsage(1000, 300), reported_cost_usd="0.0066")
    assert outcome.status == expected
    assert "reported_divergence" in outcome.flags
