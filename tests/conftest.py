"""What every test shares: a quiet, empty home, a fake provider, a ledger of its own.

The environment is set here, before any test imports CrewAI, which reads it once.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from support.environment import quiet_environment
from support.mostly_slow import mark_slow
from support.shares import Share
from support.slowest_tests import SlowestTests

# Every run draws the same examples, so that a failure is seen again. CREWMETER_TEST_RANDOM=1 draws
# others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
if not os.environ.get("CREWMETER_TEST_RANDOM"):
    settings.load_profile("repeatable")

# Compiled modules are stored, whatever the environment says: else each of the suite's hundreds of
# processes compiles CrewAI anew, which takes longer than importing it.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_REAL_HOME = Path.home()
_HOME = Path(tempfile.mkdtemp(prefix="crewmeter-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

for _name in [
    name
    for name in os.environ
    if not name.startswith("CREWMETER_TEST_")  # the lengths of the long tests
    and name.startswith(
        ("OTEL_", "CREWMETER_", "OPENAI_", "ANTHROPIC_", "AZURE_", "AWS_", "GEMINI_")
    )
]:
    del os.environ[_name]
# Package managers find what they downloaded before.
os.environ.setdefault("XDG_CACHE_HOME", str(_REAL_HOME / ".cache"))
os.environ.setdefault("GOPATH", str(_REAL_HOME / "go"))
os.environ.update(quiet_environment(_HOME))


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by marker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark slow tests, and leave out those not in the share that `CREWMETER_TEST_SHARD` names."""
    mark_slow(items, whole_files=not any("::" in word for word in config.args))
    share = Share.read(os.environ.get("CREWMETER_TEST_SHARD", "all"))

    def is_in_turn(item: pytest.Item) -> bool:
        is_slow = any(item.get_closest_marker(name) for name in ("slow", "services"))
        return not is_slow or share.has(item.nodeid.partition("::")[0])

    config.hook.pytest_deselected(items=[item for item in items if not is_in_turn(item)])
    items[:] = [item for item in items if is_in_turn(item)]


def pytest_collection_finish() -> None:
    """Take the tests' own variables away: test files have read them, and no app has them."""
    for name in [name for name in os.environ if name.startswith("CREWMETER_TEST_")]:
        del os.environ[name]


def pytest_configure(config: pytest.Config) -> None:
    """Print the costliest tests after a run."""
    config.pluginmanager.register(SlowestTests())


@pytest.fixture
def fake_provider():
    """A fake provider on loopback, with empty books."""
    from crewmeter_cost.demo.fake_provider import FakeProvider

    with FakeProvider() as server:
        yield server


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    """The path of a test's own ledger, where nothing is yet."""
    return tmp_path / "ledger.db"
