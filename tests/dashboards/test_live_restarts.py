"""The committed rules in a real Prometheus while the sidecar restarts, is away, and comes back."""

from __future__ import annotations

import time

import pytest
from support.boards import get_json
from support.prometheus_server import impatient_rules, prometheus_server, query
from support.sidecars import Nursery, request

pytestmark = [pytest.mark.slow, pytest.mark.services]

CALLS = "sum(crewmeter_llm_calls_total)"


def until(true, seconds=180):
    """Wait for a condition and return what it found."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def value(base: str, expression: str) -> float | None:
    found = query(base, expression)
    return float(found[0]["value"][1]) if found else None


def firing(base: str) -> set[str]:
    return {each["metric"]["alertname"] for each in query(base, 'ALERTS{alertstate="firing"}')}


def broken_rules(base: str) -> list[str]:
    """Rules that could not be evaluated, with the reason."""
    groups = get_json(f"{base}/api/v1/rules")["data"]["groups"]
    assert groups
    return [
        f"{rule['name']}: {rule['lastError']}"
        for group in groups
        for rule in group["rules"]
        if rule["health"] == "err"
    ]


def test_restarts_and_absent_series_fire_only_that_the_sidecar_is_down(tmp_path):
    """Counters that begin anew are no jump, series that end are no zero, and an alert that needs
    a series does not fail where there is none.
    """
    path = tmp_path / "ledger.db"
    with Nursery() as nursery:
        sidecar = nursery.start(path)
        port = sidecar.port
        with prometheus_server(tmp_path, scrape=port, rules=impatient_rules(tmp_path)) as base:
            until(lambda: value(base, 'up{job="crewmeter"}') == 1)
            assert sidecar.post(request(50)).status == 200
            until(lambda: value(base, CALLS) == 50)
            calm = firing(base)
            assert "SidecarDown" not in calm
            for round_ in range(2):
                sidecar.kill()
                until(lambda: "SidecarDown" in firing(base))
                until(lambda: value(base, CALLS) is None)
                assert firing(base) - calm == {"SidecarDown"}
                sidecar = nursery.start(path, port=port)
                until(lambda: "SidecarDown" not in firing(base))
                assert sidecar.post(request(3 + round_)).status == 200
                until(lambda count=3 + round_: value(base, CALLS) == count)
                assert firing(base) - calm == set()
            growth = value(base, "sum(increase(crewmeter_llm_calls_total[5m]))")
            assert growth is None or growth < 200, "a restart was taken for a jump"
            assert broken_rules(base) == []
            sidecar.terminate()
