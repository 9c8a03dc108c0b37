"""A ClickHouse in this process (chdb).

One engine, so one folder, and a database for whoever asks.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from datetime import UTC, datetime
from functools import cache
from itertools import count

import pytest

UNTIL = datetime(2026, 11, 20, 12, tzinfo=UTC)
"""The end of the history that the tests copy."""

_NUMBERS = count(1)


@cache
def _folder() -> str:
    folder = tempfile.mkdtemp(prefix="crewmeter-clickhouse-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def clickhouse_url() -> str:
    """The URL of a new, empty database; skips where the engine is not installed."""
    pytest.importorskip("chdb", reason="needs the PyPI package chdb")
    pytest.importorskip("clickhouse_connect", reason="needs the PyPI package clickhouse-connect")
    return f"chdb:///{_folder()}?database=mirror_{next(_NUMBERS)}"
