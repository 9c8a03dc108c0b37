"""What each protocol of the fake provider implements, and shared functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re

    from crewmeter.usage.token_usage import TokenUsage
    from crewmeter_cost.demo.fake_provider.scripted_answers import Prompt, Reply

__all__ = [
    "Answer",
    "Arrived",
    "ProviderDialect",
    "as_list",
    "as_map",
    "event",
    "flatten",
    "pieces",
]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request off the wire: its path parts, and its body as JSON."""

    path: str
    query: str
    parts: Mapping[str, str]
    """Named groups of the dialect's pattern."""
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply with everything decided that the response needs."""

    prompt: Prompt
    reply: Reply
    usage: TokenUsage
    model: str
    tier: str | None
    number: int
    """Makes ids unique within a server; ids are ``{prefix}{number:08x}``."""
    created: int
    """Unix seconds."""
    nonce: str
    """Makes ids unique across servers, as a provider's are."""
    reported_cost_usd: str | None = None

    def ident(self, prefix: str, index: int = 0) -> str:
        """Return an id of the response (`index` 0) or of one of its parts."""
        return f"{prefix}{self.nonce}{self.number:08x}" + (f"{index:02x}" if index else "")


@dataclass(frozen=True, slots=True)
class ProviderDialect:
    """One endpoint of one provider's API."""

    name: str
    provider: str
    operation: str
    pattern: re.Pattern[str]
    """Against the path, once any ``/at/<provider>`` prefix is gone."""
    read: Callable[[Arrived], Prompt]
    whole: Callable[[Answer], Mapping[str, object]]
    """The JSON body of an answer in one piece."""
    stream: Callable[[Answer], Iterator[bytes]] | None
    """The chunks of a streamed answer; usage stands in the last ones."""
    failure: Callable[[int, str], Mapping[str, object]]
    """The JSON body of a refusal."""
    response_id: Callable[[Answer], str | None]
    stream_type: str = "text/event-stream"
    queued: Callable[[Answer], Mapping[str, object]] | None = None
    """The JSON body while an answer in the background is not ready. A GET of its id fetches it."""
    tells_usage: bool = True
    """False where the protocol bills tokens without saying how many."""
    headers: Callable[[Answer], Mapping[str, str]] = lambda answer: {}


def flatten(content: object) -> str:
    """All text in a message's content, whichever way the provider nests it."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return "\n".join(
            filter(
                None,
                (
                    flatten(content[key])
                    for key in ("text", "content", "parts", "json", "output")
                    if key in content
                ),
            )
        )
    if isinstance(content, Iterable):
        return "\n".join(
            filter(
                None,
                (flatten(part) for part in content),
            )
        )
    return ""


def pieces(text: str, size: int = 12) -> Iterator[str]:
    """Split a text into stream-sized pieces, one empty piece for an empty text."""
    for start in range(0, max(1, len(text)), size):
        yield text[start : start + size]


def event(data: Mapping[str, object], name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def as_list(value: object) -> list[Mapping[str, object]]:
    """Return the objects of a JSON array, or none for anything else."""
    if isinstance(value, list):
        return [part for part in value if isinstance(part, Mapping)]
    return []


def as_map(value: object) -> Mapping[str, object]:
    """Return a JSON object, or an empty one for anything else."""
    if isinstance(value, Mapping):
        return value
    return {}
