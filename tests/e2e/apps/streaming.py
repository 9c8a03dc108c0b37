"""A streamed answer, and a streamed tool call before it."""

from common import agent, crew, look_up, openai_llm, task


def main():
    worker = agent(llm=openai_llm(stream=True), tools=[look_up])
    crew(
        task(
            worker, 'Find x. [[tool:look_up {"q": "x"}]] [[say:It is x, as far as anybody knows.]]'
        )
    ).kickoff()
