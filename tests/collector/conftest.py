"""Fixtures: a real collector, built from the manifest, between fake ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.collector_parts import ROOT, Collector, Sink, TraceBackend


@pytest.fixture(scope="session")
def binary() -> str:
    """Return the slim collector. CI builds it first.

    Elsewhere the tests skip until somebody runs the script.

    CI builds it first; elsewhere the tests skip until somebody runs the script.
    """
    found = subprocess.run(
        [ROOT / "scripts/build-collector.sh", "--if-built"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        reason = "the slim collector isn't built: run scripts/build-collector.sh (needs Go)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found.stdout.strip()


@pytest.fixture
def ledger_end():
    """Where the ledger path ends."""
    sink = Sink()
    yield sink
    sink.close()


@pytest.fixture
def trace_end():
    """Where sampled traces end."""
    backend = TraceBackend()
    yield backend
    backend.close()


@pytest.fixture
def collectors(binary: str, tmp_path: Path):
    """Yield a starter of collectors: ``collectors("gateway", CREWMETER_…=…)``.

    They are stopped with the test.

    They are stopped with the test.
    """
    started: list[Collector] = []

    def start(*overlays: str, **environment: str) -> Collector:
        collector = Collector(
            binary, tmp_path / f"collector-{len(started)}", *overlays, **environment
        )
        started.append(collector)
        return collector.start()

    yield start
    for collector in started:
        collector.stop()


@pytest.fixture
def gateway(collectors, ledger_end: Sink, trace_end: TraceBackend) -> Collector:
    """A gateway between the two ends that keeps every trace and decides at once."""
    return collectors(
        "gateway",
        CREWMETER_LEDGER_ENDPOINT=ledger_end.url,
        CREWMETER_TRACES_ENDPOINT=trace_end.endpoint,
        CREWMETER_TRACE_PERCENT="100",
        CREWMETER_DECISION_WAIT="1s",
        CREWMETER_DECISION_WAIT_AFTER_ROOT="1s",
    )


@pytest.fixture
def agent(collectors, gateway: Collector) -> Collector:
    """An agent in front of the gateway."""
    return collectors("agent", CREWMETER_GATEWAY=gateway.http)
