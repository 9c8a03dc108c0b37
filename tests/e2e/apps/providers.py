"""Every native client, streamed and not: a plain answer, a tool call, structured output."""

import sys

from common import URL, agent, crew, look_up, openai_llm, task
from crewai import LLM
from pydantic import BaseModel


class Verdict(BaseModel):
    title: str
    score: int


def make(kind, stream):
    """The native client `kind`, pointed at the fake provider."""
    if kind == "openai":
        return openai_llm(stream=stream)
    if kind == "responses":
        return openai_llm(stream=stream, api="responses")
    if kind == "anthropic":
        return LLM(
            model="anthropic/claude-sonnet-4-5", base_url=URL, api_key="sk-fake", stream=stream
        )
    if kind == "gemini":
        return LLM(
            model="gemini/gemini-2.5-flash",
            api_key="fake-key",
            stream=stream,
            client_params={"http_options": {"base_url": URL}},
        )
    if kind == "azure":
        return LLM(
            model="azure/gpt-4o",
            endpoint=f"{URL}/openai/deployments/gpt-4o",
            api_key="fake-key",
            stream=stream,
        )
    if kind == "bedrock":
        return LLM(model="bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", stream=stream)
    if kind == "litellm":
        return LLM(
            model="openai/gpt-4o-mini",
            base_url=f"{URL}/v1",
            api_key="sk-fake",
            stream=stream,
            is_litellm=True,
        )
    raise SystemExit(f"no such provider: {kind}")


WRITES = {"anthropic": " w5m=200", "bedrock": " w5m=200"}
REASONS = {"openai": " reasoning=120", "responses": " reasoning=120", "gemini": " reasoning=120"}


def main(kind, stream):
    """A bare call, a crew with a tool, a structured answer."""
    usage = f"[[usage:in=1000 read=400 out=300{WRITES.get(kind, '')}{REASONS.get(kind, '')}]]"
    make(kind, stream).call(f"Hello. {usage}")
    text = f'Find x. [[tool:look_up {{"q": "x"}}]] [[say:It is x.]] {usage}'
    for job in (
        lambda: crew(task(agent("Finder", make(kind, stream), [look_up]), text)).kickoff(),
        lambda: make(kind, stream).call(f"Judge. {usage}", response_model=Verdict),
    ):
        try:
            job()
        # Some clients lose streamed tool calls; what was billed counts all the same.
        except Exception as error:  # noqa: BLE001
            print(
                f"{kind} {'streamed' if stream else 'plain'}: {type(error).__name__}: {error}",
                file=sys.stderr,
            )
