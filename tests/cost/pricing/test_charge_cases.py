"""Charges worked out by hand (`cases.txt`), the worked cases of the price lists, and usage as
CrewAI's events were seen to report it.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.charge import Charge, Unpriced, charge

NOON = "2026-11-21T12:00Z"
OF_INPUT = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "input_audio", "embedded")
OF_OUTPUT = ("output", "output_audio", "output_reasoning")
PER_ONE = ("web_search", "search_unit", "request")


def ns(text: str) -> int:
    """A moment as nanoseconds."""
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


def cases():
    """Every case of the file: (provider, model, at, tier, rates, quantities, USD)."""
    head = None
    for line in (Path(__file__).parent / "cases.txt").read_text().splitlines():
        if line.startswith("    "):
            sums, usd = line.strip().split(" = ")
            quantities = {
                name: int(count) for count, name in (part.split(" ") for part in sums.split(" + "))
            }
            yield pytest.param(*head, quantities, usd, id=f"{head[1]} {line.strip()}")
        elif line and not line.startswith("#"):
            who, _, rates = line.partition(": ")
            provider, model, at, tier = who.split(" ")
            head = provider, model, at, None if tier == "-" else tier, rates


def rate(steps: str, total: int) -> Decimal:
    """``3 | 6 over 200000`` for a request of `total` input tokens."""
    base, *above = steps.split(" | ")
    prices = [
        Decimal(price)
        for price, over in (step.split(" over ") for step in above)
        if total > int(over)
    ]
    return prices[-1] if prices else Decimal(base)


def by_hand(rates: str, quantities: dict[str, int]) -> Decimal:
    """The sum in USD, each line rounded to a pico-dollar, half to even."""
    steps = dict(part.split(" ", 1) for part in re.split(r", ", rates))
    total = sum(quantities.get(name, 0) for name in OF_INPUT)
    pico = sum(
        (count * rate(steps[name], total) * (10**12 if name in PER_ONE else 10**6)).quantize(
            Decimal(1)
        )
        for name, count in quantities.items()
    )
    return Decimal(pico).scaleb(-12)


def usage_of(quantities: dict[str, int]) -> tuple[TokenUsage, str]:
    """The usage a provider would report for these buckets, and the operation."""
    given = quantities.get
    operation = (
        "embeddings"
        if "embedded" in quantities
        else "rerank"
        if "search_unit" in quantities
        else "chat"
    )
    usage = TokenUsage(
        None if operation == "rerank" else sum(given(name, 0) for name in OF_INPUT),
        None if operation != "chat" else sum(given(name, 0) for name in OF_OUTPUT),
        cache_read=given("cache_read", 0),
        cache_write_5m=given("cache_write_5m", 0),
        cache_write_1h=given("cache_write_1h", 0),
        reasoning=given("output_reasoning", 0),
        input_audio=given("input_audio", 0),
        output_audio=given("output_audio", 0),
        web_searches=given("web_search", 0),
        search_units=given("search_unit", 0),
    )
    return usage, operation


@pytest.mark.parametrize(
    ("provider", "model", "at", "tier", "rates", "quantities", "usd"), list(cases())
)
def test_a_charge_is_what_it_is_by_hand(book, provider, model, at, tier, rates, quantities, usd):
    """Each of the hand-worked cases.

    The file's sum is right, and the book's charge is that sum, to the pico-dollar.
    """
    assert by_hand(rates, quantities) == Decimal(usd)
    usage, operation = usage_of(quantities)
    outcome = charge(
        usage, book, provider=provider, model=model, at_ns=ns(at), tier=tier, operation=operation
    )
    assert isinstance(outcome, Charge), outcome
    assert Decimal(outcome.cost_pusd).scaleb(-12) == Decimal(usd), outcome
    assert sum(item.cost_pusd for item in outcome.items) == outcome.cost_pusd


def test_there_are_enough_cases():
    """At least 200 hand-worked cases, several per provider and dimension."""
    assert len(list(cases())) >= 200


WORKED = [
    ("openai", "gpt-4o-mini", TokenUsage(1000, 500), {}, "0.00045"),
    ("openai", "gpt-4o", TokenUsage(1000, 300, 400), {}, "0.005"),
    ("openai", "gpt-5", TokenUsage(1000, 300, 400, reasoning=120), {}, "0.0038"),
    ("openai", "gpt-5", TokenUsage(1000, 300, 400, reasoning=120), {"tier": "flex"}, "0.0019"),
    ("openai", "gpt-5", TokenUsage(1000, 300, 400, reasoning=120), {"tier": "priority"}, "0.0076"),
    ("openai", "o3", TokenUsage(10_000, 5_000, 2_000), {}, "0.057"),
    ("openai", "gpt-5.5", TokenUsage(272_000, 1_000, 100_000), {}, "0.94"),
    ("openai", "gpt-5.6", TokenUsage(10_000, 1_000, 2_000, 3_000), {}, "0.0558"),
    ("openai", "gpt-5.6", TokenUsage(10_000, 1_000), {"at_ns": ns("2026-08-20T23:59:59Z")}, "0.08"),
    (
        "openai",
        "text-embedding-3-small",
        TokenUsage(12_345),
        {"operation": "embeddings"},
        "0.0002469",
    ),
    ("anthropic", "claude-sonnet-4-5", TokenUsage(1000, 300, 400, 500), {}, "0.006795"),
    ("anthropic", "claude-sonnet-4-5", TokenUsage(200_000, 1_000), {}, "0.615"),
    (
        "anthropic",
        "claude-opus-4-5",
        TokenUsage(2_000, 800, 0, 1_500, web_searches=2),
        {},
        "0.051875",
    ),
    ("gemini", "gemini-2.5-flash", TokenUsage(1_050, 300, 400), {}, "0.000957"),
    ("gemini", "gemini-2.5-pro", TokenUsage(200_000, 8_150), {}, "0.3315"),
    ("azure", "gpt-4o", TokenUsage(1000, 300), {}, "0.0055"),
    ("openrouter", "anthropic/claude-sonnet-4.5", TokenUsage(1000, 300, 400), {}, "0.00642"),
    ("groq", "llama-3.3-70b-versatile", TokenUsage(10_000, 2_000), {}, "0.00748"),
    ("deepseek", "deepseek-v4-flash", TokenUsage(100_000, 2_000, 90_000), {}, "0.00297"),
]


@pytest.mark.parametrize(("provider", "model", "usage", "how", "usd"), WORKED)
def test_the_worked_cases_are_exact(book, provider, model, usage, how, usd):
    """The cases worked out from the providers' own pages."""
    outcome = charge(usage, book, provider=provider, model=model, **{"at_ns": ns(NOON), **how})
    assert (Decimal(outcome.cost_pusd).scaleb(-12), outcome.status) == (Decimal(usd), "priced")


