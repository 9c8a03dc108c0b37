"""Where a rate, a tier or a provider is not known, the charge says so: each guard by its flag."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal

import pytest
from support.patience import patience

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.charge import Charge, Unpriced, charge, charge_call, items_of
from crewmeter_cost.pricing.charge_result import FrozenRates
from crewmeter_cost.records import Call

NOW = 1_795_262_400 * 10**9  # 2026-11-21T12:00Z
PLAIN = TokenUsage(1000, 300)


def priced(book, provider, model, usage=PLAIN, **how):
    """A charge at noon of the reference day."""
    return charge(usage, book, provider=provider, model=model, **{"at_ns": NOW, **how})


GUARDS = [
    ("openai", "gpt-4-turbo", TokenUsage(1000, 300, 400), "upper_bound", "cache_read_rate_missing"),
    ("openai", "gpt-4o", TokenUsage(1000, 300, 0, 400), "lower_bound", "cache_write_rate_missing"),
    (
        "openai",
        "gpt-5.6",
        TokenUsage(1000, 300, 0, 0, 400),
        "lower_bound",
        "cache_write_1h_rate_missing",
    ),
    (
        "openai",
        "gpt-4o",
        TokenUsage(1000, 300, input_audio=100),
        "lower_bound",
        "audio_rate_missing",
    ),
    (
        "openai",
        "gpt-4o",
        TokenUsage(1000, 300, output_audio=100),
        "lower_bound",
        "audio_rate_missing",
    ),
    (
        "openai",
        "gpt-4o",
        TokenUsage(1000, 300, output_image=100),
        "lower_bound",
        "image_rate_missing",
    ),
    (
        "groq",
        "llama-3.3-70b-versatile",
        TokenUsage(1000, 300, web_searches=1),
        "lower_bound",
        "web_search_rate_missing",
    ),
    ("openai", "gpt-4o", TokenUsage(1000, None), "lower_bound", "output_not_reported"),
    ("openai", "gpt-4o", TokenUsage(None, 300), "lower_bound", "input_not_reported"),
    ("openai", "text-embedding-3-small", PLAIN, "lower_bound", "output_rate_missing"),
    (
        "gemini",
        "gemini-2.5-flash",
        TokenUsage(1000, 300, 400, input_audio=300),
        "upper_bound",
        "cached_modality_not_reported",
    ),
    (
        "azure",
        "gpt-4o",
        replace(PLAIN, flags=("cached_not_reported",)),
        "upper_bound",
        "cached_not_reported",
    ),
]


@pytest.mark.parametrize(("provider", "model", "usage", "status", "flag"), GUARDS)
def test_a_missing_rate_is_said(book, provider, model, usage, status, flag):
    """Tokens without a rate of their own make the sum a bound, and the flag names which."""
    outcome = priced(book, provider, model, usage)
    assert (outcome.status, flag in outcome.flags) == (status, True), outcome


def test_cached_audio_is_billed_as_cached_where_it_must_be(book):
    """More audio and cached tokens than input: the overlap was cached audio.

    Gemini's rates: cached audio 0.1, audio 1, cached text 0.03, text 0.3.
    """
    outcome = priced(book, "gemini", "gemini-2.5-flash", TokenUsage(1000, 0, 800, input_audio=500))
    assert {item.item: item.quantity for item in outcome.items} == {
        "cache_read": 500,
        "input_audio": 200,
        "cache_audio_read": 300,
    }
    assert outcome.cost_pusd == 500 * 30_000 + 200 * 1_000_000 + 300 * 100_000


@pytest.mark.parametrize(
    ("tier", "status"),
    [
        ("flex", "upper_bound"),
        ("batch", "upper_bound"),
        ("priority", "lower_bound"),
        ("turbo", "lower_bound"),
    ],
)
def test_an_unknown_tier_is_not_the_standard_one(book, tier, status):
    """A tier without a price of its own: the standard price as a bound, flagged.

    Batch and flex are never dearer.
    """
    outcome = priced(book, "groq", "llama-3.3-70b-versatile", tier=tier)
    assert (outcome.status, outcome.flags, outcome.cost_pusd) == (
        status,
        ("tier_assumed",),
        1000 * 590_000 + 300 * 790_000,
    )


@pytest.mark.parametrize(
    "tier", [None, "", "default", "standard", "on_demand", "ON_DEMAND", "auto"]
)
def test_standard_tiers_are_priced(book, tier):
    """What providers call their ordinary tier changes nothing."""
    assert priced(book, "openai", "gpt-5", tier=tier).status == "priced"


def test_a_tier_price_does_not_reach_back(book):
    """The catalogue knows flex prices from 2026-10-12 on.

    Before, the standard price is a ceiling.
    """
    outcome = priced(book, "openai", "gpt-5", tier="flex", at_ns=NOW - 60 * 86_400 * 10**9)
    assert (outcome.status, outcome.flags) == ("upper_bound", ("tier_assumed",))


def test_a_tier_is_its_own_providers(book):
    """Azure resells OpenAI's models, not OpenAI's tiers."""
    assert priced(book, "azure", "gpt-5", tier="flex").flags == ("tier_assumed",)


@pytest.mark.parametrize(
    ("provider", "model", "host", "status", "seller"),
    [
        ("openai", "gpt-4o", "api.groq.com", "unknown_model", "groq"),
        ("openai", "llama-3.3-70b-versatile", "api.groq.com", "priced", "groq"),
        ("anthropic", "gpt-4o", "eu.api.openai.com", "priced", "openai"),
        (None, "gpt-4o", "me.openai.azure.com", "priced", "azure.ai.openai"),
        ("openai", "gpt-4o", "llm.corp.example", "priced", "openai"),
        ("openai", "corp-model", "llm.corp.example", "unknown_model", "openai"),
        (None, "gpt-4o", "llm.corp.example", "unknown_model", None),
        (None, "groq/llama-3.3-70b-versatile", None, "priced", "groq"),
        (
            "litellm",
            "bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            None,
            "priced",
            "aws.bedrock",
        ),
    ],
)
def test_the_host_decides_the_provider(book, provider, model, host, status, seller):
    """A known host outweighs the declared provider; behind an unknown one the declared is assumed.

    Without either, LiteLLM's prefix.
    """
    outcome = priced(book, provider, model, host=host)
    assert (outcome.status, outcome.provider) == (status, seller), outcome
    assert ("provider_assumed" in outcome.flags) == (
        host == "llm.corp.example" and provider is not None
    )


def test_the_response_names_the_model_that_was_billed(book):
    """The response's model wins where it resolves.

    But Bedrock's profile and OpenRouter's variant are what was requested for.
    """
    assert (
        priced(book, "openai", "gpt-4o", response_model="gpt-4o-mini-2024-07-18").model
        == "gpt-4o-mini"
    )
    assert (
        priced(book, "azure", "my-deployment", response_model="gpt-4o-2024-08-06").model == "gpt-4o"
    )
    assert priced(book, "openai", "gpt-4o", response_model="something-inside").model == "gpt-4o"
    regional = priced(
        book,
        "bedrock",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        response_model="claude-sonnet-4-5-20250929",
    )
    assert regional.items[0].rate_usd == "0.0000033"
    free = priced(
        book, "openrouter", "google/gemma-3-27b-it:free", response_model="google/gemma-3-27b-it"
    )
    assert isinstance(free, Unpriced) or free.model.endswith(":free"), free


def test_a_region_that_only_global_prices_list_is_dearer_by_a_tenth(book):
    """Bedrock bills geographic profiles 10 % above global ones.

    The charge says that it added them.
    """
    outcome = priced(book, "bedrock", "me.openai.gpt-5.6-sol")
    worldwide = priced(book, "bedrock", "global.openai.gpt-5.6-sol")
    regional = priced(book, "bedrock", "us.openai.gpt-5.6-sol")
    assert regional.cost_pusd * 10 == worldwide.cost_pusd * 11
    assert outcome.cost_pusd * 10 == worldwide.cost_pusd * 11, outcome


@pytest.mark.parametrize(
    ("provider", "model", "host", "dearer"),
    [
        ("openai", "gpt-5.5", "eu.api.openai.com", True),
        ("openai", "gpt-5.5", "api.openai.com", False),
        ("openai", "gpt-4o", "eu.api.openai.com", False),
        ("vertex_ai", "claude-sonnet-4-5@20250929", "us-east5-aiplatform.googleapis.com", True),
        ("vertex_ai", "claude-sonnet-4-5@20250929", "aiplatform.googleapis.com", False),
        ("vertex_ai", "claude-3-7-sonnet@20250219", "us-east5-aiplatform.googleapis.com", False),
    ],
)
def test_regional_endpoints_are_dearer_where_they_are(book, provider, model, host, dearer):
    """Data residency at OpenAI and regional endpoints at Vertex AI add a tenth for the models that
    have it, and the charge says so.
    """
    here, worldwide = priced(book, provider, model, host=host), priced(book, provider, model)
    assert here.cost_pusd * 10 == worldwide.cost_pusd * (11 if dearer else 10)
    assert ("regional_uplift" in here.flags) == dearer


def test_what_the_provider_reports_is_stored_beside(book):
    """A reported cost that rounding explains is agreement; beyond, a flag.

    Without a computed cost, the charge itself.
    """
    agreed = priced(book, "openai", "gpt-4o", reported_cost_usd="0.0055004")
    assert (agreed.cost_pusd, agreed.flags) == (5_500_000_000, ())
    apart = priced(book, "openai", "gpt-4o", reported_cost_usd="0.0066")
    assert (apart.cost_pusd, apart.status, apart.flags) == (
        5_500_000_000,
        "lower_bound",
        ("reported_divergence",),
    )
    alone = priced(book, "openrouter", "acme/secret", reported_cost_usd="0.0012345678901235")
    assert (alone.cost_pusd, alone.status, alone.source) == (
        1_234_567_890,
        "provider_reported",
        "provider",
    )
    assert book.frozen(alone.version).source == "provider"
    missing = priced(
        book, "openai", "gpt-4o", TokenUsage(status="missing"), reported_cost_usd="0.25"
    )
    assert (missing.cost_pusd, missing.status, missing.flags) == (
        250_000_000_000,
        "provider_reported",
        ("usage_missing",),
    )


@pytest.mark.parametrize("reported", ["-1", "NaN", "Infinity", "five", "", "1e99", "9999999"])
def test_a_reported_cost_that_is_none_changes_nothing(book, reported):
    """Garbage in the provider's cost is flagged and left out."""
    outcome = priced(book, "openai", "gpt-4o", reported_cost_usd=reported)
    assert (outcome.cost_pusd, outcome.flags) == (5_500_000_000, ("reported_cost_invalid",))
    assert priced(book, "openai", "no-such", reported_cost_usd=reported).status == "unknown_model"


