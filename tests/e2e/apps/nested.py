"""A flow that starts a crew whose tool starts another crew."""

from common import agent, crew, task
from crewai.flow.flow import Flow, start
from crewai.tools import tool


@tool
def ask_experts(q: str) -> str:
    """Ask another crew."""
    return (
        crew(task(agent("Expert"), f"Answer {q}. [[say:expert words]]"), name="experts")
        .kickoff()
        .raw
    )


class Outer(Flow):
    @start()
    def begin(self):
        worker = agent("Lead", tools=[ask_experts])
        return (
            crew(
                task(worker, 'Ask around. [[tool:ask_experts {"q": "why"}]] [[say:So they say.]]'),
                name="leads",
            )
            .kickoff()
            .raw
        )


def main():
    Outer().kickoff()
