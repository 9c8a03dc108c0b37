"""The golden fixtures.

Spans captured from the real instrumentors running a real crew, against what the provider billed.
"""

from __future__ import annotations

import json

import pytest
from support.paths import SPAN_FIXTURES

from crewmeter_cost.intake.classify import read
from crewmeter_cost.intake.otlp_json import from_json
from crewmeter_cost.records import Call, Step

FIXTURES = SPAN_FIXTURES


def records(name: str) -> list[Call | Step]:
    """Everything the dialects read out of a fixture."""
    document = json.loads((FIXTURES / f"{name}.json").read_text())
    spans = [
        span
        for request in document["requests"]
        for span in from_json(json.dumps(request).encode()).spans
    ]
    return [record for record in map(read, spans) if record is not None]


def calls(name: str) -> list[Call]:
    return [record for record in records(name) if isinstance(record, Call)]


def steps(name: str, kind: str) -> dict[str, Step]:
    return {
        record.name: record
        for record in records(name)
        if isinstance(record, Step) and record.kind == kind
    }


def billed(name: str) -> list[tuple[object, ...]]:
    """(operation, model, input, cached, output) of every exchange the fake provider billed,
    sorted.
    """
    document = json.loads((FIXTURES / f"{name}.json").read_text())
    rows = [
        (entry["operation"], entry["request_model"], entry["usage"]) for entry in document["billed"]
    ]
    return sorted(
        (operation, model, usage["input"], usage["cache_read"], usage["output"])
        for operation, model, usage in rows
    )


def read_back(found: list[Call]) -> list[tuple[object, ...]]:
    return sorted(
        (
            call.operation,
            call.request_model,
            call.usage.input,
            call.usage.cache_read,
            call.usage.output,
        )
        for call in found
    )


@pytest.mark.parametrize(
    "name", ["openinference", "openllmetry", "openlit", "logfire", "langfuse", "litellm"]
)
def test_every_billed_exchange_is_one_call_with_its_counts(name):
    """Whatever the instrumentor calls its attributes, the calls read are the exchanges the
    provider billed.
    """
    assert read_back(calls(name)) == billed(name)


@pytest.mark.parametrize("name", ["genai", "genai_old"])
def test_the_conventions_are_read_in_new_and_old_names(name):
    """OpenTelemetry's own instrumentor under a real crew: every exchange is one call.

    It does not tell what was read from a cache.
    """
    assert read_back(calls(name)) == [
        (operation, model, sent, 0, got) for operation, model, sent, _, got in billed(name)
    ]
    document = json.loads((FIXTURES / f"{name}.json").read_text())
    chats = {entry["response_id"] for entry in document["billed"] if entry["operation"] == "chat"}
    assert {call.response_id for call in calls(name) if call.operation == "chat"} == chats
    assert ("gen_ai.system" in json.dumps(document)) == (name == "genai_old")


@pytest.mark.parametrize(
    "name", ["genai", "genai_old", "openinference", "openllmetry", "openlit", "logfire", "langfuse"]
)
def test_the_provider_is_named(name):
    """A price needs a provider; every one of these instrumentors tells it somewhere."""
    assert {call.provider for call in calls(name)} == {"openai"}


@pytest.mark.parametrize("name", ["mixed", "pydantic_ai"])
def test_two_instrumentors_give_one_response_id_per_exchange(name):
    """Two reports of one chat call carry the provider's one response id, by which the ledger bills
    it once.
    """
    chats = [call for call in calls(name) if call.operation == "chat"]
    document = json.loads((FIXTURES / f"{name}.json").read_text())
    ids = {entry["response_id"] for entry in document["billed"] if entry["operation"] == "chat"}
    assert len(chats) == 2 * len(ids)
    assert {call.response_id for call in chats} == ids
    assert len({call.scope for call in chats}) == 2


@pytest.mark.parametrize("name", ["openinference", "openllmetry", "openlit", "crewai_native"])
def test_a_crew_traced_by_others_is_a_run(name):
    """The crew's span is the run's root, its run is the trace, and its agents are steps of it."""
    crews = steps(name, "crew")
    assert set(crews) == {"newsroom"}
    assert crews["newsroom"].is_run
    assert crews["newsroom"].context.run_id == crews["newsroom"].trace_id
    assert set(steps(name, "agent")) == {"Researcher", "Writer"}


@pytest.mark.parametrize("name", ["openinference", "crewai_native"])
def test_tools_and_their_failures_are_seen(name):
    """A tool that raised is a failed step under its own name, once."""
    document = [
        record for record in records(name) if isinstance(record, Step) and record.kind == "tool"
    ]
    assert {step.name: step.error for step in document} == {"archive": False, "fact_check": True}
    runs = {step.trace_id for step in document}
    assert len(document) == 2 * len(runs)


def test_openinference_tasks_are_named_on_their_agents():
    """OpenInference has no task span; the agent's span says which task it worked on."""
    assert {step.context.task for step in steps("openinference", "agent").values()} == {
        "research",
        "write",
    }


def test_crewai_native_gemini_counts_are_invalid_and_bedrock_counts_missing():
    """CrewAI's Gemini spans say input 0 and its Bedrock spans nothing.

    Neither may be priced as if it were cheap.
    """
    by_model = {}
    for call in calls("crewai_native"):
        by_model.setdefault(call.request_model, set()).add(call.usage.status)
    assert by_model == {
        "gpt-4o-mini": {"reported"},
        "gemini-2.5-flash": {"invalid"},
        "amazon.nova-lite-v1:0": {"missing"},
    }


def test_agents_of_crewai_are_called_by_role():
    """CrewAI's own agent spans have a hash for a name; people know the role."""
    assert {call.context.agent for call in calls("crewai_native")} == {"Researcher", "Writer"}


def test_aggregates_are_not_billed():
    """Agent and workflow spans repeat the sum of their leaves.

    Billing them would double the money.
    """
    assert len(calls("openlit")) == 5
    assert len(calls("pydantic_ai")) == 4  # two instrumentors, two exchanges each, no agent span


def test_an_instrumentors_own_estimate_is_not_the_providers_word():
    """OpenLIT, Logfire and LiteLLM write a cost they computed.

    It must not pose as what the provider reported.
    """
    assert {
        call.reported_cost_usd for name in ("openlit", "logfire", "litellm") for call in calls(name)
    } == {None}
