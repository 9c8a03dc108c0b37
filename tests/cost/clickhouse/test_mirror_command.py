"""`crewmeter mirror` from outside."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial

import pytest

from crewmeter_cost.demo.history.load import load_history
from crewmeter_cost.ledger.store import Ledger

pytest.importorskip("clickhouse_connect", reason="needs the PyPI package clickhouse-connect")

CREWMETER = [sys.executable, "-c", "from crewmeter_cost.cli import main; main()"]


def crewmeter(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CREWMETER, *arguments], capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.slow
def test_it_says_what_it_sent_and_then_that_there_is_nothing(seeded_path, tmp_path):
    """One line a copy; the second run finds ledger and mirror the same."""
    pytest.importorskip("chdb", reason="needs the PyPI package chdb")
    shutil.copy(seeded_path, tmp_path / "ledger.db")
    arguments = (
        "mirror",
        "--to",
        f"chdb:///{tmp_path / 'clickhouse'}",
        "--ledger",
        str(tmp_path / "ledger.db"),
    )
    first = crewmeter(*arguments)
    assert first.returncode == 0, first.stderr
    assert "calls" in first.stdout
    second = crewmeter(*arguments)
    assert "nothing to send" in second.stdout


@pytest.mark.slow
def test_every_goes_on_until_it_is_interrupted(seeded_path, tmp_path):
    """What the ledger gains while it runs is in the next round; Ctrl-C ends it well."""
    pytest.importorskip("chdb", reason="needs the PyPI package chdb")
    path = str(tmp_path / "ledger.db")
    shutil.copy(seeded_path, path)
    command = [
        *CREWMETER,
        "mirror",
        "--to",
        f"chdb:///{tmp_path / 'clickhouse'}",
        "--ledger",
        path,
        "--every",
        "1",
    ]
    heard = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # a job in the background is started deaf to it
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    )
    try:
        assert "calls" in process.stdout.readline()
        with Ledger.open(path) as ledger:
            loaded = load_history(ledger, days=1, seed=9, until=datetime.now(UTC), calls_per_day=20)
        assert loaded.new_calls > 0
        assert f"{loaded.new_calls} calls" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0, process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_without_the_extra_it_says_what_to_install(seeded_path):
    """A base installation has no ClickHouse client."""
    blocked = (
        "import sys; sys.modules['clickhouse_connect'] = None; from crewmeter_cost.cli "
        "import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        blocked,
        "mirror",
        "--to",
        "clickhouse://h/x",
        "--ledger",
        str(seeded_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 2
    assert "[clickhouse]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.mostly_slow("nonsense")
@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("clickhouse://meter:hunter2@127.0.0.1:9/crewmeter", "127.0.0.1:9"),
        ("postgresql://db/x", "a mirror lives in ClickHouse"),
        ("nonsense", "is not a URL"),
        ("clickhouse://h/a;DROP", "is no name for a database"),
        ("chdb://", "names no folder"),
    ],
)
def test_it_refuses_what_it_cannot_do(seeded_path, to, said):
    """Exit 2, the culprit and a way out, no traceback and no password."""
    done = crewmeter("mirror", "--to", to, "--ledger", str(seeded_path))
    assert done.returncode == 2
    assert said in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
