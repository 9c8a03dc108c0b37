"""Shares add up, to the pico-dollar."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.finance.allocation import allocate, weights_for

names = st.dictionaries(
    st.text(min_size=1, max_size=5), st.integers(0, 10**15), min_size=1, max_size=12
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(pusd=st.integers(0, 10**18), weights=names)
def test_shares_sum_to_what_was_shared(pusd, weights):
    """Nothing is lost in division and nobody's share is negative or off by more than a
    pico-dollar.
    """
    shares = allocate(pusd, weights)
    assert sum(shares.values()) == pusd
    whole = sum(weights.values())
    for name, share in shares.items():
        fair = pusd * weights[name] / whole if whole else pusd / len(weights)
        assert abs(share - fair) <= max(1, fair * 1e-9)


def test_the_rules_give_their_weights():
    """By spend, evenly, by fixed weights, or not at all."""
    direct = {"growth": 30, "core": 10}
    assert weights_for("none", direct) is None
    assert allocate(8, weights_for("proportional", direct)) == {"growth": 6, "core": 2}
    assert allocate(9, weights_for("even", direct)) == {"growth": 4, "core": 5}
    assert allocate(9, weights_for("growth=2,core=1", direct)) == {"growth": 6, "core": 3}


@pytest.mark.parametrize("rule", ["fair", "growth=-1", "mars=1", "growth"])
def test_a_rule_there_is_not_is_refused(rule):
    """By name, with the way out."""
    with pytest.raises(CrewMeterError) as refused:
        weights_for(rule, {"growth": 1})
    assert refused.value.hint
