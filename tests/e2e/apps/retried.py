"""The provider refuses once with 500 and once with 429; the client tries again each time."""

from common import agent, crew, task


def main():
    crew(
        task(agent(), "Insist. [[fail:500 x1]]"),
        task(agent("Second"), "Insist more. [[fail:429 x1]]"),
    ).kickoff()
