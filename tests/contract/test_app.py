"""The app's side of the contract, in one process.

`instrument` and its way back, tags, the handle, and any OpenTelemetry app.
"""

from __future__ import annotations

import json

from support.app import run_app

APP = """
import inspect, json, sys
import crewmeter
assert "crewai" not in sys.modules  # importable, and light, without it
import crewai, httpx
from crewai.events.event_bus import CrewAIEventsBus, crewai_event_bus
from crewai.hooks import get_after_llm_call_hooks, get_before_llm_call_hooks

def registries():
    bus = vars(crewai_event_bus).items()
    handlers = {name: repr(value) for name, value in bus if "handler" in name}
    hooks = list(get_before_llm_call_hooks()), list(get_after_llm_call_hooks())
    clients = dict(vars(httpx.Client)), dict(vars(httpx.AsyncClient))
    return dict(vars(CrewAIEventsBus)), handlers, hooks, clients

before = registries()
handle = crewmeter.instrument(tags={"colour": "red"})
again = crewmeter.instrument(tags={"colour": "blue"})
during = registries()
llm = crewai.LLM(model="gpt-4o-mini", base_url=FAKE_PROVIDER + "/v1", api_key="sk-fake")
with crewmeter.attribute(user="ines", team="growth", session="s-42", env="prod"):
    crewai.Agent(role="R", goal="g", backstory="b", llm=llm).kickoff("hello")
flushed = handle.flush(5.0), crewmeter.flush()
handle.uninstrument()
handle.uninstrument()
crewmeter.uninstrument()
print("ANSWER" + json.dumps({
    "one_handle": handle is again, "changed": before != during,
    "restored": before == registries(), "flushed": flushed,
}))
""".replace("FAKE_PROVIDER", '__import__("os").environ["PROVIDER_URL"]')

PLAIN = """
from opentelemetry import trace
from opentelemetry.sdk._configuration import _OTelSDKConfigurator

_OTelSDKConfigurator().configure()
with trace.get_tracer("mine").start_as_current_span("chat gpt-4o") as span:
    for name, value in {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o", "server.address": "api.openai.com",
        "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 300,
    }.items():
        span.set_attribute(name, value)
trace.get_tracer_provider().shutdown()
"""


def test_instrument_and_back(fake_provider, ledger_path, command):
    """Twice changes nothing; a call is attributed and tagged.

    Uninstrumenting restores CrewAI's and httpx's very own objects.
    """
    ran = run_app(
        APP,
        ledger=ledger_path,
        provider_url=fake_provider.url,
        env={"CREWMETER_TAGS": "env=dev,region=eu"},
    )
    answer = json.loads(ran.stdout.split("ANSWER")[1])
    assert answer == {
        "one_handle": True,
        "changed": True,
        "restored": True,
        "flushed": [True, True],
    }
    [call] = [
        json.loads(line)
        for line in command("export", "--ledger", str(ledger_path)).out.splitlines()
    ]
    assert (call["user"], call["team"], call["session"]) == ("ines", "growth", "s-42")
    assert call["tags"] == {"colour": "red", "env": "prod", "region": "eu"}
    assert call["crew"] is call["flow"] is call["task"] is None
    assert (call["agent"], call["status"], call["cost_status"]) == ("R", "ok", "priced")


def test_any_opentelemetry_app_writes_the_ledger(ledger_path, command):
    """OTEL_TRACES_EXPORTER=crewmeter prices the spans of an app that never heard of us."""
    run_app(
        PLAIN,
        ledger=ledger_path,
        env={"OTEL_TRACES_EXPORTER": "console,crewmeter", "OTEL_METRICS_EXPORTER": "none"},
    )
    [call] = [
        json.loads(line)
        for line in command("export", "--ledger", str(ledger_path)).out.splitlines()
    ]
    assert (call["cost_usd"], call["run_id"], call["response_model"]) == ("0.0055", None, None)
