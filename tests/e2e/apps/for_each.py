"""`kickoff_for_each` over three inputs: CrewAI says 660 tokens for 330."""

from common import agent, crew, task


def main():
    crew(task(agent(), "Say {word}. [[usage:in=100 out=10]]")).kickoff_for_each(
        [{"word": word} for word in ("one", "two", "three")]
    )
