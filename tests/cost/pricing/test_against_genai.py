"""Our integers against genai-prices' own `calc_price`, over its whole catalogue.

Where we differ, the guard has a name here.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from crewmeter.providers.hosts import canonical_provider
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.pricing.catalogue import catalogue_files
from crewmeter_cost.pricing.catalogue.compile_genai import listed, providers_installed
from crewmeter_cost.pricing.catalogue.corrections import read_corrections
from crewmeter_cost.pricing.charge import Unpriced, charge
from crewmeter_cost.pricing.price_book import PriceBook

genai_prices = pytest.importorskip("genai_prices", reason="genai-prices is not installed")

CORRECTED = {model for _, model in read_corrections().prices}
CONTEXTS = {
    None: None,
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast", "speed": "fast"},
}
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOON_NS = int(NOON.timestamp()) * 10**9
MOMENTS = (
    NOON,
    NOON.replace(hour=2),
    datetime(2026, 8, 20, 23, 59, 59, tzinfo=UTC),
    datetime(2026, 3, 13, tzinfo=UTC),
    datetime(2025, 1, 1, 7, tzinfo=UTC),
)


def everything():
    """Every provider and model of genai-prices, with a name that both sides know it by."""
    for provider in providers_installed():
        for model in provider.models:
            entry = listed(provider, model)
            names = [
                name
                for each in (*entry.names, *entry.open_names)
                for name in (each, f"{each}-2506", f"{each}-2024-08-06:acme::1")
            ]
            yield (
                provider,
                model,
                next(name for name in names if provider.find_model(name) is model),
            )


def usages(rng: random.Random):
    """A plain one, one with every cache bucket, one over every size step with searches and
    reasoning.
    """
    yield TokenUsage(rng.randrange(1, 90_000), rng.randrange(1, 9_000))
    read, write, write_1h = (
        rng.randrange(1, 30_000),
        rng.randrange(1, 30_000),
        rng.randrange(1, 30_000),
    )
    yield TokenUsage(
        read + write + write_1h + rng.randrange(10_000), rng.randrange(9_000), read, write, write_1h
    )
    output = rng.randrange(1, 60_000)
    yield TokenUsage(
        rng.choice((200_000, 200_001, 272_000, 272_001, 900_000)),
        output,
        rng.randrange(90_000),
        reasoning=rng.randrange(output),
        web_searches=3,
    )


def theirs(provider, model, usage: TokenUsage, at: datetime, tier: str | None) -> Decimal:
    """The price genai-prices gives."""
    written = usage.cache_write_5m + usage.cache_write_1h
    said = genai_prices.Usage(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cache_read,
        cache_write_tokens=written,
        cache_write_1h_tokens=usage.cache_write_1h,
        output_reasoning_tokens=usage.reasoning,
        web_searches=usage.web_searches,
    )
    return model.calc_price(
        said, provider, genai_request_timestamp=at, price_context=CONTEXTS[tier]
    ).total_price


def difference(model, usage: TokenUsage, at: datetime, ours) -> str | None:
    """The name of the guard that makes this case differ, or None."""
    prices = model.prices if isinstance(model.prices, list) else []
    hours = [each for each in prices if type(each.constraint).__name__ == "TimeOfDateConstraint"]
    starts = [
        each.constraint.start_date
        for each in prices
        if type(each.constraint).__name__ == "StartDateConstraint"
    ]
    if isinstance(ours, Unpriced):
        return "no price is not a price of 0"
    if model.id in CORRECTED and usage.cache_read:
        return "a correction fills a missing rate"
    if hours and starts and at.date() < max(starts):
        return "prices by the hour do not reach back"
    return None


@pytest.mark.slow
def test_every_name_of_the_catalogue_leads_to_the_same_model(book):
    """A name that genai-prices matches exactly is never priced as another model here."""
    checked = 0
    for provider in providers_installed():
        for model in provider.models:
            for name in listed(provider, model).names:
                outcome = charge(
                    TokenUsage(10, 10),
                    book,
                    provider=canonical_provider(provider.id),
                    model=name,
                    at_ns=NOON_NS,
                )
                assert outcome.model in (model.id, name), (provider.id, name, outcome)
                assert isinstance(outcome, Unpriced) or outcome.source != "litellm", (
                    provider.id,
                    name,
                    outcome,
                )
                checked += 1
    assert checked > 2_900


@pytest.fixture(scope="module")
def plain_book() -> PriceBook:
    """Their catalogue alone: no corrections, no fees, no lower source."""
    return PriceBook([catalogue_files.open_genai()])


@pytest.mark.slow
def test_every_price_of_the_catalogue_is_theirs(plain_book):
    """Over 2,330 models, usages of every shape, tiers and dates.

    The same money, but for the guards named in `difference`.
    """
    rng = random.Random(20261121)
    compared, named = 0, {}
    for provider, model, name in everything():
        for usage in usages(rng):
            for at in rng.sample(MOMENTS, 2):
                tier = rng.choice(tuple(CONTEXTS))
                ours = charge(
                    usage,
                    plain_book,
                    provider=canonical_provider(provider.id),
                    model=name,
                    at_ns=int(at.timestamp()) * 10**9,
                    tier=tier,
                )
                guard = difference(model, usage, at, ours)
                if isinstance(ours, Unpriced):
                    assert theirs(provider, model, usage, at, tier) == 0, (
                        provider.id,
                        model.id,
                        ours,
                    )
                if guard is not None:
                    named[guard] = named.get(guard, 0) + 1
                    continue
                expected = theirs(provider, model, usage, at, tier) * 10**12
                assert abs(expected - ours.cost_pusd) <= Decimal(len(ours.items)) / 2, (
                    provider.id,
                    model.id,
                    usage,
                    at,
                    tier,
                    expected,
                    ours,
                )
                compared += 1
    print(compared, named)
    assert compared > 12_000
    assert set(named) <= {
        "no price is not a price of 0",
        "a correction fills a missing rate",
        "prices by the hour do not reach back",
    }
