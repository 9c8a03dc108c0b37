"""A `TokenUsage` as span attributes, and back.

Spans of other instrumentors are read at the intake of the ledger, which knows their dialects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.usage.draft import LARGEST_COUNT, BadCount, UsageDraft, count
from crewmeter.usage.token_usage import TokenUsage, usage_status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.util.types import AttributeValue

__all__ = [
    "GENAI_COUNTS",
    "OWN_COUNTS",
    "USAGE_NAMES",
    "CountNames",
    "UsageValues",
    "named_values",
    "plain_usage_from_attributes",
    "usage_attributes",
    "usage_from_attributes",
    "usage_values",
]

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa1-\U0010ffff]|[\ud800-\udfff]")
_MOST_FLAGS = 16
_MOST_UNITS = 16
_MOST_DIGITS = 12
_LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True)
class CountNames:
    """The attribute names of one dialect, by kind of token, the preferred name first."""

    input: tuple[str, ...]
    output: tuple[str, ...]
    cache_read: tuple[str, ...] = ()
    cache_write: tuple[str, ...] = ()
    """Cache writes without a time to live.

    Taken for five minutes, flagged ``cache_ttl_assumed``.
    """
    reasoning: tuple[str, ...] = ()


OWN_COUNTS = CountNames(
    input=(semconv.INPUT_TOKENS,),
    output=(semconv.OUTPUT_TOKENS,),
    cache_read=(semconv.CACHE_READ_TOKENS,),
    cache_write=(semconv.CACHE_WRITE_TOKENS, semconv.CACHE_WRITE_TOKENS_RENAMED),
    reasoning=(semconv.REASONING_TOKENS,),
)
"""crewmeter's own spans: the conventions' present names only."""

GENAI_COUNTS = CountNames(
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

USAGE_NAMES = (
    semconv.USAGE_STATUS,
    semconv.INPUT_TOKENS,
    semconv.OUTPUT_TOKENS,
    semconv.CACHE_READ_TOKENS,
    semconv.CACHE_WRITE_TOKENS,
    semconv.CACHE_WRITE_5M_TOKENS,
    semconv.CACHE_WRITE_1H_TOKENS,
    semconv.REASONING_TOKENS,
)
"""The attributes that most usages have, in the order of `usage_values`."""
UsageValues = tuple[
    str,
    int | None,
    int | None,
    int | None,
    int | None,
    int | None,
    int | None,
    int | None,
    "dict[str, AttributeValue] | None",
]
"""The values of `USAGE_NAMES`, and what is rare as attributes."""
_RARE_COUNTS: tuple[tuple[str, str], ...] = (
    ("input_audio", semconv.INPUT_AUDIO_TOKENS),
    ("output_audio", semconv.OUTPUT_AUDIO_TOKENS),
    ("input_image", semconv.INPUT_IMAGE_TOKENS),
    ("output_image", semconv.OUTPUT_IMAGE_TOKENS),
    ("input_video", semconv.INPUT_VIDEO_TOKENS),
    ("output_video", semconv.OUTPUT_VIDEO_TOKENS),
    ("cache_read_audio", semconv.CACHE_READ_AUDIO_TOKENS),
    ("cache_read_image", semconv.CACHE_READ_IMAGE_TOKENS),
    ("web_searches", semconv.WEB_SEARCHES),
    ("search_units", semconv.SEARCH_UNITS),
)
_RARE_FIELDS = {attribute: name for name, attribute in _RARE_COUNTS}
_WRITE_FIELDS = {
    semconv.CACHE_WRITE_5M_TOKENS: "cache_write_5m",
    semconv.CACHE_WRITE_1H_TOKENS: "cache_write_1h",
}
_RARE_NAMES = frozenset({attribute for _, attribute in _RARE_COUNTS} | {semconv.USAGE_UNITS})
_BEYOND_PLAIN = frozenset(
    {
        *_RARE_NAMES,
        *OWN_COUNTS.cache_write,
        *OWN_COUNTS.reasoning,
        semconv.CACHE_WRITE_5M_TOKENS,
        semconv.CACHE_WRITE_1H_TOKENS,
        semconv.USAGE_FLAGS,
    }
)


def usage_values(usage: TokenUsage) -> UsageValues:
    """Return the values of `USAGE_NAMES` for ``usage``, and its rare attributes.

    What is not known, or zero, is None, as are the rare attributes of most calls.
    """
    written = usage.cache_write_5m + usage.cache_write_1h
    return (
        usage.status,
        usage.input,
        usage.output,
        usage.cache_read or None,
        written or None,
        usage.cache_write_5m or None,
        usage.cache_write_1h or None,
        usage.reasoning or None,
        _rare_attributes(usage),
    )


def _rare_attributes(usage: TokenUsage) -> dict[str, AttributeValue] | None:
    # Spelled out, as most calls have none of it and each pays for the question.
    has_media = usage.input_audio or usage.output_audio or usage.input_image or usage.output_image
    has_video = usage.input_video or usage.output_video
    has_cached_media = usage.cache_read_audio or usage.cache_read_image
    has_fees = usage.web_searches or usage.search_units or usage.units
    if not (has_fees or has_media or usage.flags or has_video or has_cached_media):
        return None
    attributes: dict[str, AttributeValue] = {}
    for name, attribute in _RARE_COUNTS:
        value = getattr(usage, name)
        if value:
            attributes[attribute] = value
    if usage.units:
        pairs = [f"{name}={number}" for name, number in usage.units]
        attributes[semconv.USAGE_UNITS] = tuple(pairs)
    if usage.flags:
        attributes[semconv.USAGE_FLAGS] = usage.flags
    return attributes


def usage_attributes(usage: TokenUsage) -> dict[str, AttributeValue]:
    """Return span attributes for ``usage``, under the conventions' names and ours.

    What is not known, or zero, gets no attribute.
    """
    *values, rare = usage_values(usage)
    attributes = named_values(USAGE_NAMES, values)
    if rare is not None:
        attributes.update(rare)
    return attributes


def named_values(
    names: tuple[str, ...], values: Iterable[AttributeValue | None]
) -> dict[str, AttributeValue]:
    """Return ``values`` by their names. A None is left out."""
    pairs = zip(names, values, strict=False)
    return {name: value for name, value in pairs if value is not None}


def plain_usage_from_attributes(attributes: Mapping[str, object], operation: str) -> TokenUsage:
    """Return the usage of a span of ours, with a short way for plain counts.

    Plain is an input, an output, perhaps a cached part, and nothing more; most spans are.
    """
    get = attributes.get
    total_in = get(semconv.INPUT_TOKENS)
    total_out = get(semconv.OUTPUT_TOKENS)
    cached = get(semconv.CACHE_READ_TOKENS, 0)
    if (
        type(total_in) is int
        and type(total_out) is int
        and type(cached) is int
        and 0 <= cached <= total_in < LARGEST_COUNT
        and 0 <= total_out < LARGEST_COUNT
        and (total_in or total_out)
        and get(semconv.USAGE_STATUS, "reported") == "reported"
        and attributes.keys().isdisjoint(_BEYOND_PLAIN)
    ):
        return TokenUsage(total_in, total_out, cached)
    return usage_from_attributes(attributes, operation, OWN_COUNTS)


def usage_from_attributes(
    attributes: Mapping[str, object],
    operation: str | None = None,
    names: CountNames = GENAI_COUNTS,
) -> TokenUsage:
    """Return the usage a span reports. Never raises.

    The inverse of `usage_attributes`. Status ``missing`` where the span does not give both counts
    (embeddings and reranks have no output), ``invalid`` where it cannot be true: a negative,
    fractional or absurd count, or more cached tokens than input.
    """
    said = attributes.get(semconv.USAGE_STATUS)
    status = usage_status(said) if isinstance(said, str) else None
    flags = _flags(attributes.get(semconv.USAGE_FLAGS))
    if status == "invalid":
        return TokenUsage(status="invalid", flags=flags or ("counts_invalid",))
    if operation is None:
        named = attributes.get(semconv.OPERATION)
        operation = named if isinstance(named, str) else None
    try:
        draft = _draft(attributes, names)
    except BadCount as bad:
        return TokenUsage(
            status="invalid",
            flags=flags or (f"bad_count:{bad.args[0]}",),
        )
    if status == "missing":
        return TokenUsage(status="missing", flags=flags)
    usage = draft.finish(operation)
    merged = tuple(dict.fromkeys((*flags, *usage.flags)))
    if usage.status != "reported" or status is None:
        if merged:
            return replace(usage, flags=merged)
        return usage
    return replace(usage, status=status, flags=merged)


def _clean(value: str) -> str:
    """Return ``value`` short and without what PostgreSQL refuses or a terminal obeys."""
    value = value[:_LONGEST_TEXT]
    if not value.isprintable():
        value = _UNPRINTABLE.sub(" ", value)
    return value.strip()


def _flags(value: object) -> tuple[str, ...]:
    """Return the flags on the span (a list, or one text), each once."""
    listed = (
        value
        if isinstance(
            value,
            list | tuple,
        )
        else (value,)
    )
    flags: dict[str, None] = {}
    for flag in listed[:_MOST_FLAGS]:
        if isinstance(flag, str):
            flags[_clean(flag)] = None
    flags.pop("", None)
    return tuple(flags)


def _draft(attributes: Mapping[str, object], names: CountNames) -> UsageDraft:
    draft = UsageDraft()
    draft.input = _first(attributes, names.input)
    draft.output = _first(attributes, names.output)
    draft.cache_read = _first(attributes, names.cache_read) or 0
    draft.reasoning = _first(attributes, names.reasoning) or 0
    draft.take(attributes, _WRITE_FIELDS)
    if not attributes.keys().isdisjoint(_RARE_NAMES):
        draft.take(attributes, _RARE_FIELDS)
        draft.units = _units(attributes.get(semconv.USAGE_UNITS))
    written = _first(attributes, names.cache_write) or 0
    rest = written - draft.cache_write_5m - draft.cache_write_1h
    if rest > 0:
        draft.cache_write_5m += rest
        draft.flags.append("cache_ttl_assumed")
    _add_cache_beside(draft, attributes)
    return draft


def _add_cache_beside(draft: UsageDraft, attributes: Mapping[str, object]) -> None:
    """Add cached tokens to an input that leaves them out."""
    cached = draft.cache_read + draft.cache_write_5m + draft.cache_write_1h
    if draft.input is None or not cached:
        return
    exceeds = cached > draft.input > 0
    if exceeds and _is_anthropic(attributes):
        draft.input += cached


def _first(attributes: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    """Return the first of ``names`` that is there, as a count. Raises `BadCount`."""
    for name in names:
        value = attributes.get(name)
        if value is None:
            continue
        if isinstance(value, str) and value.strip().isdecimal():
            return count(
                {name: int(value.strip()[:20])},
                name,
            )
        return count(attributes, name)
    return None


def _units(value: object) -> dict[str, int]:
    """Read the ``name=number`` texts of a span.

    Raises `BadCount` for one that is no count.
    """
    units: dict[str, int] = {}
    if not isinstance(value, list | tuple):
        return units
    for text in value[:_MOST_UNITS]:
        clean = _clean(str(text)[:_LONGEST_TEXT])
        name, _, digits = clean.rpartition("=")
        is_count = digits.isdecimal() and len(digits) <= _MOST_DIGITS
        if not name or not is_count:
            raise BadCount("units")
        units[name] = int(digits)
    return units


def _is_anthropic(attributes: Mapping[str, object]) -> bool:
    """Tell whether Anthropic answered.

    Its own counts leave cached tokens out of the input. Some instrumentors pass them on as they
    are.
    """
    names = (semconv.PROVIDER, "gen_ai.system", "llm.system")
    return any(attributes.get(name) == "anthropic" for name in names)
