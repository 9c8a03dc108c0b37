"""The end-to-end apps are played once per module.

The tests then read the server's books and the ledger.
"""

from __future__ import annotations

import pytest
from support.play_apps import perform


@pytest.fixture(scope="session")
def perform_apps():
    """`perform`, for a test that plays apps of its own choice."""
    return perform
