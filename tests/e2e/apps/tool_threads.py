"""A tool that asks four models at once, in threads it starts itself, with and without the caller's
context.
"""

import contextvars
from concurrent.futures import ThreadPoolExecutor

from common import agent, crew, openai_llm, task
from crewai.tools import tool


@tool
def poll(q: str) -> str:
    """Ask around."""
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(
                contextvars.copy_context().run,
                openai_llm("gpt-4o").call,
                f"{q} {number} [[usage:in={500 + number} out=5]]",
            )
            for number in range(4)
        ]
        return " ".join(job.result() for job in jobs)


def main():
    crew(
        task(agent(tools=[poll]), 'Ask. [[tool:poll {"q": "why"}]] [[say:They agree.]]'),
        name="pollsters",
    ).kickoff()
