"""What goes out of an app that runs a crew, by generation of the conventions."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("crewai")

from crewai import LLM
from crewai.tools import tool
from opentelemetry import metrics as otel_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.rows import call_rows

import crewmeter
from crewmeter import semconv
from crewmeter.semconv.generations import METRICS, OPT_IN
from crewmeter_cost.intake import classify, sdk_spans

PROMPT = 'Look up rain [[tool:lookup {"q": "rain"}]] [[say:It rains]]'


@tool
def lookup(q: str) -> str:
    """Look something up."""
    return f"{q}: 12 mm"


@pytest.fixture
def spans_of(ledger_path, worker, job, team, monkeypatch):
    """Runs a crew with a tool under an opt-in, and returns the spans of the user's provider."""

    def run(opt_in: str, **options):
        monkeypatch.setenv(OPT_IN, opt_in)
        memory = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(memory))
        handle = crewmeter.instrument(
            ledger=str(ledger_path), summary=False, tracer_provider=provider, **options
        )
        with crewmeter.attribute(user="ada", session="s-1"):
            team(job(worker(tools=[lookup]), PROMPT), name="weather").kickoff()
        handle.uninstrument()
        return memory.get_finished_spans()

    return run


def test_a_tool_span_has_the_id_its_model_gave(spans_of):
    """The id of a requested tool call and the tool's type are on the span of its execution."""
    spans = spans_of("gen_ai_latest_experimental")
    (tool_span,) = [span for span in spans if span.name == "execute_tool lookup"]
    assert tool_span.attributes[semconv.TOOL_CALL_ID].startswith("call_")
    assert tool_span.attributes[semconv.TOOL_TYPE] == "function"


def test_captured_messages_have_parts(spans_of):
    """With content, prompts, answers and tool calls are messages with parts, as JSON."""
    spans = spans_of("gen_ai_latest_experimental", capture_content=True)
    chats = [span.attributes for span in spans if span.name.startswith("chat")]
    sent = json.loads(chats[0][semconv.INPUT_MESSAGES])
    assert [message["role"] for message in sent][:2] == ["system", "user"]
    assert all(part["type"] == "text" for message in sent for part in message["parts"])
    (said,) = json.loads(chats[0][semconv.OUTPUT_MESSAGES])
    (call,) = said["parts"]
    assert (said["role"], call["type"], call["name"]) == ("assistant", "tool_call", "lookup")
    assert json.loads(call["arguments"]) == {"q": "rain"}
    answered = json.loads(chats[-1][semconv.INPUT_MESSAGES])
    (response,) = [m for m in answered if m["role"] == "tool"]
    assert response["parts"][0]["type"] == "tool_call_response"
    assert response["parts"][0]["id"] == call["id"]
    (answer,) = json.loads(chats[-1][semconv.OUTPUT_MESSAGES])
    assert answer["parts"] == [{"type": "text", "content": "It rains"}]


def test_the_old_generation_has_plain_texts(spans_of):
    """Whoever stays with the old generation gets the texts as they were."""
    spans = spans_of("default", capture_content=True)
    chats = [span.attributes for span in spans if span.name.startswith("chat")]
    assert chats[-1][semconv.OUTPUT_MESSAGES] == "It rains"
    assert "user.id" not in chats[-1]


def test_the_chunks_of_a_stream_are_timed(fake_provider, ledger_path, monkeypatch):
    """A streamed call has its first chunk, and one interval for each later one, in either name."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(otel_metrics, "get_meter_provider", lambda: provider)
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    llm = LLM(
        model="openai/gpt-4o-mini",
        base_url=f"{fake_provider.url}/v1",
        api_key="sk-fake",
        stream=True,
    )
    llm.call(f"Hello [[say:{'It rains in Rome. ' * 20}]]")
    handle.uninstrument()
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    points = {metric.name: metric.data.data_points for metric in scope.metrics}
    provider.shutdown()
    for stem in ("gen_ai.client.operation", "gen_ai.client.inference"):
        (first,) = points[f"{stem}.time_to_first_chunk"]
        (later,) = points[f"{stem}.time_per_output_chunk"]
        (whole,) = points[f"{stem}.duration"]
        assert first.count == 1
        assert later.count > 1
        assert first.sum + later.sum == pytest.approx(whole.sum)


NOT_IN_THIS_CREW = {
    "gen_ai.client.embeddings.duration",
    "gen_ai.client.embeddings.operation.input_tokens",
    "gen_ai.client.operation.cost",  # OpenAI's API says none
    "mcp.client.operation.duration",
}


@pytest.mark.parametrize(
    ("opt_in", "chosen"),
    [
        ("default", {"old", "both"}),
        # In the new one the metric of both is for what is no inference, and nothing here is.
        ("gen_ai_latest_experimental", {"new"}),
        ("gen_ai_latest_experimental/dup", {"old", "new", "both"}),
    ],
    ids=["old", "new", "both"],
)
def test_a_crew_has_every_metric_of_the_chosen_generation(
    worker, job, team, llm, ledger_path, monkeypatch, opt_in, chosen
):
    """A crew with a tool and a streamed call, which reads and writes a cache and reasons."""
    monkeypatch.setenv(OPT_IN, opt_in)
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(otel_metrics, "get_meter_provider", lambda: provider)
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    team(job(worker(tools=[lookup]), PROMPT), name="weather").kickoff()
    llm.stream = True
    llm.call(f"[[usage:in=900 read=300 w5m=100 out=200 reasoning=50]] [[say:{'Rain. ' * 20}]]")
    handle.uninstrument()
    names = {
        metric.name
        for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.data.data_points
    }
    provider.shutdown()
    expected = {metric.name for metric in METRICS if metric.generation in chosen}
    assert {name for name in names if not name.startswith("crewmeter")} == (
        expected - NOT_IN_THIS_CREW
    )


@pytest.mark.parametrize(
    "opt_in", ["default", "gen_ai_latest_experimental", "gen_ai_latest_experimental/dup", ""]
)
def test_either_generation_is_booked_once(spans_of, fake_provider, ledger_path, opt_in):
    """The ledger, and whoever reads the spans, counts each token once, whatever goes out."""
    spans = spans_of(opt_in)
    billed = fake_provider.billing_log.billed
    rows = call_rows(ledger_path)
    assert len(rows) == len(billed)
    assert {row["user"] for row in rows} == {"ada"}
    assert {row["session"] for row in rows} == {"s-1"}
    read = [classify.read(sdk_spans.span_of(span)) for span in spans]
    calls = [call for call in read if hasattr(call, "usage")]
    assert sorted(call.usage.input for call in calls) == sorted(row["input_tokens"] for row in rows)
