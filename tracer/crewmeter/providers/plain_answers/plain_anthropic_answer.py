"""The short way to read Anthropic's messages that are plain.

Plain is a message of text, thinking and calls of the app's own tools, with a usage of plain counts:
none of it ran in another region, at another speed or with a fee. See decision 0016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter.providers.json_values import as_text
from crewmeter.usage.draft import LARGEST_COUNT, Raw
from crewmeter.usage.plain_usage import lone_count
from crewmeter.usage.token_usage import TokenUsage

if TYPE_CHECKING:
    from crewmeter.providers.provider_protocol import Json, PlainAnswer
    from crewmeter.usage.plain_usage import PlainCounts

__all__ = ["read_plain_answer", "read_plain_usage"]

_USAGE_KEYS = frozenset(
    [
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "output_tokens_details",
        "server_tool_use",
        "service_tier",
        "speed",
        "inference_geo",
    ]
)
_FIVE_MINUTES = "ephemeral_5m_input_tokens"
_HOUR = "ephemeral_1h_input_tokens"
_NO_WRITES = {_FIVE_MINUTES: 0, _HOUR: 0}
_RESPONSE_KEYS = frozenset(
    [
        "id",
        "type",
        "role",
        "model",
        "content",
        "stop_reason",
        "stop_sequence",
        "stop_details",
        "usage",
        "container",
        "context_management",
    ]
)
# Tuples, as the values may be anything, and not everything can be hashed.
_FREE_GEOS = (None, "not_available", "global")
_NORMAL_SPEEDS = (None, "standard")
_FREE_BLOCKS = ("text", "tool_use", "thinking", "redacted_thinking")
"""Types of content for which nothing ran at the provider."""


def read_plain_answer(answer: Json, _: str | None) -> PlainAnswer | None:
    """Return what a message says, None where it says more than a plain one.

    The whole reading, `anthropic.read_message` and what calls it, gives the same.
    """
    usage = answer.get("usage")
    content = answer.get("content")
    if type(usage) is not dict or type(content) is not list or answer.get("type") != "message":
        return None
    if answer.get("container") or not answer.keys() <= _RESPONSE_KEYS:
        return None
    for block in content:
        if type(block) is not dict or block.get("type") not in _FREE_BLOCKS:
            return None
    counts = _plain_counts(usage)
    if counts is None:
        return None
    return (
        as_text(answer.get("id")),
        as_text(answer.get("model")),
        as_text(usage.get("service_tier")),
        as_text(answer.get("stop_reason")),
        counts,
    )


def read_plain_usage(raw: Raw) -> TokenUsage | None:
    """Return what `anthropic.read_counts` gives for a plain usage object, else None."""
    counts = _plain_counts(raw)
    return None if counts is None else TokenUsage(*counts)


def _plain_counts(raw: Raw) -> PlainCounts | None:
    uncached = raw.get("input_tokens")
    output = raw.get("output_tokens")
    # Without these two it may be the usage of another protocol, which counts otherwise.
    read = raw.get("cache_read_input_tokens")
    written = raw.get("cache_creation_input_tokens")
    if type(uncached) is not int or type(output) is not int:
        return None
    if type(read) is not int or type(written) is not int:
        return None
    if not raw.keys() <= _USAGE_KEYS or not _is_usual(raw):
        return None
    split = raw.get("cache_creation")
    if split is None:
        split = _NO_WRITES
    elif type(split) is not dict or split.keys() != _NO_WRITES.keys():
        return None
    five = split[_FIVE_MINUTES]
    hour = split[_HOUR]
    if type(five) is not int or type(hour) is not int:
        return None
    reasoning = lone_count(raw.get("output_tokens_details"), "thinking_tokens")
    total_in = uncached + read + written
    fits = (
        total_in > 0
        and 0 <= uncached < LARGEST_COUNT
        and 0 <= read < LARGEST_COUNT
        and 0 <= written < LARGEST_COUNT
        and five >= 0
        and hour >= 0
        and five + hour == written
        and 0 <= output < LARGEST_COUNT
        and 0 <= reasoning <= output
    )
    if not fits:
        return None
    return total_in, output, read, five, hour, reasoning


def _is_usual(raw: Raw) -> bool:
    """Return True where nothing was searched, and no surcharge is on the tokens."""
    if raw.get("speed") not in _NORMAL_SPEEDS or raw.get("inference_geo") not in _FREE_GEOS:
        return False
    return lone_count(raw.get("server_tool_use"), "") == 0
