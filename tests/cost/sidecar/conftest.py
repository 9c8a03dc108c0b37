"""Sidecars as processes of their own, and requests to send them."""

from __future__ import annotations

import pytest
from support.sidecars import Nursery


@pytest.fixture(scope="session")
def nursery():
    """Starts sidecars quickly: one process with everything imported, forked per sidecar."""
    with Nursery() as made:
        yield made


@pytest.fixture(scope="module")
def sidecar(nursery, tmp_path_factory):
    """One sidecar for all tests of a module that do not mind each other's spans."""
    with nursery.start(tmp_path_factory.mktemp("sidecar") / "ledger.db") as running:
        yield running


@pytest.fixture
def fresh(nursery, tmp_path):
    """A sidecar with an empty ledger of its own."""
    with nursery.start(tmp_path / "ledger.db") as running:
        yield running
