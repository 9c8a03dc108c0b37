"""A tool that calls the provider's SDK itself, past CrewAI."""

import openai
from common import URL, agent, crew, task
from crewai.tools import tool


@tool
def second_opinion(q: str) -> str:
    """Ask another model directly."""
    with openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-fake") as client:
        done = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": f"{q} [[usage:in=640 read=64 out=32]]"}],
        )
        vector = client.embeddings.create(model="text-embedding-3-small", input=[q])
    return f"{done.choices[0].message.content} {len(vector.data)}"


def main():
    worker = agent(tools=[second_opinion])
    crew(task(worker, 'Ask twice. [[tool:second_opinion {"q": "why"}]] [[say:Because.]]')).kickoff()
