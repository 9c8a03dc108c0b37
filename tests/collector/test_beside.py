"""Other back ends beside the ledger, through the real collector: both get every call."""

from __future__ import annotations

import pytest
from support.collector_parts import Collector, Sink, TraceBackend, post, wait_until
from support.collector_traffic import run

from crewmeter import semconv

pytestmark = pytest.mark.services

BESIDE = {
    "langfuse": {"CREWMETER_LANGFUSE_KEYS": "cGs6c2s="},
    "phoenix": {"CREWMETER_PHOENIX_KEY": "a-key"},
    "datadog": {"DD_API_KEY": "a-key"},
}
SENT_KEY = {"langfuse": "Basic cGs6c2s=", "phoenix": "Bearer a-key", "datadog": None}
"""What stands in the Authorization header; Datadog has one of its own."""
CONTENT = {
    semconv.INPUT_MESSAGES: '[{"role":"user","parts":[{"type":"text","content":"canary"}]}]',
    "input.value": "canary",
}


@pytest.fixture
def other_end():
    """Where the other back end stands."""
    sink = Sink()
    yield sink
    sink.close()


@pytest.fixture
def beside(collectors, ledger_end: Sink, trace_end: TraceBackend, other_end: Sink):
    """Starts a gateway with the overlay of another back end."""

    def start(name: str) -> Collector:
        return collectors(
            "gateway",
            f"beside-{name}",
            CREWMETER_LEDGER_ENDPOINT=ledger_end.url,
            CREWMETER_TRACES_ENDPOINT=trace_end.endpoint,
            **{f"CREWMETER_{name.upper()}_ENDPOINT": other_end.url},
            **BESIDE[name],
        )

    return start


@pytest.mark.parametrize("name", BESIDE)
def test_both_get_every_call_and_neither_gets_content(beside, ledger_end, other_end, name):
    """The collector forwards to both, with each one's key, and removes prompts on either way."""
    gateway = beside(name)
    body, billed = run(5, extra=CONTENT, scope="another")
    assert post(f"{gateway.http}/v1/traces", body) == 200
    wait_until(lambda: ledger_end.calls == billed, what="every call at the ledger")
    wait_until(lambda: other_end.calls == billed, what=f"every call at {name}")
    assert set(other_end.keys) == {SENT_KEY[name]}
    for end in (ledger_end, other_end):
        assert all(b"canary" not in received for received in end.bodies)


def test_a_back_end_that_is_away_costs_the_ledger_nothing(beside, ledger_end, other_end):
    """While the other back end refuses, the ledger has its calls as ever."""
    other_end.status = 503
    gateway = beside("langfuse")
    body, billed = run(5)
    assert post(f"{gateway.http}/v1/traces", body) == 200
    wait_until(lambda: ledger_end.calls == billed, what="every call at the ledger")
    assert other_end.calls == set()


def test_what_crewai_amp_exports_needs_the_key(collectors, ledger_end, trace_end):
    """The gateway for AMP refuses requests without its key, and books those with it."""
    gateway = collectors(
        "gateway",
        "crewai-amp",
        CREWMETER_LEDGER_ENDPOINT=ledger_end.url,
        CREWMETER_TRACES_ENDPOINT=trace_end.endpoint,
        CREWMETER_APPS_TOKEN="a-key-for-amp",
    )
    body, billed = run(3, extra=CONTENT, scope="another")
    url = f"{gateway.http}/v1/traces"
    assert post(url, body) == 401
    assert post(url, body, token="a-key-for-tests") == 401
    assert post(url, body, token="a-key-for-amp") == 200
    wait_until(lambda: ledger_end.calls == billed, what="every call at the ledger")
    assert all(b"canary" not in received for received in ledger_end.bodies)
