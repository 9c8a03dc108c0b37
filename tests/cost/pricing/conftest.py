"""What the pricing tests share: one book, and moments as nanoseconds."""

from __future__ import annotations

import pytest

from crewmeter_cost.pricing.price_book import PriceBook


@pytest.fixture(scope="session")
def book() -> PriceBook:
    """The shipped book, without overrides."""
    return PriceBook.load()
