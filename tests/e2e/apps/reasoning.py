"""An agent that reasons about its task before it starts."""

from common import agent, crew, task


def main():
    crew(
        task(agent(reasoning=True, max_reasoning_attempts=1), "Think first."), name="thinkers"
    ).kickoff()
