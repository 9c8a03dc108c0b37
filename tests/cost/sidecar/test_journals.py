"""What an app left in its journal is in the sidecar's ledger without any other reader."""

from __future__ import annotations

import json
import time

import pytest
from support.sidecars import request

from crewmeter import semconv
from crewmeter.export.journal_format import journal_folder, resource_line


def leave_journal(ledger, first: int, count: int) -> None:
    """A journal as an app leaves it that ended before its ledger was written."""
    folder = journal_folder(ledger)
    folder.mkdir(exist_ok=True, mode=0o700)
    now = time.time_ns()
    values = {
        semconv.OPERATION: "chat",
        semconv.PROVIDER: "openai",
        semconv.REQUEST_MODEL: "gpt-4o-mini",
        semconv.INPUT_TOKENS: 1000,
        semconv.OUTPUT_TOKENS: 100,
    }
    lines = [resource_line({"service.name": "app"})]
    for number in range(first, first + count):
        span = [
            "span",
            f"{1:032x}",
            f"{number:016x}",
            None,
            "chat",
            now - 10**9,
            now,
            None,
            "llm",
            True,
            {},
            values,
            None,
        ]
        lines.append(json.dumps(span).encode() + b"\n")
    ready = folder / f"4000000-{first}.new"
    ready.write_bytes(b"".join(lines))
    ready.rename(ready.with_suffix(".jsonl"))


@pytest.fixture
def often(nursery, tmp_path):
    """A sidecar that looks for journals ten times a second."""
    with nursery.start(tmp_path / "ledger.db", intervals={"JOURNAL_SECONDS": 0.1}) as running:
        yield running


def wait_for_calls(running, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(running.stored()) < count:
        assert time.monotonic() < deadline, running.raw_log()
        time.sleep(0.05)


@pytest.mark.slow
def test_a_journal_is_written_at_the_start(nursery, tmp_path):
    """An app ended before the sidecar began: its calls are there when the sidecar is ready."""
    path = tmp_path / "ledger.db"
    leave_journal(path, 1, 3)
    with nursery.start(path) as running:
        wait_for_calls(running, 3)
        assert running.get("/api/report").json()["total"]["calls"] == 3
    assert not journal_folder(path).exists()


def test_a_journal_is_written_while_the_sidecar_serves(often):
    """An app ends meanwhile. Its calls are stored once, priced and counted in the metrics."""
    assert often.post(request(1)).status == 200
    leave_journal(often.ledger, 1, 1200)
    wait_for_calls(often, 1201)
    leave_journal(often.ledger, 1, 1200)
    leave_journal(often.ledger, 5000, 1)
    wait_for_calls(often, 1202)
    total = often.get("/api/report").json()["total"]
    assert (total["calls"], total["unpriced_calls"]) == (1202, 0)
    assert often.metric('crewmeter_ingest_spans_total{outcome="stored"}') == 1202


@pytest.mark.slow
def test_a_journal_waits_for_a_ledger_that_is_locked(often):
    """It stays on disk until the ledger takes it, and the sidecar says so."""
    assert often.post(request(1)).status == 200
    with often.locked():
        leave_journal(often.ledger, 1, 2)
        deadline = time.monotonic() + 120
        while "of ended apps wait" not in often.raw_log():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert any(journal_folder(often.ledger).iterdir())
    wait_for_calls(often, 3)
    assert often.get("/readyz").status == 200
