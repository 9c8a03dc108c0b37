"""The demo's app: a flow with a crew of two, a tool, a stream and a refused call.

It is written as any user's app would be, and knows nothing of the meter or of the fake provider
behind `base_url`.
"""

from __future__ import annotations

from typing import Any

from crewai import LLM, Agent, Crew, CrewOutput, Task
from crewai.flow.flow import Flow, listen, start
from crewai.tools import tool

__all__ = ["run_newsroom"]


@tool("read_sales")
def read_sales(region: str) -> str:
    """Sales of a region this week, in units, with last week's beside them."""
    return f"{region}: 1,284 units this week, 1,102 the week before; best seller: the blue kettle"


def _desk(base_url: str) -> Crew:
    """Return two agents: one reads figures through a tool, one streams its answer."""
    researcher = Agent(
        role="Researcher",
        goal="Find the figures that matter",
        backstory="You read tables so that others need not.",
        llm=LLM(
            model="openai/gpt-4o-mini",
            base_url=base_url,
            api_key="no-key-needed",
        ),
        tools=[read_sales],
    )
    writer = Agent(
        role="Writer",
        goal="Say it in three sentences",
        backstory="You have never wasted a word.",
        llm=LLM(
            model="openai/gpt-4o",
            base_url=base_url,
            api_key="no-key-needed",
            stream=True,
        ),
    )
    figures = Task(
        name="figures",
        description="How did the north sell this week?",
        expected_output="the figures",
        agent=researcher,
    )
    brief = Task(
        name="brief",
        description="Write the morning brief from the figures.",
        expected_output="three sentences",
        agent=writer,
    )
    return Crew(
        name="news-desk",
        agents=[researcher, writer],
        tasks=[figures, brief],
    )


def _brief(base_url: str) -> type[Flow[Any]]:
    class MorningBrief(Flow[Any]):
        """A flow whose crew writes and whose second model, unavailable today, checks."""

        @start()
        def write(self) -> str:
            done = _desk(base_url).kickoff()
            if isinstance(done, CrewOutput):
                return done.raw
            return str(done)

        @listen(write)
        def second_opinion(self, text: str) -> str:
            checker = LLM(
                model="openai/gpt-5", base_url=base_url, api_key="no-key-needed", max_retries=0
            )
            try:
                return str(checker.call(f"Is this sound? {text}"))
            # Whatever the client raises, the brief goes out unchecked.
            except Exception as refusal:  # noqa: BLE001
                return f"{text} (unchecked: {type(refusal).__name__})"

    return MorningBrief


def run_newsroom(base_url: str) -> str:
    """Run the flow against the OpenAI-compatible `base_url` and return its brief."""
    return str(_brief(base_url)().kickoff())
