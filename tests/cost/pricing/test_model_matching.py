"""A model name finds its price exactly, or by a rule that the charge names.

Never by a lucky prefix.
"""

from __future__ import annotations

import pytest

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.charge import Charge, Unpriced, charge
from crewmeter_cost.pricing.model_matching import RULES

NOW = 1_795_262_400 * 10**9

MATCHED = [
    ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5", "date_suffix"),
    ("anthropic", "claude-sonnet-4-5@20250929", "claude-sonnet-4-5", "date_suffix"),
    ("anthropic", "claude-3-7-sonnet-latest", "claude-3-7-sonnet-latest", None),
    ("anthropic", "claude-opus-4-5-latest", "claude-opus-4-5", "latest_alias"),
    ("openai", "gpt-4o-2024-08-06", "gpt-4o", None),
    ("openai", "openai/gpt-4o", "gpt-4o", None),
    ("openai", "GPT-4o", "gpt-4o", None),
    ("openai", "gpt-5.2-20251211", "gpt-5.2", "date_suffix"),
    ("openai", "ft:gpt-4o-mini-2024-07-18:acme::Ab", "ft:gpt-4o-mini", "fine_tuned"),
    ("openai", "ft:gpt-4-0613:acme::Ab", "gpt-4", "fine_tuned"),
    ("openai", "gpt-4o-mini-2024-07-18.ft-abc", "gpt-4o-mini-2024-07-18.ft-", "fine_tuned"),
    ("gemini", "models/gemini-2.5-flash", "gemini-2.5-flash", "routing_prefix"),
    ("gemini", "gemini/gemini-2.5-pro-preview-05-06", "gemini-2.5-pro", "preview"),
    ("gemini", "gemini-1.5-pro-002", "gemini-1.5-pro", "stable_version"),
    (
        "vertex_ai",
        "projects/p/locations/us/publishers/google/models/gemini-2.5-pro",
        "gemini-2.5-pro",
        "publisher_path",
    ),
    (
        "bedrock",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-5",
        "regional.anthropic.claude-opus-5",
        "arn",
    ),
    (
        "bedrock",
        "anthropic.claude-3-haiku-20240307-v1:0:200k",
        "regional.anthropic.claude-3-haiku-20240307-v1:0",
        "bedrock_version",
    ),
    ("bedrock", "ca.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0", "geo_profile"),
    ("bedrock", "us-east-1/amazon.titan-text-lite-v1", "amazon.titan-text-lite-v1", "region_path"),
    ("fireworks_ai", "kimi-k2p6", "kimi-k2p6", "account_path"),
    ("azure", "gpt-4o-2024-11-20", "gpt-4o", None),
]
UNKNOWN = [
    ("anthropic", "claude-sonnet-4-5-future"),
    ("anthropic", "claude-sonnet-4-5-20251399"),
    ("anthropic", "claude-sonnet-4-5-2025"),
    ("openai", "gpt-4o-2024-08-06-evil"),
    ("openai", "my-gpt-4o"),
    ("openai", "gpt-9"),
    ("openai", "ft:gpt-9:acme::Ab"),
    ("openai", "anthropic/claude-sonnet-4-5"),
    ("bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"),
    ("bedrock", "us.amazon.nova-super-v1:0"),
    ("gemini", "gemini-2.5-pro-banana"),
    ("azure", "prod-chat"),
    ("openrouter", "google/gemma-3-27b-it:free-ish"),
]


@pytest.mark.parametrize(("provider", "model", "entry", "rule"), MATCHED)
def test_a_name_matches_by_a_rule_that_is_displayed(book, provider, model, entry, rule):
    """Dates, aliases, prefixes, profiles and fine-tunes: the entry, and the rule in the flags."""
    outcome = charge(TokenUsage(1000, 300), book, provider=provider, model=model, at_ns=NOW)
    assert isinstance(outcome, Charge), outcome
    assert outcome.model == entry
    assert (f"matched_{rule}" in outcome.flags) if rule else not outcome.flags, outcome.flags


@pytest.mark.parametrize(("provider", "model"), UNKNOWN)
def test_a_lucky_prefix_is_no_match(book, provider, model):
    """Names that only begin like a model have no price, and the reason names them."""
    outcome = charge(TokenUsage(1000, 300), book, provider=provider, model=model, at_ns=NOW)
    assert isinstance(outcome, Unpriced), outcome
    assert outcome.status == "unknown_model"
    assert model in outcome.reason


def test_every_rule_is_documented(request):
    """`docs/pricing.md` explains each matching rule by its name."""
    text = (request.config.rootpath / "docs" / "pricing.md").read_text()
    assert not [rule.name for rule in RULES if f"`{rule.name}`" not in text]


def test_the_models_crewai_lists_have_a_price_or_a_reason(book):
    """Of CrewAI's own lists at least 97 % are priced or have a reason of their own, per
    provider.
    """
    constants = pytest.importorskip("crewai.llms.constants", reason="crewai is not installed")
    lists = {
        "openai": constants.OPENAI_MODELS,
        "anthropic": constants.ANTHROPIC_MODELS,
        "gemini": constants.GEMINI_MODELS,
        "bedrock": constants.BEDROCK_MODELS,
        "azure": constants.AZURE_MODELS,
    }
    for provider, models in lists.items():
        outcomes = [
            charge(TokenUsage(1000, 300), book, provider=provider, model=model, at_ns=NOW)
            for model in models
        ]
        explained = [
            each
            for each in outcomes
            if isinstance(each, Charge)
            or "has no price at" in each.reason
            or "priced by" in each.reason
        ]
        assert len(explained) >= 0.97 * len(models), [
            each for each in outcomes if each not in explained
        ]
        priced = [each for each in outcomes if isinstance(each, Charge)]
        assert len(priced) >= 0.75 * len(models)
