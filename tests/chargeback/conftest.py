"""A month of the demo's history in a ledger, made once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crewmeter_cost.demo.history.writer import load_history
from crewmeter_cost.ledger.store import Ledger


@pytest.fixture(scope="session")
def month(tmp_path_factory):
    """Thirty days that end on 21 November 2026, 60 calls a day."""
    path = tmp_path_factory.mktemp("month") / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        load_history(ledger, days=30, seed=3, until=datetime(2026, 11, 21, 12, tzinfo=UTC), calls_per_day=60)
        yield ledger
