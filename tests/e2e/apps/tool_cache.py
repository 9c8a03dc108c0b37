"""The same tool call twice, by a model without function calling.

The second answer may come from CrewAI's cache.
"""

from common import agent, crew, openai_llm, task
from crewai import BaseLLM
from crewai.tools import tool


@tool
def ask(q: str) -> str:
    """Ask a bigger model: whether the tool really ran stands in the books."""
    return openai_llm("gpt-4o").call(f"What is {q}? [[usage:in=90 out=9]]")


class Plain(BaseLLM):
    def call(self, messages, *args, **kwargs):
        return openai_llm().call(messages)

    def supports_function_calling(self):
        return False


def main():
    worker = agent(llm=Plain(model="plain"), tools=[ask])
    text = (
        'Find x twice. [[tool:ask {"q": "x"}]] [[tool:ask {"q": "y"}]] [[tool:ask '
        '{"q":"x"}]] [[say:Still x.]]'
    )
    crew(task(worker, text), name="forgetful").kickoff()
