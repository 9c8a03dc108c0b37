"""Cohere's chat, embed and rerank, and the rerank endpoints of Jina and Voyage."""

from __future__ import annotations

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
from crewmeter.usage.draft import Raw, UsageDraft, count, part

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["COHERE"]

_FIELDS = {"search_units": "search_units", "image_tokens": "input_image"}
_KEYS = keys(
    "cached_tokens api_version warnings",
    billed_units=keys(
        "input_tokens output_tokens total_tokens image_tokens search_units classifications images"
    ),
    tokens=keys("input_tokens output_tokens image_tokens"),
)


def _read_counts(raw: Raw, _: str | None) -> UsageDraft:
    """Read ``billed_units``, which the invoice counts.

    ``tokens`` is what the model saw.
    """
    billed = part(raw, "billed_units")
    draft = UsageDraft()
    draft.take(billed, _FIELDS)
    text = count(billed, "input_tokens", "total_tokens")
    draft.output = count(billed, "output_tokens")
    if text is not None or draft.input_image or draft.output is None:
        draft.input = (text or 0) + draft.input_image
    saw = part(raw, "tokens")
    if draft.output is None and not count(saw, "output_tokens"):
        draft.output = 0
    if count(billed, "classifications"):
        draft.flags.append("unknown_usage:classifications")
    if count(billed, "images") and not draft.input_image:
        draft.flags.append("unknown_usage:images")
    return draft


def _read(facts: ResponseFacts, answer: Json) -> None:
    event = as_map(answer.get("delta"))
    if not event:
        event = as_map(answer.get("response"))
    facts.set_finish(
        answer.get("finish_reason"),
        event.get("finish_reason"),
    )
    holders = (answer.get("meta"), event.get("meta"), event.get("usage"))
    for holder in holders:
        found = as_map(holder)
        if isinstance(found.get("billed_units"), dict):
            facts.report(found)


def _is_last(event: Json) -> bool:
    return event.get("type") == "message-end" or event.get("is_finished") is True


COHERE = ProviderProtocol(
    name="cohere",
    provider="cohere",
    routes=(
        Route("embed", semconv.EMBEDDINGS, sure=False),
        Route("rerank", semconv.RERANK, sure=False),
        Route("chat", semconv.CHAT, "/v2/chat", sure=False),
        Route("chat", semconv.CHAT, "/v1/chat", sure=False),
    ),
    stream=StreamFormat(
        marks=(
            b'"message-end"',
            b'"stream-end"',
            b'"billed_units"',
            b'"is_finished":true',
            b'"is_finished": true',
        ),
        text_keys=(b'"text":', b'"arguments":'),
        is_last=_is_last,
        is_whole=_is_last,
    ),
    shapes=(UsageShape("billed_units", _read_counts, _KEYS),),
    read=_read,
    response_keys=frozenset(["id", "meta", "usage", "model", "finish_reason", "event_type"]),
)