def test_usage_that_nobody_reported_has_no_cost(book):
    """Missing is not zero, and says whose."""
    outcome = priced(book, "openai", "gpt-4o", TokenUsage(status="missing", flags=("rejected",)))
    assert (outcome.status, outcome.flags, "gpt-4o" in outcome.reason) == (
        "usage_missing",
        ("rejected",),
        True,
    )


@pytest.mark.parametrize("status", ["estimated", "reconciled"])
def test_estimates_stay_estimates(book, status):
    """A charge on estimated or reconciled counts says so whatever else is true of it."""
    assert priced(book, "openai", "gpt-4o", replace(PLAIN, status=status)).status == status


BAD = [
    TokenUsage(-1, 3),
    TokenUsage(3, -1),
    TokenUsage(10, 10, -5),
    TokenUsage(2**41, 1),
    TokenUsage(10, 10, 4, 4, 4),
    TokenUsage(10, 10, input_audio=11),
    TokenUsage(10, 10, output_image=11),
    TokenUsage(10, 10, web_searches=-1),
    TokenUsage(status="invalid"),
]


@pytest.mark.parametrize("usage", BAD)
def test_impossible_usage_has_no_cost(book, usage):
    """Counts below zero, absurd ones, and parts exceeding their whole are invalid."""
    assert priced(book, "openai", "gpt-4o", usage).status == "invalid_usage"


