"""OpenAI's videos, billed by their seconds and size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.provider_protocol import Json, ProviderProtocol, Route

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["OPENAI_VIDEO"]

_MOST_DIGITS = 5


def _read(facts: ResponseFacts, answer: Json) -> None:
    """Count the seconds ordered.

    The job is billed when it has succeeded, which is not seen.
    """
    text = str(answer.get("seconds"))
    if text.isdecimal() and len(text) <= _MOST_DIGITS:
        milliseconds = int(text) * 1000
        facts.count_units("output_video_ms", milliseconds)
    facts.flag("unknown_usage:job_not_finished")


OPENAI_VIDEO = ProviderProtocol(
    name="video",
    provider="openai",
    routes=(
        Route("videos", semconv.VIDEO, "/v1/videos", provider="openai"),
        Route("remix", semconv.VIDEO, "/videos/", provider="openai"),
        Route("videos", semconv.VIDEO, "/openai/v1/videos", provider="azure.ai.openai"),
    ),
    read=_read,
)
