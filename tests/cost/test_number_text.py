"""Numbers that people type are read as written, or refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.number_text import bounded_integer, exact_decimal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", "5"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1,500", "1500"),
        ("1,234,567.89", "1234567.89"),
        ("1_000", "1000"),
        ("1 000", "1000"),
        ("1'000", "1000"),
        ("-2.5", "-2.5"),
        ("+2.5", "2.5"),
        ("5e-3", "0.005"),
    ],
)
def test_a_number_is_read_as_written(text, value):
    """Groups of thousands have three digits, the fraction behind a point."""
    assert exact_decimal(text) == Decimal(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "1,5",
        "0,500",
        "0,005",
        "00,500",
        "1.000,50",
        "1,0000",
        "10,00",
        "1,500_000",
        "1_5",
        "1__0",
        "1..5",
        "0x10",
        "NaN",
        "inf",
        "1e9999",
        "٥",
        "１",
        "1 5",
        "--1",
        "1-",
        "e5",
        "9" * 100,
    ],
)
def test_anything_else_is_refused(text):
    """A decimal comma is no group of thousands: 1,5 was read as 15."""
    with pytest.raises(CrewMeterError):
        exact_decimal(text)


def test_a_decimal_comma_is_answered_with_the_number_to_write():
    """The hint holds the number as it should be."""
    with pytest.raises(CrewMeterError) as refused:
        exact_decimal("1.000,5")
    assert "1000.5" in str(refused.value.hint)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=0, max_value=10**9))
def test_every_plain_decimal_is_itself(number):
    """Grouped or not, the value is the same."""
    assert exact_decimal(f"{number:f}") == number
    assert exact_decimal(f"{number:,f}") == number


@pytest.mark.parametrize("text", ["1", "007", "0000000000000000000200", "200"])
def test_a_whole_number_counts_by_its_value(text):
    """Leading zeros change nothing, however many there are."""
    assert bounded_integer(text, name="limit", lowest=1, highest=200) == int(text)


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "201",
        "00000000199999",
        "9" * 32,
        "9" * 5000,
        "-1",
        "+1",
        "1.0",
        " 1",
        "1_0",
        "²",
        "٣",
        "",
    ],
)
def test_a_whole_number_outside_its_range_is_refused(text):
    """The range is checked on the value, not on the length of the text."""
    with pytest.raises(CrewMeterError, match="limit"):
        bounded_integer(text, name="limit", lowest=1, highest=200)