@pytest.mark.parametrize(
    "name", ["gpt-4o\n", "gpt\x00-4o", "\x1b[31mgpt-4o", "gpt-4o\u202e", "x" * 600]
)
def test_a_name_with_control_characters_is_flagged(book, name):
    """Such a name is no model.

    It is flagged, displayed escaped, and never priced (a trailing line break is only white space).
    """
    outcome = priced(book, "openai", name)
    if name.strip() == "gpt-4o":
        assert outcome.status == "priced"
    else:
        assert (outcome.status, outcome.flags, outcome.reason.isprintable()) == (
            "unknown_model",
            ("model_name_invalid",),
            True,
        )


@pytest.mark.parametrize("name", [None, "", "   "])
def test_no_name_no_price(book, name):
    """A call that names no model has none."""
    assert priced(book, "openai", name).status == "unknown_model"


def test_rerankers_are_billed_by_search_unit(book):
    """LiteLLM lists them at 0 per token.

    The price is per search unit, and a request is at least one.
    """
    three = priced(
        book, "cohere", "rerank-v3.5", TokenUsage(None, None, search_units=3), operation="rerank"
    )
    assert (three.cost_pusd, three.source, three.flags) == (
        6_000_000_000,
        "litellm",
        ("litellm_price",),
    )
    unsaid = priced(book, "cohere", "rerank-v3.5", TokenUsage(400, 0), operation="rerank")
    assert (unsaid.cost_pusd, unsaid.status) == (2_000_000_000, "lower_bound")
    chat = priced(book, "cohere", "rerank-v3.5", PLAIN)
    assert isinstance(chat, Unpriced)
    assert "search_unit" in chat.reason


