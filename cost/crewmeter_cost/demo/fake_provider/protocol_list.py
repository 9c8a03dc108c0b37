"""Every protocol the fake provider speaks, in the order their paths are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_cost.demo.fake_provider import anthropic, azure, bedrock, gemini, openai, responses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crewmeter_cost.demo.fake_provider.fake_protocol import ProviderDialect

__all__ = ["DIALECTS"]

DIALECTS: Sequence[ProviderDialect] = (
    openai.CHAT,
    openai.EMBEDDINGS,
    responses.RESPONSES,
    anthropic.MESSAGES,
    gemini.GENERATE,
    gemini.STREAM,
    gemini.EMBED,
    azure.AZURE_CHAT,
    azure.AZURE_EMBEDDINGS,
    bedrock.CONVERSE,
    bedrock.CONVERSE_STREAM,
    bedrock.TITAN_EMBED,
)
