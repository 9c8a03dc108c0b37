"""Azure's chat protocol: OpenAI's body behind a path that names the deployment."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from crewmeter_cost.demo.fake_provider.openai import CHAT, EMBEDDINGS, read_chat

if TYPE_CHECKING:
    from crewmeter_cost.demo.fake_provider.fake_protocol import Arrived
    from crewmeter_cost.demo.fake_provider.scripted_answers import Prompt

__all__ = ["AZURE_CHAT", "AZURE_EMBEDDINGS"]


def _read(arrived: Arrived) -> Prompt:
    prompt = read_chat(arrived)
    return replace(
        prompt,
        dialect="azure",
        provider="azure.ai.openai",
        model=prompt.model or unquote(arrived.parts["deployment"]),
    )


def _read_embeddings(arrived: Arrived) -> Prompt:
    prompt = EMBEDDINGS.read(arrived)
    return replace(
        prompt,
        dialect="azure",
        provider="azure.ai.openai",
        model=prompt.model or unquote(arrived.parts["deployment"]),
    )


AZURE_CHAT = replace(
    CHAT,
    name="azure",
    provider="azure.ai.openai",
    pattern=re.compile(r"/openai/deployments/(?P<deployment>[^/]+)/chat/completions"),
    read=_read,
)
AZURE_EMBEDDINGS = replace(
    EMBEDDINGS,
    name="azure",
    provider="azure.ai.openai",
    pattern=re.compile(r"/openai/deployments/(?P<deployment>[^/]+)/embeddings"),
    read=_read_embeddings,
)
