"""Token counts on a span → `TokenUsage`, through a table of the names each dialect gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.usage import TokenUsage
from crewmeter_cost.intake.values import text, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GENAI", "CountNames", "usage_of"]

_ABSURD = 1 << 40
"""No call uses a trillion tokens: a larger count is a fault of the instrumentor."""
_STATUSES = frozenset({"reported", "missing", "estimated", "reconciled", "invalid"})


@dataclass(frozen=True, slots=True)
class CountNames:
    """The attribute names of one dialect per bucket, the preferred name first."""

    input: tuple[str, ...]
    output: tuple[str, ...]
    cache_read: tuple[str, ...] = ()
    cache_write: tuple[str, ...] = ()
    """Cache writes whose lifetime is not said: billed as five-minute writes and flagged ``cache_ttl_assumed``."""
    reasoning: tuple[str, ...] = ()
    cache_beside_input: bool = False
    """True where ``input`` leaves the cached tokens out, so that they have to be added."""


GENAI = CountNames(
    input=(semconv.INPUT_TOKENS, "gen_ai.usage.prompt_tokens"),
    output=(semconv.OUTPUT_TOKENS, "gen_ai.usage.completion_tokens"),
    cache_read=(semconv.CACHE_READ_TOKENS,),
    cache_write=(semconv.CACHE_WRITE_TOKENS, semconv.CACHE_WRITE_TOKENS_RENAMED),
    reasoning=(semconv.REASONING_TOKENS,),
)
"""The GenAI conventions, with the names they had before version 1.27."""

_RARE = {
    "input_audio": semconv.INPUT_AUDIO_TOKENS,
    "output_audio": semconv.OUTPUT_AUDIO_TOKENS,
    "input_image": semconv.INPUT_IMAGE_TOKENS,
    "output_image": semconv.OUTPUT_IMAGE_TOKENS,
    "web_searches": semconv.WEB_SEARCHES,
    "search_units": semconv.SEARCH_UNITS,
}
_RARE_NAMES = frozenset(_RARE.values())
_INVALID_FLAG = "counts_invalid"


def _first(attributes: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    """The first of `names` that is present as a count; -1 where it is present and no count."""
    for name in names:
        value = attributes.get(name)
        if value is not None:
            if type(value) is not int:
                number = whole(value)
                if number is None:
                    return -1
                value = number
            return value if 0 <= value < _ABSURD else -1
    return None


def usage_of(attributes: Mapping[str, object], names: CountNames = GENAI) -> TokenUsage:
    """The usage a span reports. Status ``missing`` where it says nothing, ``invalid`` where it cannot be true.

    Invalid means: a negative, fractional or absurd count, or more cached tokens than input tokens.
    """
    read = _first(attributes, names.input)
    output = _first(attributes, names.output)
    cached = _first(attributes, names.cache_read) or 0
    write_5m = _first(attributes, (semconv.CACHE_WRITE_5M_TOKENS,)) or 0
    write_1h = _first(attributes, (semconv.CACHE_WRITE_1H_TOKENS,)) or 0
    reasoning = _first(attributes, names.reasoning) or 0
    flags: tuple[str, ...] = ()
    if write_5m == 0 and write_1h == 0:
        write_5m = _first(attributes, names.cache_write) or 0
        if write_5m:
            flags = ("cache_ttl_assumed",)
    rare = {} if attributes.keys().isdisjoint(_RARE_NAMES) else {field: _first(attributes, (name,)) or 0 for field, name in _RARE.items()}
    if read is not None and names.cache_beside_input:
        read += cached + write_5m + write_1h
    said = attributes.get(semconv.USAGE_FLAGS)
    if said is not None:
        flags = _merged(flags, said)
    if min(read or 0, output or 0, cached, write_5m, write_1h, reasoning, *rare.values()) < 0 or (
        read is not None and cached + write_5m + write_1h > read
    ):
        return TokenUsage(status="invalid", flags=(*flags, _INVALID_FLAG))
    status = attributes.get(semconv.USAGE_STATUS)
    if status not in _STATUSES:
        status = "missing" if read is None and output is None and not rare else "reported"
    return TokenUsage(read, output, cached, write_5m, write_1h, reasoning, status=str(status), flags=flags, **rare)


def _merged(flags: tuple[str, ...], said: object) -> tuple[str, ...]:
    """Our own flags and those on the span (a list, or one text), each once."""
    listed = said if isinstance(said, list | tuple) else (said,)
    names = (text(item) for item in listed[:16])
    return tuple(dict.fromkeys([*flags, *(name for name in names if name)]))
