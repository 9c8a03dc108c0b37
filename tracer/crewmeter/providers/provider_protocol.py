"""The one type that every provider protocol is a value of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter.providers.response_facts import ResponseFacts
    from crewmeter.usage.draft import Raw, UsageDraft
    from crewmeter.usage.plain_usage import PlainCounts
    from crewmeter.usage.token_usage import TokenUsage

__all__ = [
    "NO_STREAM",
    "Headers",
    "Json",
    "KnownKeys",
    "PlainAnswer",
    "ProviderProtocol",
    "Route",
    "StreamFormat",
    "UsageShape",
    "keys",
]

Json = Mapping[str, object]
"""A JSON object; made by `json`, so always a dict, which is quicker to tell than any mapping."""
Headers = Mapping[str, str]
PlainAnswer = tuple[str | None, str | None, str | None, str | None, "PlainCounts"]
"""Response id, response model, service tier, finish reason and counts of an answer."""


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """Keys of a usage object that matter to the bill, or are known not to."""

    names: frozenset[str]
    inside: Mapping[str, KnownKeys]
    """For some of the names, what is known of the objects (or lists of objects) under them."""

    def __or__(self, other: KnownKeys) -> KnownKeys:
        """Return the keys of both.

        What ``other`` says of the inside goes first.
        """
        return KnownKeys(
            self.names | other.names,
            {**self.inside, **other.inside},
        )


def keys(names: str, **inside: KnownKeys) -> KnownKeys:
    """Return the keys in ``names``, and those with something known ``inside``."""
    return KnownKeys(
        frozenset((*names.split(), *inside)),
        inside,
    )


@dataclass(frozen=True, slots=True)
class Route:
    """A kind of request to a model."""

    ending: str
    """Last word of the path: after the last ``/`` or ``:``."""
    operation: str
    """A ``semconv`` operation."""
    within: str = ""
    """What the path must hold besides its ending."""
    sure: bool = True
    """False: other services end their paths like this too, so a model or a host must confirm it."""
    provider: str | None = None
    """Where set, the host must be this provider's."""


@dataclass(frozen=True, slots=True)
class UsageShape:
    """One form in which usage is reported, known by its keys."""

    requires: str
    """The key that must be there."""
    read: Callable[[Raw, str | None], UsageDraft]
    """With the usage and the canonical provider, return the counts."""
    known: KnownKeys
    """Every key that matters to the bill or is known not to. Any other makes the charge inexact."""
    any_of: frozenset[str] = frozenset()
    """Where not empty, one of these must be there as well."""
    read_plain: Callable[[Raw], TokenUsage | None] | None = None
    """A short way that gives what ``read`` gives, or None for usage that is not plain."""


def _never(_: Json) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """How a stream's events are distinguished without parsing each."""

    marks: tuple[bytes, ...] = ()
    """What only the events that hold a fact have in them; others are not parsed."""
    marks_of: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    """Provider → what only its own events have besides. Each mark is searched in every event."""
    text_keys: tuple[bytes, ...] = ()
    """Where the pieces of the answer stand, for the estimate that a cut stream needs."""
    is_last: Callable[[Json], bool] = _never
    """Whether nothing that follows an event can change what is billed."""
    is_whole: Callable[[Json], bool] = _never
    """Whether the answer is whole with this event, so that reading no further cuts nothing off."""
    running_totals: bool = False
    """True where events before the last report the usage up to them."""
    tool_marks: tuple[bytes, bytes] | None = None
    """What the start of a tool request has, and what its further pieces have, in event frames."""


NO_STREAM = StreamFormat()


@dataclass(frozen=True, slots=True)
class ProviderProtocol:
    """Everything that is known of one way to speak to models."""

    name: str
    provider: str | None
    """Who is assumed to answer behind an unknown host."""
    routes: tuple[Route, ...]
    stream: StreamFormat = NO_STREAM
    shapes: tuple[UsageShape, ...] = ()
    """Forms of usage, in the order in which they are tried."""
    read_plain: Callable[[Raw], TokenUsage | None] | None = None
    """The short way of the shape that its answers mostly have."""
    read_plain_answer: Callable[[Json, str | None], PlainAnswer | None] | None = None
    """The short way for a whole answer to a chat, with the model requested.

    It gives what the whole reading gives, or None where the answer says anything else.
    """
    has_plain_headers: Callable[[Headers], bool] | None = None
    """With `read_plain_answer`: whether `read_headers` would find nothing in these."""
    read: Callable[[ResponseFacts, Json], None] | None = None
    """Take what this protocol's answers, or events of a stream, say beyond ids and ``usage``."""
    unwrap: Callable[[ResponseFacts, Json], Json] | None = None
    """Return the answer inside an event."""
    read_headers: Callable[[ResponseFacts, Headers], None] | None = None
    read_request: Callable[[ResponseFacts, Json], None] | None = None
    """Take what only the request says of the bill: sizes of images, characters to speak."""
    request_marks: tuple[bytes, ...] = ()
    """Where not empty, only a request with one of these in it is read."""
    is_understood: bool = True
    """False where what an answer says of its usage must not be taken for the bill."""
    answers_later: bool = False
    """Whether a request may ask for an answer in the background, fetched by a GET of its id."""
    answer_is_media: bool = False
    """True where the body of an answer is no text at all."""
    response_keys: frozenset[str] = frozenset()
    """Keys of an answer, named like a bill's, that are read or known not to matter."""
    model_in_path: bool = False
    """Whether the path names the model, so that the body need not be searched."""
    operation_of: Callable[[str | None], str] | None = None
    """Where only the model's name tells the operation."""
    counts_without_text: bool = False
    """Whether a large answer holds a token count for each text instead of one in all."""
