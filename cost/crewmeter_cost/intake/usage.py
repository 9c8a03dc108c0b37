"""Token counts on a span → `TokenUsage`, through a table of the names each dialect gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crewmeter import semconv
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.intake.coerce import text, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GENAI", "OWN", "CountNames", "plain_usage", "usage_of"]

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
    reasoning=(
        semconv.REASONING_TOKENS,
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
    ),
)
"""The GenAI conventions, with the names they had before version 1.27."""

OWN = CountNames(
    input=(semconv.INPUT_TOKENS,),
    output=(semconv.OUTPUT_TOKENS,),
    cache_read=(semconv.CACHE_READ_TOKENS,),
    cache_write=(semconv.CACHE_WRITE_TOKENS, semconv.CACHE_WRITE_TOKENS_RENAMED),
    reasoning=(semconv.REASONING_TOKENS,),
)
"""crewmeter's own spans: the conventions' present names only."""

_RARE = {
    "input_audio": semconv.INPUT_AUDIO_TOKENS,
    "output_audio": semconv.OUTPUT_AUDIO_TOKENS,
    "input_image": semconv.INPUT_IMAGE_TOKENS,
    "output_image": semconv.OUTPUT_IMAGE_TOKENS,
    "web_searches": semconv.WEB_SEARCHES,
    "search_units": semconv.SEARCH_UNITS,
}
_RARE_NAMES = frozenset(_RARE.values())
_WRITE_5M = (semconv.CACHE_WRITE_5M_TOKENS,)
_WRITE_1H = (semconv.CACHE_WRITE_1H_TOKENS,)
_READS_ONLY = frozenset({semconv.EMBEDDINGS, semconv.RERANK})
_BEYOND_PLAIN = frozenset(
    {
        *_RARE_NAMES,
        *_WRITE_5M,
        *_WRITE_1H,
        *OWN.cache_write,
        *OWN.reasoning,
        semconv.USAGE_FLAGS,
    }
)
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


def plain_usage(attributes: Mapping[str, object], operation: str) -> TokenUsage:
    """`usage_of` for crewmeter's own spans, with a short way for those with an input, an output, perhaps a cached part, and no more."""
    get = attributes.get
    read, output, cached = (
        get(semconv.INPUT_TOKENS),
        get(semconv.OUTPUT_TOKENS),
        get(semconv.CACHE_READ_TOKENS, 0),
    )
    if (
        type(read) is int
        and type(output) is int
        and type(cached) is int
        and 0 <= cached <= read < _ABSURD
        and 0 <= output < _ABSURD
        and (read or output)
        and attributes.get(semconv.USAGE_STATUS, "reported") == "reported"
        and attributes.keys().isdisjoint(_BEYOND_PLAIN)
    ):
        return TokenUsage(read, output, cached)
    return usage_of(attributes, operation, OWN)


def usage_of(
    attributes: Mapping[str, object], operation: str, names: CountNames = GENAI
) -> TokenUsage:
    """The usage a span reports, by the rules of `crewmeter.usage.token_usage.usage_from_attributes` for any dialect's names.

    Status ``missing`` where it does not say both counts (embeddings and reranks have no output), ``invalid`` where it
    cannot be true: a negative, fractional or absurd count, or more cached tokens than input.
    """
    read = _first(attributes, names.input)
    output = _first(attributes, names.output)
    cached = _first(attributes, names.cache_read) or 0
    write_5m = _first(attributes, _WRITE_5M) or 0
    write_1h = _first(attributes, _WRITE_1H) or 0
    written = _first(attributes, names.cache_write) or 0
    reasoning = _first(attributes, names.reasoning) or 0
    rare: dict[str, Any] = (
        {}
        if attributes.keys().isdisjoint(_RARE_NAMES)
        else {field: _first(attributes, (name,)) or 0 for field, name in _RARE.items()}
    )
    said, status = attributes.get(semconv.USAGE_FLAGS), attributes.get(semconv.USAGE_STATUS)
    flags = () if said is None else _listed(said)
    counts = (
        read or 0,
        output or 0,
        cached,
        write_5m,
        write_1h,
        written,
        reasoning,
        *rare.values(),
    )
    if status == "invalid" or min(counts) < 0:
        return TokenUsage(status="invalid", flags=flags or (_INVALID_FLAG,))
    if written > write_5m + write_1h:
        write_5m = written - write_1h
        flags = (*flags, "cache_ttl_assumed")
    inside = cached + write_5m + write_1h
    if read is not None and (
        names.cache_beside_input or (inside > read > 0 and _beside(attributes))
    ):
        read += inside
    if output is None and operation in _READS_ONLY:
        output = 0
    if read is None or output is None or status == "missing":
        return TokenUsage(
            status="missing", flags=flags or (("split_not_reported",) if read or output else ())
        )
    if inside > read or rare.get("input_audio", 0) + rare.get("input_image", 0) > read:
        return TokenUsage(status="invalid", flags=(*flags, "parts_exceed_whole"))
    if not (read or output or any(rare.values())):
        return TokenUsage(status="missing", flags=(*flags, "zero_usage"))
    if reasoning > output:
        reasoning, flags = output, (*flags, "reasoning_exceeds_output")
    known = status if isinstance(status, str) and status in _STATUSES else "reported"
    return TokenUsage(
        read, output, cached, write_5m, write_1h, reasoning, status=known, flags=flags, **rare
    )


def _beside(attributes: Mapping[str, object]) -> bool:
    """Anthropic's own counts leave cached tokens out of the input, and some instrumentors pass them on as they are."""
    return any(
        attributes.get(name) == "anthropic"
        for name in (semconv.PROVIDER, "gen_ai.system", "llm.system")
    )


def _listed(said: object) -> tuple[str, ...]:
    """The flags on the span (a list, or one text), each once."""
    listed = said if isinstance(said, list | tuple) else (said,)
    return tuple(dict.fromkeys(name for name in map(text, listed[:16]) if name))
