"""What the apps share: where the fake provider is, and models that speak to it.

Standard library and CrewAI only.
"""

import os

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

URL = os.environ["PROVIDER_URL"]
USAGE = "[[usage:in=1000 read=400 out=300]]"

os.environ.setdefault("OPENAI_API_KEY", "sk-fake")
os.environ["OPENAI_BASE_URL"] = os.environ["OPENAI_API_BASE"] = (
    f"{URL}/v1"  # clients CrewAI makes without telling them its base_url
)
os.environ.setdefault("AWS_ACCESS_KEY_ID", "fake-key")
os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "fake-key")
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
os.environ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] = URL


def openai_llm(model="gpt-4o-mini", **more):
    """CrewAI's native OpenAI client, pointed at the fake provider."""
    return LLM(model=f"openai/{model}", base_url=f"{URL}/v1", api_key="sk-fake", **more)


@tool
def look_up(q: str) -> str:
    """Look something up."""
    return f"found {q}"


@tool
def broken(q: str) -> str:
    """A tool that always fails."""
    raise RuntimeError(f"no luck with {q}")


def agent(role="Researcher", llm=None, tools=(), **more):
    """An agent with short texts."""
    return Agent(
        role=role,
        goal="find out",
        backstory="curious",
        llm=llm or openai_llm(),
        tools=list(tools),
        **more,
    )


def task(worker, text="Say hello.", **more):
    """A task for `worker`; `text` may hold directives for the fake provider."""
    return Task(description=text, expected_output="a sentence", agent=worker, **more)


def crew(*tasks, **more):
    """A crew of the tasks' agents, each once."""
    agents = list({id(t.agent): t.agent for t in tasks if t.agent}.values())
    return Crew(agents=agents, tasks=list(tasks), **more)
