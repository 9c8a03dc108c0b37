"""A real crew, a real client, both seams.

One billed span for each exchange the provider billed, none twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import nullcontext, suppress

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.http_recording import PROVIDERS, llm

import crewmeter
from crewmeter import semconv
from crewmeter.usage.attributes import usage_from_attributes

pytestmark = pytest.mark.filterwarnings("ignore")  # CrewAI's and the SDKs' own

TASK = 'Do it. [[usage:in=1000 read=400 out=300]] [[tool:look_up {"what": "x"}]]'
NATIVE = [name for name in PROVIDERS if not name.startswith("litellm")]


@pytest.fixture(scope="module")
def spans():
    """Crewmeter installed for the module, its spans in memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    handle = crewmeter.instrument(tracer_provider=provider)
    yield lambda: (handle.flush(5), exporter.get_finished_spans())[1]
    handle.uninstrument()
    provider.shutdown()


def _crew(provider, server, *, stream):
    from crewai import Agent, Crew, Task
    from crewai.tools import tool

    @tool("look_up")
    def look_up(what: str) -> str:
        """Look something up."""
        return f"found {what}"

    agent = Agent(
        role="keeper",
        goal="keep",
        backstory="brief",
        llm=llm(provider, server, stream=stream),
        tools=[look_up],
    )
    return Crew(
        agents=[agent],
        tasks=[Task(description=TASK, expected_output="text", agent=agent)],
        name=f"{provider} {stream}",
    )


def _billed(spans, name):
    calls = [s for s in spans() if s.attributes.get(semconv.OPERATION) in semconv.BILLED_OPERATIONS]
    return [call for call in calls if call.attributes.get(semconv.CREW) == name]


@pytest.mark.mostly_slow("openai", "anthropic")
@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("provider", NATIVE)
def test_one_billed_span_for_each_bill(server, spans, provider, stream, way):
    """Crew, agent, tool.

    The tokens on the billed spans are the provider's, exchange by exchange.
    """
    crew = _crew(provider, server, stream=stream)
    crew.name = f"{provider} {stream} {way}"
    # CrewAI can't use tools in a streamed Responses call and gives up; what it requested until
    # then is billed.
    with suppress(ValueError) if (provider, stream) == ("responses", True) else nullcontext():
        crew.kickoff() if way == "sync" else asyncio.run(crew.akickoff())
    billed = _billed(spans, crew.name)
    got = Counter(
        _line(usage_from_attributes(span.attributes), span.attributes.get(semconv.RESPONSE_ID))
        for span in billed
    )
    assert got == Counter(
        _line(entry.usage, entry.response_id) for entry in server.billing_log.billed
    )
    assert {span.attributes[semconv.USAGE_SOURCE] for span in billed} == {
        "stream" if stream else "wire"
    }
    assert all(span.attributes.get(semconv.AGENT_NAME) == "keeper" for span in billed)


def _line(usage, response_id):
    return usage.status, usage.input, usage.output, usage.cache_read, response_id
