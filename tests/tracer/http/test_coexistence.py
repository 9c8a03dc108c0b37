"""Beside other instrumentors, put on and taken off in any order.

The same exchanges, and their spans as ever.
"""

from __future__ import annotations

from importlib import import_module
from itertools import permutations

import httpx
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.http_recording import recording

pytestmark = pytest.mark.filterwarnings("ignore")  # the instrumentors' own

OTHERS = {
    "openinference": ("openinference.instrumentation.openai", "OpenAIInstrumentor"),
    "openllmetry": ("opentelemetry.instrumentation.openai", "OpenAIInstrumentor"),
    "httpx": ("opentelemetry.instrumentation.httpx", "HTTPXClientInstrumentor"),
}
MESSAGES = [{"role": "user", "content": "hello"}]


def _ask(server):
    with openai.OpenAI(base_url=server.base_url("openai"), api_key="k") as client:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        for _ in client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ):
            pass
        client.embeddings.create(model="text-embedding-3-small", input=["a"])
        client.responses.create(model="gpt-5", input="hello")


def _agrees(server, seen):
    billed = [(entry.operation, entry.usage) for entry in server.billing_log.billed]
    return [(exchange.operation, exchange.usage) for exchange in seen.closed] == billed and len(
        billed
    ) == 4


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("order", ["outside", "inside", "crossed"])
def test_the_exchanges_are_the_same_beside_another_instrumentor(server, name, order):
    """Installed before or after, taken off first or last.

    Every exchange once, and the other's spans too.
    """
    module, attribute = OTHERS[name]
    instrumentor = getattr(pytest.importorskip(module), attribute)()
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before = httpx.Client.__dict__["send"]
    if order == "outside":
        instrumentor.instrument(tracer_provider=provider)
        with recording() as seen:
            _ask(server)
            assert _agrees(server, seen)
        instrumentor.uninstrument()
    elif order == "inside":
        with recording() as seen:
            instrumentor.instrument(tracer_provider=provider)
            _ask(server)
            assert _agrees(server, seen)
            instrumentor.uninstrument()
    else:
        with recording() as seen:
            instrumentor.instrument(tracer_provider=provider)
            _ask(server)
            assert _agrees(server, seen)
        _ask(server)  # ours is off, theirs is on: the call works
        instrumentor.uninstrument()
        assert len(seen.closed) == 4
    assert exporter.get_finished_spans()
    assert httpx.Client.__dict__["send"] is before


@pytest.mark.parametrize("order", list(permutations(OTHERS)), ids="-".join)
def test_all_of_them_at_once(server, order):
    """Three other instrumentors round ours, in every order: each exchange still once."""
    instrumentors = [
        getattr(pytest.importorskip(OTHERS[name][0]), OTHERS[name][1])() for name in order
    ]
    provider = TracerProvider()
    instrumentors[0].instrument(tracer_provider=provider)
    with recording() as seen:
        for instrumentor in instrumentors[1:]:
            instrumentor.instrument(tracer_provider=provider)
        _ask(server)
        assert _agrees(server, seen)
    for instrumentor in instrumentors:
        instrumentor.uninstrument()
    assert import_module("httpx").Client.send is httpx.Client.send
