"""Whatever comes in, a charge or a reason comes out.

Whatever a price file says, it is read or refused by name.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.charge import Charge, Unpriced, charge, items_of
from crewmeter_cost.pricing.price_book import PriceBook

COUNT = st.integers(-10, 3_000_000)
KNOWN = [
    "gpt-4o",
    "gpt-5.6",
    "claude-sonnet-4-5-20250929",
    "gemini-2.5-flash",
    "rerank-v3.5",
    "sonar-deep-research",
    "gpt-audio",
    "o3",
]
SELLERS = ["openai", "anthropic", "gemini", "cohere", "perplexity", "azure", "bedrock"]
MODELS = st.sampled_from(KNOWN) | st.text(max_size=40)
PROVIDERS = st.none() | st.sampled_from(SELLERS) | st.text(max_size=12)
COUNTED = (
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning",
    "input_audio",
    "output_audio",
    "input_image",
    "output_image",
    "web_searches",
    "search_units",
)
STATUSES = st.sampled_from(["reported", "missing", "estimated", "reconciled", "invalid"])
USAGES = st.builds(
    TokenUsage,
    input=st.none() | COUNT,
    output=st.none() | COUNT,
    status=STATUSES,
    **dict.fromkeys(COUNTED, COUNT | st.just(0)),
)
QUIET = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUIET
@given(
    usage=USAGES,
    provider=PROVIDERS,
    model=st.none() | MODELS,
    host=st.none() | st.text(max_size=20),
    at_ns=st.integers(-(2**62), 2**62),
    tier=st.none() | st.sampled_from(["flex", "batch", "priority"]) | st.text(max_size=8),
    reported=st.none() | st.text(max_size=12),
    operation=st.sampled_from(["chat", "embeddings", "rerank", "?"]),
    duration_ns=st.none() | st.integers(-5, 10**13),
)
def test_a_charge_never_fails(
    book, usage, provider, model, host, at_ns, tier, reported, operation, duration_ns
):
    """No input raises.

    A cost is never negative, is the sum of its lines, and can be derived again from its frozen
    rates.
    """
    outcome = charge(
        usage,
        book,
        provider=provider,
        model=model,
        host=host,
        at_ns=at_ns,
        tier=tier,
        operation=operation,
        duration_ns=duration_ns,
        reported_cost_usd=reported,
    )
    if isinstance(outcome, Unpriced):
        assert outcome.reason
        assert outcome.status in ("usage_missing", "unknown_model", "invalid_usage")
        return
    assert isinstance(outcome, Charge)
    assert outcome.cost_pusd >= 0
    if outcome.status != "provider_reported":
        assert outcome.cost_pusd == sum(item.cost_pusd for item in outcome.items)
        assert all(item.quantity > 0 for item in outcome.items)
        assert (
            items_of(
                usage, book.frozen(outcome.version), operation=operation, duration_ns=duration_ns
            )
            == outcome.items
        )


RAW = (
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "cached_prompt_tokens",
    "total_tokens",
)
ANYTHING = st.integers() | st.text(max_size=4) | st.none() | st.booleans() | st.floats()


@QUIET
@given(raw=st.dictionaries(st.sampled_from(RAW), ANYTHING))
def test_whatever_usage_says_is_priced_or_named(book, raw):
    """From raw usage of any content to an outcome."""
    outcome = charge(read_usage(raw), book, provider="openai", model="gpt-4o", at_ns=0)
    assert outcome.status


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
)
SEEN = st.sampled_from(["gpt-4o", "EUR", "2026-01-01"])
PARTS = st.sampled_from(["from", "usd", "tokens", "input", "x"])
VALUES = st.recursive(
    SCALARS | SEEN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PARTS, inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "provider",
    "model",
    "models",
    "from",
    "until",
    "tier",
    "currency",
    "over",
    "input",
    "output",
    "percent",
    "gpus",
    "host",
    "oops",
)
ENTRIES = st.lists(
    st.dictionaries(st.sampled_from((*KEYS, "price_per_gpu_hour")), VALUES, max_size=5), max_size=3
)
RATES = VALUES | st.dictionaries(st.sampled_from(["EUR", "XXX"]), VALUES, max_size=2)
SECTIONS = {
    "price": ENTRIES | VALUES,
    "aliases": VALUES,
    "hosts": VALUES,
    "fx": RATES,
    "currency": VALUES,
}
FILES = st.fixed_dictionaries(
    {}, optional={**SECTIONS, **dict.fromkeys(("discount", "free", "self_hosted"), ENTRIES)}
)


@QUIET
@given(content=FILES)
def test_a_price_file_is_read_or_refused_by_name(tmp_path_factory, content):
    """JSON is YAML: any content is either a book that prices, or an error that names the file."""
    path = tmp_path_factory.mktemp("prices") / "prices.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    refusal = None
    try:
        book = PriceBook.load(path)
        assert charge(TokenUsage(10, 10), book, provider="openai", model="gpt-4o", at_ns=0).status
    except CrewMeterError as error:
        refusal = error
    assert refusal is None or ("prices.yaml" in refusal.message and refusal.hint)


def test_anchors_that_multiply_are_no_trap(tmp_path):
    """A few hundred bytes of YAML that stand for billions of nodes are refused quickly, not
    expanded.
    """
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 12)]
    path = tmp_path / "prices.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(CrewMeterError, match=r"prices\.yaml line 1: a0: unknown key"):
        PriceBook.load(path)
