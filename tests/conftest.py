"""What every test shares: a quiet, empty home; a stand-in provider; a ledger of its own.

The environment is set here, before any test imports CrewAI, which reads it once.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from support.environment import quiet_environment

_REAL_HOME = Path.home()
_HOME = Path(tempfile.mkdtemp(prefix="crewmeter-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

for _name in [
    name
    for name in os.environ
    if not name.startswith("CREWMETER_TEST_")  # how long the long tests are
    and name.startswith(
        ("OTEL_", "CREWMETER_", "OPENAI_", "ANTHROPIC_", "AZURE_", "AWS_", "GEMINI_")
    )
]:
    del os.environ[_name]
os.environ.setdefault(
    "XDG_CACHE_HOME", str(_REAL_HOME / ".cache")
)  # package managers keep their downloads
os.environ.setdefault("GOPATH", str(_REAL_HOME / "go"))
os.environ.update(quiet_environment(_HOME))


@pytest.fixture
def fake_provider():
    """A stand-in provider on loopback, with empty books."""
    from crewmeter_cost.demo.fake_provider import FakeProvider

    with FakeProvider() as server:
        yield server


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    """Where a test's own ledger goes; nothing is there yet."""
    return tmp_path / "ledger.db"
