"""A planner in front of the crew: its call belongs to the run too."""

from common import agent, crew, openai_llm, task


def main():
    crew(
        task(agent(), "Do the work."),
        planning=True,
        planning_llm=openai_llm("gpt-4o"),
        name="planners",
    ).kickoff()