def test_models_on_ones_own_machine_have_no_price_unless_declared(book):
    """Ollama and vLLM: no price, and the way to declare one."""
    outcome = priced(book, "ollama", "llama3.3")
    assert outcome.status == "unknown_model"
    assert "[[free]]" in outcome.reason


def test_lines_can_be_had_again_from_the_frozen_rates(book):
    """A price version alone gives an old charge's lines back, to the pico-dollar, whatever the
    book says by then.
    """
    for provider, model, usage in [
        ("openai", "gpt-5.6", TokenUsage(300_000, 900, 5, 7)),
        ("perplexity", "sonar-pro", TokenUsage(9, 9, web_searches=0)),
    ]:
        outcome = priced(book, provider, model, usage)
        frozen = book.frozen(outcome.version)
        assert items_of(usage, FrozenRates(*frozen)) == outcome.items
    assert items_of(TokenUsage(status="missing"), frozen) == ()


def test_a_version_is_the_content_of_its_rates(book):
    """The same rates have one hash whatever was assumed to find them.

    Another tier or date has another.
    """
    dated, plain = (
        priced(book, "anthropic", "claude-sonnet-4-5-20250929"),
        priced(book, "anthropic", "claude-sonnet-4-5"),
    )
    assert dated.version == plain.version
    assert dated.flags == ("matched_date_suffix",)
    assert plain.version != priced(book, "anthropic", "claude-sonnet-4-5", tier="batch").version
    assert (
        priced(book, "openai", "gpt-5.6").version
        != priced(book, "openai", "gpt-5.6", at_ns=NOW - 200 * 86_400 * 10**9).version
    )
    with pytest.raises(KeyError):
        book.frozen("nothing")


def test_a_call_is_priced_at_the_moment_it_started(book):
    """`charge_call` takes its moment, tier, host and reported cost from the call."""
    call = Call(
        "t",
        "s",
        None,
        NOW,
        NOW + 10**9,
        "chat",
        "openai",
        None,
        "gpt-5",
        "gpt-5-2025-08-07",
        None,
        PLAIN,
        False,
        None,
        "stop",
        "priority",
        "1",
        None,
        "event",
        "crewmeter",
    )
    outcome = charge_call(call, book)
    assert isinstance(outcome, Charge)
    assert (Decimal(outcome.cost_pusd).scaleb(-12), outcome.flags) == (
        Decimal("0.0085"),
        ("reported_divergence",),
    )


def test_a_million_names_do_not_grow_the_book(book):
    """Made-up model names are forgotten again: what the book remembers is bounded."""
    start = time.monotonic()
    for number in range(9_000):
        priced(book, "openai", f"made-up-{number}")
    assert len(book._histories) <= 8192
    assert time.monotonic() - start < patience(30)


def test_audio_without_any_text_rate_is_billed_alone(book):
    """Nothing is charged for units that have no rate, and the charge says which."""
    spoken = priced(book, "openai", "gpt-4o-transcribe", TokenUsage(1000, 50, input_audio=900))
    assert {item.item: item.quantity for item in spoken.items} == {
        "input": 100,
        "input_audio": 900,
        "output": 50,
    }
    listened = priced(book, "openai", "whisper-1")
    assert (listened.status, "audio_hour" in listened.reason) == ("unknown_model", True)


@pytest.mark.parametrize("model", ["gpt-4o", "who-knows", None])
def test_an_unknown_endpoint_has_no_price(book, model):
    """A request that no protocol knows may cost anything: no figure, and a reason of its own."""
    usage = TokenUsage(status="missing", flags=("unrouted",))
    outcome = priced(book, "openai", model, usage)
    assert isinstance(outcome, Unpriced)
    assert outcome.status == "unrouted"