GPT_4O = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "total_tokens": 1300,
    "cached_prompt_tokens": 400,
    "reasoning_tokens": 120,
}
SONNET = {
    "input_tokens": 1000,
    "output_tokens": 300,
    "total_tokens": 1300,
    "cached_prompt_tokens": 400,
    "cache_creation_tokens": 500,
}
FLASH = {
    "prompt_token_count": 1000,
    "candidates_token_count": 180,
    "completion_tokens": 300,
    "total_token_count": 1350,
    "total_tokens": 1350,
    "cached_prompt_tokens": 400,
    "reasoning_tokens": 120,
}
CONVERSE = {
    "inputTokens": 3,
    "cacheReadInputTokens": 13216,
    "cacheWriteInputTokens": 25,
    "outputTokens": 12,
    "totalTokens": 13256,
}
EVENTS = [
    ("openai", "gpt-4o", GPT_4O, "0.005", ()),
    ("anthropic", "claude-sonnet-4-5", SONNET, "0.006795", ("cache_ttl_assumed",)),
    ("gemini", "gemini-2.5-flash", FLASH, "0.000957", ()),
    ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", CONVERSE, "0.004672305", ()),
]


@pytest.mark.parametrize(("provider", "model", "raw", "usd", "flags"), EVENTS)
def test_usage_as_events_report_it_costs_what_the_invoice_says(
    book, provider, model, raw, usd, flags
):
    """From CrewAI's own event shapes to the pico-dollar, with what was assumed in the flags."""
    outcome = charge(
        read_usage(raw, provider=provider), book, provider=provider, model=model, at_ns=ns(NOON)
    )
    assert Decimal(outcome.cost_pusd).scaleb(-12) == Decimal(usd), outcome
    assert set(flags) <= set(outcome.flags)


def test_more_cached_than_there_was_has_no_cost(book):
    """400 cached of 100 input tokens can't be: no cost, and it says why."""
    outcome = charge(
        TokenUsage(100, 10, 400), book, provider="openai", model="gpt-4o", at_ns=ns(NOON)
    )
    assert isinstance(outcome, Unpriced)
    assert (outcome.status, "400 cached tokens of 100" in outcome.reason) == ("invalid_usage", True)
    read = read_usage({"prompt_tokens": 100, "completion_tokens": 10, "cached_prompt_tokens": 400})
    assert (
        charge(read, book, provider="openai", model="gpt-4o", at_ns=ns(NOON)).status
        == "invalid_usage"
    )


def test_azure_chat_is_a_ceiling(book):
    """Azure's SDK drops cached counts: the full input rate is the most it can have cost."""
    usage = read_usage(
        {
            "prompt_tokens": 1000,
            "completion_tokens": 300,
            "total_tokens": 1300,
            "cached_prompt_tokens": 0,
        },
        provider="azure",
    )
    outcome = charge(usage, book, provider="azure", model="gpt-4o", at_ns=ns(NOON))
    assert (Decimal(outcome.cost_pusd).scaleb(-12), outcome.status) == (
        Decimal("0.0055"),
        "upper_bound",
    ), outcome
