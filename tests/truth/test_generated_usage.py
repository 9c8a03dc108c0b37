"""Usage keys dropped, renamed, zeroed, doubled and added: right or honest, never wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from truth.usage_mutations import SHAPES, changed, changes, has_unknown, paths
from truth.verdict import EXACT

from crewmeter.providers.usage_reading import read_usage
from crewmeter_cost.intake.instrumentors.usage import usage_of
from crewmeter_cost.pricing.charge import Charge, charge
from crewmeter_cost.pricing.price_book import PriceBook

_AT_NS = 1_795_262_400 * 10**9
BOOK = PriceBook.load(Path(os.devnull))


def _exact_pusd(usage, shape) -> int | None:
    """Return what the product calls exact, or None where it calls it inexact."""
    made = charge(usage, BOOK, provider=shape.provider, model=shape.model, at_ns=_AT_NS)
    is_exact = isinstance(made, Charge) and made.status in EXACT
    return made.cost_pusd if is_exact else None


@pytest.mark.parametrize("name", SHAPES)
def test_the_recorded_usage_is_right(name):
    """Unchanged, each provider's object gives its bill."""
    shape = SHAPES[name]
    bill = shape.oracle(shape.usage).bill(shape.rates)
    assert _exact_pusd(read_usage(shape.usage, provider=shape.provider), shape) == bill


@pytest.mark.mostly_slow("Anthropic", "Groq")
@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=150, derandomize=True, deadline=None)
@given(data=st.data())
def test_a_changed_usage_is_right_or_honest(name, data):
    """A figure called exact is the one that the documented keys prove, whatever else is there."""
    shape = SHAPES[name]
    usage = shape.usage
    for change in data.draw(changes(shape.usage)):
        usage = changed(usage, change)
    found = _exact_pusd(read_usage(usage, provider=shape.provider), shape)
    if found is None:
        return
    whole = shape.oracle(shape.usage).bill(shape.rates)
    counts = None
    if not has_unknown(usage, set(paths(shape.usage))):
        counts = shape.oracle(usage)
    proved = counts.bill(shape.rates) if counts else None
    assert found in (proved, whole)


def _span(provider, model, **counts):
    return {f"gen_ai.usage.{key.replace('__', '.')}": count for key, count in counts.items()}


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    fresh=st.integers(1, 10**6),
    cached=st.integers(1, 10**6),
    output=st.integers(1, 10**6),
    thoughts=st.integers(0, 10**6),
    cache_beside=st.booleans(),
    thoughts_beside=st.booleans(),
)
def test_counts_of_a_span_beside_or_inside_are_right_or_honest(
    fresh, cached, output, thoughts, cache_beside, thoughts_beside
):
    """With the provider's own total, any placement is found, or the figure is called inexact."""
    shape = SHAPES["Gemini"]
    total = fresh + cached + output + thoughts
    attributes = _span(
        shape.provider,
        shape.model,
        input_tokens=fresh if cache_beside else fresh + cached,
        output_tokens=output if thoughts_beside else output + thoughts,
        cached_tokens=cached,
        reasoning_tokens=thoughts,
        total_tokens=total,
    )
    found = _exact_pusd(usage_of(attributes, "chat", provider=shape.provider), shape)
    price_in, price_cached, price_out = (300_000, 30_000, 2_500_000)
    bill = fresh * price_in + cached * price_cached + (output + thoughts) * price_out
    assert found in (None, bill)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    key=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    value=st.one_of(
        st.integers(1, 2**70),
        st.floats(0.1, 1e12),
        st.dictionaries(st.text(max_size=5), st.integers()),
    ),
)
def test_any_key_under_a_usage_prefix_is_flagged(key, value):
    """A name that nobody published makes the figure inexact, however it is spelled."""
    shape = SHAPES["OpenAI chat"]
    attributes = _span(shape.provider, shape.model, input_tokens=100, output_tokens=10)
    attributes[f"gen_ai.usage.zz_{key}"] = value
    assert _exact_pusd(usage_of(attributes, "chat", provider="openai"), shape) is None
