"""Provider calls before CrewAI's first event, by clients imported after `instrument`."""

from __future__ import annotations

import pytest
from support.app import run_app

FIRST_CALL = """
import os
import crewmeter
crewmeter.instrument(summary=False)
{client}
with crewmeter.attribute(user="early"):
    {call}
"""
OPENAI = (
    "from openai import OpenAI\n"
    "client = OpenAI(base_url=os.environ['PROVIDER_URL'] + '/v1', api_key='k')",
    "client.chat.completions.create(model='gpt-4o-mini', messages="
    "[dict(role='user', content='hello')])",
)
REQUESTS = (
    "import requests",
    "requests.post(os.environ['PROVIDER_URL'] + '/v1/chat/completions', json=dict("
    "model='gpt-4o-mini', messages=[dict(role='user', content='hello')]))",
)


@pytest.mark.parametrize(("client", "call"), [OPENAI, REQUESTS], ids=["openai", "requests"])
def test_a_call_before_any_event_is_recorded(ledger_path, fake_provider, client, call):
    """The client's library is patched when it is imported, not at CrewAI's first event."""
    script = FIRST_CALL.format(client=client, call=call)
    ran = run_app(script, ledger=ledger_path, provider_url=fake_provider.url)
    assert [row["user"] for row in ran.calls] == ["early"]
    assert len(fake_provider.billing_log.billed) == 1


@pytest.mark.slow
def test_embeddings_at_construction_are_recorded(ledger_path, fake_provider):
    """A crew whose knowledge sources embed while it is built has all of those calls on
    its books.
    """
    script = """
import os
import crewmeter
crewmeter.instrument(summary=False)
from crewai import LLM, Agent, Crew, Task
from crewai.knowledge.source.string_knowledge_source import StringKnowledgeSource

url = os.environ["PROVIDER_URL"] + "/v1"
embedder = dict(provider="openai", config=dict(
    api_key="k", api_base=url, model_name="text-embedding-3-small"))
agent = Agent(role="R", goal="g", backstory="b",
    llm=LLM(model="openai/gpt-4o-mini", base_url=url, api_key="k"))
task = Task(description="d", expected_output="x", agent=agent)
source = StringKnowledgeSource(content="fact " * 3000, chunk_size=1000, chunk_overlap=0)
crew = Crew(agents=[agent], tasks=[task], knowledge_sources=[source], embedder=embedder)
"""
    ran = run_app(script, ledger=ledger_path, provider_url=fake_provider.url)
    billed = [
        entry for entry in fake_provider.billing_log.billed if entry.operation == "embeddings"
    ]
    assert billed
    assert len([row for row in ran.calls if row["operation"] == "embeddings"]) == len(billed)


def test_the_import_hook_leaves_no_trace(ledger_path):
    """After `uninstrument` ``sys.meta_path`` is what it was before `instrument`."""
    script = """
import sys
before = list(sys.meta_path)
import crewmeter
handle = crewmeter.instrument(summary=False)
during = list(sys.meta_path)
handle.uninstrument()
assert sys.meta_path == before != during, (before, during)
import httpx
assert httpx.Client.send.__module__ == "httpx._client"
assert type(httpx.__spec__.loader).__module__.startswith("_frozen_importlib"), httpx.__spec__
"""
    run_app(script, ledger=ledger_path)
