"""A meter in this process, a fake provider for the whole module, and what the ledger says
afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from opentelemetry import context as otel_context
from support.rows import call_rows, step_rows

import crewmeter
from crewmeter import Handle

if TYPE_CHECKING:
    from pathlib import Path

FLUSH_SECONDS = 120
"""A bound that a machine busy with other work keeps too: the first flush opens the ledger."""


def pytest_collection_modifyitems(items):
    """CrewAI and its dependencies warn of deprecations, of their own lazy imports, of fork, and of
    sockets they leave open.
    """
    ignored = (
        "DeprecationWarning",
        "ImportWarning",
        "ResourceWarning",
        "pytest.PytestUnraisableExceptionWarning",
    )
    for item in items:
        if "tests/tracer" in str(item.path):
            for name in ignored:
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{name}"))


@pytest.fixture(autouse=True)
def empty_context():
    """Each test begins without a current span: events without their ends leave one."""
    token = otel_context.attach(otel_context.Context())
    yield
    otel_context.detach(token)


@dataclass
class Metered:
    """A running meter and the ledger it writes."""

    handle: Handle
    path: Path

    def calls(self) -> list[dict[str, object]]:
        """Billed calls, after everything is written."""
        assert self.handle.flush(FLUSH_SECONDS)
        return call_rows(self.path)

    def steps(self) -> list[dict[str, object]]:
        """Steps, after everything is written."""
        assert self.handle.flush(FLUSH_SECONDS)
        return step_rows(self.path)

    @property
    def still_open(self) -> int:
        """Spans that have begun and not ended."""
        return self.handle._meter.recorder.open_count

    def tree(self) -> dict[str, list[str]]:
        """Node label → labels of its children, by ``kind:name``; a call is ``llm``.

        Labels met twice share an entry.
        """
        rows = [{**row, "label": f"{row['kind']}:{row['name']}"} for row in self.steps()]
        rows += [
            {**row, "label": "llm" if row["operation"] == "chat" else row["operation"]}
            for row in self.calls()
        ]
        label = {row["span_id"]: row["label"] for row in rows}
        children: dict[str, list[str]] = {}
        for row in rows:
            children.setdefault(str(label.get(row["parent_span_id"], "-")), []).append(
                str(row["label"])
            )
        return children


@pytest.fixture
def meter(tmp_path, ledger_path):
    """`instrument` into a ledger of the test's own; taken out again afterwards."""
    handle = crewmeter.instrument(ledger=str(ledger_path), summary=False)
    yield Metered(handle, ledger_path)
    handle.uninstrument()


@pytest.fixture
def llm(fake_provider):
    """CrewAI's native OpenAI client, pointed at the fake provider."""
    from crewai import LLM

    return LLM(model="openai/gpt-4o-mini", base_url=f"{fake_provider.url}/v1", api_key="sk-fake")


@pytest.fixture
def worker(llm):
    """Makes an agent: ``worker("Writer", tools=[…])``."""
    from crewai import Agent

    def make(role: str = "Researcher", **more: object) -> Agent:
        return Agent(
            role=role, goal="find out", backstory="curious", llm=more.pop("llm", llm), **more
        )

    return make


@pytest.fixture
def job():
    """Makes a task: ``job(agent, text)``."""
    from crewai import Task

    def make(agent: object, text: str = "Say hello.", **more: object) -> Task:
        return Task(description=text, expected_output="a sentence", agent=agent, **more)

    return make


@pytest.fixture
def team():
    """Makes a crew of tasks, with each task's agent once."""
    from crewai import Crew

    def make(*tasks: object, **more: object) -> Crew:
        agents = list({id(task.agent): task.agent for task in tasks if task.agent}.values())
        return Crew(agents=agents, tasks=list(tasks), **more)

    return make
