"""A month of history in a ledger, once a session.

Each test copies the file and mirrors it into a database of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clickhouse import UNTIL, clickhouse_url

from crewmeter_cost.clickhouse.connect import connected, mirror_url
from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger


@pytest.fixture(scope="session")
def seeded_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("mirror") / "ledger.db"
    with Ledger.open(str(path)) as ledger:
        load_history(ledger, days=30, seed=1, until=UNTIL, calls_per_day=60)
    return path


@pytest.fixture
def ledger(seeded_path, tmp_path) -> Iterator[Ledger]:
    path = tmp_path / "ledger.db"
    shutil.copy(seeded_path, path)
    with Ledger.open(str(path)) as opened:
        yield opened


@pytest.fixture
def client():
    with connected(mirror_url(clickhouse_url())) as opened:
        yield opened
