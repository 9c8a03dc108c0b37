"""Ollama's own API: chat, generate and embed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.providers.provider_protocol import (
    Json,
    ProviderProtocol,
    Route,
    StreamFormat,
    UsageShape,
    keys,
)
from crewmeter.usage.draft import Raw, UsageDraft, count

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["OLLAMA"]

_COUNTS = ("prompt_eval_count", "eval_count")


def _read_counts(raw: Raw, _: str | None) -> UsageDraft:
    """Read both counts.

    A prompt that was evaluated before is left out, and costs nothing.
    """
    prompt = count(raw, "prompt_eval_count")
    output = count(raw, "eval_count")
    return UsageDraft(input=prompt or 0, output=output)


def _read_embedding(raw: Raw, _: str | None) -> UsageDraft:
    return UsageDraft(input=count(raw, "prompt_eval_count"))


def _read(facts: ResponseFacts, answer: Json) -> None:
    facts.set_finish(answer.get("done_reason"))
    counts = {}
    for name in _COUNTS:
        if name in answer:
            counts[name] = answer[name]
    if counts:
        facts.report(counts)


def _is_last(event: Json) -> bool:
    return event.get("done") is True


OLLAMA = ProviderProtocol(
    name="ollama",
    provider="ollama",
    routes=(
        Route("embeddings", semconv.EMBEDDINGS, "/api/embeddings"),
        Route("embed", semconv.EMBEDDINGS, "/api/embed"),
        Route("chat", semconv.CHAT, "/api/chat", sure=False),
        Route("generate", semconv.TEXT_COMPLETION, "/api/generate", sure=False),
    ),
    stream=StreamFormat(
        marks=(b'"done":true', b'"done": true', b'eval_count"', b'"error"'),
        text_keys=(b'"content":', b'"response":', b'"thinking":'),
        is_last=_is_last,
        is_whole=_is_last,
    ),
    shapes=(
        UsageShape("eval_count", _read_counts, keys(" ".join(_COUNTS))),
        UsageShape("prompt_eval_count", _read_embedding, keys(" ".join(_COUNTS))),
    ),
    read=_read,
)
