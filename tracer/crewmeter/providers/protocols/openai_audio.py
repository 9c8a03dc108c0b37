"""OpenAI's audio: transcription, translation and speech.

They are billed by tokens, by time or by characters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.json_values import as_map
from crewmeter.providers.provider_protocol import (
    Json,
    ProviderProtocol,
    Route,
    StreamFormat,
    UsageShape,
    keys,
)
from crewmeter.usage.draft import BadCount, Raw, UsageDraft

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["OPENAI_SPEECH", "OPENAI_TRANSCRIPTION"]

_MOST_SECONDS = 10**7
_SPEECH_BY_TOKENS = ("gpt-", "gemini")
"""Starts of the names of speech models that bill tokens, which a sound file does not tell."""
_GROQ_LEAST_MS = 10_000
"""What Groq bills at least for a request (groq.com/pricing, "ASR models")."""
_MISTRAL_SECONDS = "prompt_audio_seconds"


def _milliseconds(value: object) -> int | None:
    """Return a duration in seconds as whole milliseconds.

    None where it is none.
    """
    if isinstance(value, str):
        try:
            value = float(value[:20])
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= _MOST_SECONDS or math.isnan(value):
        return None
    return round(value * 1000)


def _read_duration(raw: Raw, _: str | None) -> UsageDraft:
    """Read a usage of type ``duration``: models that bill the length of the sound."""
    milliseconds = _milliseconds(raw.get("seconds"))
    if milliseconds is None:
        raise BadCount("seconds")
    draft = UsageDraft()
    draft.add_unit("input_audio_ms", milliseconds)
    return draft


def _read_transcription(facts: ResponseFacts, answer: Json) -> None:
    """Take the duration where there is no usage: whisper's verbose answer.

    The bill counts whole seconds (platform.openai.com/docs/pricing).
    """
    usage = answer.get("usage")
    if isinstance(usage, dict):
        if isinstance(usage.get(_MISTRAL_SECONDS), int):
            facts.count_units(
                "input_audio_ms",
                usage[_MISTRAL_SECONDS] * 1000,
            )
        return
    milliseconds = _milliseconds(answer.get("duration"))
    if milliseconds is None:
        milliseconds = _milliseconds(as_map(answer.get("x_groq")).get("duration"))
    if milliseconds:
        billed_ms = _to_whole_seconds(milliseconds)
        if "x_groq" in answer:
            billed_ms = max(billed_ms, _GROQ_LEAST_MS)
        facts.count_units("input_audio_ms", billed_ms)


def _to_whole_seconds(milliseconds: int) -> int:
    """Return ``milliseconds`` rounded to the nearest second, half up."""
    return (milliseconds + 500) // 1000 * 1000


def _read_speech_request(facts: ResponseFacts, request: Json) -> None:
    """Count the characters to speak: the answer is a sound, and says nothing."""
    text = request.get("input")
    if not isinstance(text, str):
        return
    if (facts.request_model or "").startswith(_SPEECH_BY_TOKENS):
        return
    facts.count_units("character", len(text))


def _is_done(event: Json) -> bool:
    return str(event.get("type")).endswith(".done")


_STREAM = StreamFormat(marks=(b'.done"', b'"error"'), is_last=_is_done, is_whole=_is_done)
OPENAI_TRANSCRIPTION = ProviderProtocol(
    name="transcription",
    provider="openai",
    routes=(
        Route("transcriptions", semconv.TRANSCRIPTION, "/audio/"),
        Route("translations", semconv.TRANSCRIPTION, "/audio/"),
    ),
    stream=_STREAM,
    shapes=(UsageShape("seconds", _read_duration, keys("type seconds")),),
    read=_read_transcription,
    response_keys=frozenset(
        ["text", "usage", "duration", "language", "segments", "words", "logprobs"]
    ),
)
OPENAI_SPEECH = ProviderProtocol(
    name="speech",
    provider="openai",
    routes=(Route("speech", semconv.SPEECH, "/audio/"),),
    stream=_STREAM,
    read_request=_read_speech_request,
    answer_is_media=True,
)
