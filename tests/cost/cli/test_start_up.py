"""A command imports only what it needs: most of what a short one costs is importing."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger

SCRIPT = """
import atexit, json, sys
heavy = (
    "crewai", "sqlalchemy", "sqlmodel", "alembic", "genai_prices", "httpx", "opentelemetry.sdk",
    "crewmeter_cost.pricing.price_book",
)
found = lambda: [name for name in heavy if name in sys.modules]
atexit.register(lambda: print(json.dumps(found()), file=sys.stderr))
from crewmeter_cost.cli import main
main()
"""


@pytest.fixture(scope="module")
def ledger_path(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("start_up") / "ledger.db")
    with Ledger.open(path) as ledger:
        load_history(ledger, days=10, seed=1, until=datetime.now(UTC), calls_per_day=20)
    return path


@pytest.mark.mostly_slow("--help", "show last")
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["report", "--by", "team", "--by", "day"],
        ["report", "--where", "status=failed cost>0.0001"],
        ["runs", "--search", "gpt", "--order", "cost"],
        ["show", "last"],
        ["forecast", "--by", "team"],
        ["compare", "14d..7d", "7d.."],
        ["export", "--format", "jsonl"],
    ],
    ids=" ".join,
)
def test_a_reading_command_imports_no_toolkit(ledger_path, words):
    """No CrewAI, no SQLAlchemy and no price book, which together take longer than the command."""
    where = [] if words == ["--help"] else ["--ledger", ledger_path]
    command = [sys.executable, "-c", SCRIPT, *words, *where]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout
    assert json.loads(done.stderr.splitlines()[-1]) == []
