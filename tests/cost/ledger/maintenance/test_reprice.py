"""Repricing: audited, idempotent, reversible, and the sums move along."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.ledger_audit import assert_books_hold, stored_rollups
from support.ledger_build import call, root
from support.rows import rows

from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.ledger.maintenance.reprice import reprice, undo
from crewmeter_cost.pricing.charge import charge_call
from crewmeter_cost.pricing.price_book import PriceBook

GOLD = """
[[price]]
provider = "openai"
model = "gpt-4o"
input = 10
output = 20

[[price]]
provider = "openai"
model = "house-model"
input = 1
output = 1
"""


@pytest.fixture(scope="module")
def public() -> PriceBook:
    return PriceBook.load()


@pytest.fixture
def negotiated(tmp_path: Path) -> PriceBook:
    path = tmp_path / "prices.toml"
    path.write_text(GOLD)
    return PriceBook.load(path)


def _fill(ledger, book: PriceBook) -> None:
    calls = [
        call(number, request_model="gpt-4o" if number % 3 else "house-model", response_model=None)
        for number in range(30)
    ]
    calls.append(
        call(
            50,
            usage=TokenUsage(1000, 10, input_audio=5, web_searches=2, flags=("cache_ttl_assumed",)),
        )
    )
    calls.append(call(51, usage=TokenUsage(status="missing")))
    ledger.write([(made, charge_call(made, book)) for made in calls], [root()], book.frozen)


def test_todays_book_again_changes_nothing(either, public):
    """Repricing under the book that priced the calls.

    Every call comes to the same charge, from the row alone.
    """
    _fill(either, public)
    before = rows(either, "SELECT * FROM call")
    done = reprice(either, public)
    assert (done.changed, done.job) == (0, None)
    assert rows(either, "SELECT * FROM call") == before
    assert rows(either, "SELECT * FROM repricing") == []


def test_a_new_price_moves_calls_totals_and_rollups(either, public, negotiated):
    """Negotiated rates: calls change with an adjustment each, unpriced ones get a price.

    A second run changes nothing; undo restores.
    """
    _fill(either, public)
    before, sums = rows(either, "SELECT * FROM call"), stored_rollups(either)
    dry = reprice(either, negotiated, dry_run=True)
    assert (dry.job, rows(either, "SELECT * FROM call")) == (None, before)
    done = reprice(either, negotiated, reason="contract of June")
    books = assert_books_hold(either)
    assert done.changed == dry.changed == 31
    change = done.by_model["openai", "gpt-4o"]
    assert change.after_pusd == sum(
        entry["cost_pusd"] or 0 for entry in books.calls if entry["model"] == "gpt-4o"
    )
    house = done.by_model["openai", "house-model"]
    assert (house.unpriced_before, house.unpriced_after, house.before_pusd) == (10, 0, 0)
    assert len(rows(either, "SELECT * FROM adjustment")) == 31
    assert reprice(either, negotiated).changed == 0
    undone = undo(either, done.job)
    assert undone.calls == 31
    assert rows(either, "SELECT * FROM call ORDER BY id") == before
    assert stored_rollups(either) == sums
    assert_books_hold(either)
    with pytest.raises(CrewMeterError, match="undone already"):
        undo(either, done.job)


def test_undo_goes_backwards(ledger, public, negotiated):
    """A repricing that a later one builds on is not undone before it.

    A number nobody gave is refused.
    """
    _fill(ledger, public)
    first, second = reprice(ledger, negotiated), reprice(ledger, public)
    with pytest.raises(CrewMeterError, match=f"repricing {second.job} changed"):
        undo(ledger, first.job)
    undo(ledger, second.job)
    undo(ledger, first.job)
    assert_books_hold(ledger)
    with pytest.raises(CrewMeterError, match="no repricing 77"):
        undo(ledger, 77)


def test_only_the_window_is_repriced(ledger, public, negotiated):
    """--since and --until bound what is charged again."""
    _fill(ledger, public)
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    done = reprice(
        ledger, negotiated, since=noon + timedelta(seconds=10), until=noon + timedelta(seconds=20)
    )
    assert done.changed == 10
    assert_books_hold(ledger)
