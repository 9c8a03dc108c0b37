"""CrewAI's own clients for every provider, and a recorder of their HTTP exchanges.

The clients are pointed at a fake provider.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

from crewmeter.http import observation

PROVIDERS = (
    "openai",
    "responses",
    "anthropic",
    "gemini",
    "azure",
    "bedrock",
    "openrouter",
    "litellm",
    "litellm-anthropic",
)


def llm(provider: str, fake_provider, **options):
    """CrewAI's LLM object for ``provider``, speaking to the fake provider."""
    from crewai import LLM

    url = fake_provider.url
    if provider == "openai":
        return LLM(
            model="openai/gpt-4o",
            api_key="sk-test",
            base_url=fake_provider.base_url("openai"),
            max_retries=0,
            **options,
        )
    if provider == "responses":
        return LLM(
            model="openai/gpt-5",
            api="responses",
            api_key="sk-test",
            base_url=fake_provider.base_url("openai"),
            **options,
        )
    if provider == "anthropic":
        return LLM(
            model="anthropic/claude-sonnet-4-5", api_key="k", base_url=url, max_retries=0, **options
        )
    if provider == "gemini":
        return LLM(
            model="gemini/gemini-2.5-flash",
            api_key="k",
            client_params={"http_options": {"base_url": url}},
            **options,
        )
    if provider == "azure":
        endpoint = fake_provider.base_url("azure.ai.openai")
        return LLM(
            model="azure/gpt-4o",
            api_key="k",
            endpoint=endpoint,
            api_version="2024-06-01",
            **options,
        )
    if provider == "bedrock":
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
        return LLM(model="bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", **keys, **options)
    if provider == "openrouter":
        return LLM(
            model="openrouter/openai/gpt-4o",
            api_key="k",
            base_url=fake_provider.base_url("openrouter"),
            **options,
        )
    if provider == "litellm":
        return LLM(
            model="openai/gpt-4o",
            is_litellm=True,
            api_key="k",
            base_url=fake_provider.base_url("openai"),
            **options,
        )
    return LLM(
        model="anthropic/claude-sonnet-4-5", is_litellm=True, api_key="k", base_url=url, **options
    )


class Recorder:
    """The exchanges seen, in the order they were opened and closed."""

    def __init__(self) -> None:
        self.opened: list[observation.HttpExchange] = []
        self.closed: list[observation.HttpExchange] = []

    @property
    def paid(self) -> list[observation.HttpExchange]:
        """Those that were not turned away."""
        return [exchange for exchange in self.closed if "rejected" not in exchange.usage.flags]


@contextmanager
def recording():
    """Observe HTTP exchanges for the time of the block."""
    recorder = Recorder()
    uninstall = observation.install(opened=recorder.opened.append, closed=recorder.closed.append)
    try:
        yield recorder
        observation.announce_late()
    finally:
        uninstall()


def call(model, text: str, *, way: str, **options):
    """One call, ``way`` being sync or async; streaming is the model's own option."""
    observation.look_again()
    if way == "async":
        return asyncio.run(_acall(model, text, options))
    return model.call(text, **options)


async def _acall(model, text, options):
    try:
        return await model.acall(text, **options)
    finally:
        stack = getattr(model, "_async_exit_stack", None)
        if stack is not None:
            await stack.aclose()
