"""Pruning, repricing and forgetting while apps write: nothing is lost, every sum stays right."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.ledger_audit import assert_books_hold
from support.ledger_build import call, frozen, priced
from support.paths import TESTS
from support.rows import rows

from crewmeter_cost.ledger.store import Ledger

DAY = 86_400 * 10**9
WRITER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from support.ledger_build import call, frozen, priced
from crewmeter_cost.ledger.store import Ledger
with Ledger.open(sys.argv[2], busy_seconds=60) as ledger:
    for batch in range(60):
        now = time.time_ns()
        times = {"started_ns": now, "ended_ns": now + 1}
        made = [call(1_000_000 + batch * 20 + n, **times) for n in range(20)]
        ledger.write([(each, priced()) for each in made], [], frozen)
        print(batch, flush=True)
"""
PRICES = '[[price]]\nprovider = "openai"\nmodel = "gpt-4o"\ninput = 10\noutput = 20\n'


def crewmeter(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("crewmeter")), *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | environment,
    )


@pytest.fixture
def old(tmp_path):
    """A ledger with 1,000 calls of a year ago."""
    path = tmp_path / "ledger.db"
    then = time.time_ns() - 365 * DAY
    calls = [call(number, started_ns=then, ended_ns=then + 1) for number in range(1000)]
    with Ledger.open(str(path)) as ledger:
        ledger.write([(each, priced()) for each in calls], [], frozen)
    return path


@pytest.mark.mostly_slow("prune")
@pytest.mark.parametrize(
    "words", [["prune", "--keep", "30d"], ["reprice"]], ids=lambda each: each[0]
)
def test_a_chore_beside_a_writer_harms_nobody(old, words, tmp_path):
    """A writer in another process commits all the while; the command runs twice beside it."""
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(TESTS), str(old)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    for _ in range(2):
        done = crewmeter(*words, "--ledger", str(old), CREWMETER_PRICES=str(prices))
        assert done.returncode == 0, done.stdout + done.stderr
    writer.communicate(timeout=600)
    assert writer.returncode == 0
    with Ledger.open(str(old)) as ledger:
        detail = rows(ledger, "SELECT count(*) AS n FROM call")[0]["n"]
        counted = rows(ledger, "SELECT sum(calls) AS n FROM total_hourly")[0]["n"]
        if words[0] == "reprice":
            assert len(assert_books_hold(ledger).calls) == 2200
    assert counted == 2200
    assert detail == (1200 if words[0] == "prune" else 2200)
