"""Two agents, two tasks, one shared model object: CrewAI's own total doubles here."""

from common import agent, crew, openai_llm, task


def main():
    llm = openai_llm()
    first, second = agent("Researcher", llm), agent("Writer", llm)
    crew(
        task(first, "Collect facts. [[usage:in=1200 out=80]]"),
        task(second, "Write them up. [[usage:in=900 read=256 out=210]]"),
    ).kickoff()
