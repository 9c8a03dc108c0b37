"""Token counts on spans of other instrumentors, as `TokenUsage`.

Instrumentors disagree on whether cached tokens are inside the input or beside it, and whether
reasoning is inside the output. The total tells, where there is one. Where nothing tells, the usage
carries a flag that makes its charge a bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from crewmeter import semconv
from crewmeter.usage.token_usage import TokenUsage
from crewmeter_cost.intake.coerce import mapping_in, text, whole
from crewmeter_cost.intake.instrumentors.usage_names import (
    ATTRIBUTES,
    DETAILS,
    IGNORED,
    PREFIXES,
    Buckets,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["usage_of", "usage_of_raw"]

_ABSURD = 1 << 40
"""No call uses a trillion tokens: a larger count is a fault of the instrumentor."""
_READS_ONLY = frozenset({semconv.EMBEDDINGS, semconv.RERANK})
_BESIDE_PROVIDERS = frozenset({"anthropic", "aws.bedrock"})
"""Providers whose own counts leave cached tokens out of the input."""
_THOUGHTS_BESIDE = frozenset({"gcp.gemini", "gcp.vertex_ai"})
"""Providers whose own counts leave thoughts out of the output."""
_CONVENTION: Final = frozenset(
    {
        semconv.CACHE_READ_TOKENS,
        semconv.CACHE_WRITE_TOKENS,
        semconv.CACHE_WRITE_TOKENS_RENAMED,
        semconv.REASONING_TOKENS,
    }
)
"""Names whose convention says that the input or the output includes them."""
_SUMMED = "ai.usage.cachedInputTokens"
"""Version 5 of the AI SDK writes a total that it adds up itself, so it tells nothing."""
_MOST_UNKNOWN = 8
_LONGEST_NAME = 80


class _BadCount(ValueError):
    """A count that is negative, fractional or absurd."""


def usage_of(
    attributes: Mapping[str, object], operation: str, *, provider: str | None = None
) -> TokenUsage:
    """Return the usage on a span, in the names of any instrumentor.

    Args:
        attributes: The span's attributes.
        operation: A `semconv` operation. Embeddings and reranks have no output.
        provider: The canonical provider. It decides what the counts leave open.

    Returns:
        Status ``missing`` where it does not tell both counts, ``invalid`` where it cannot be true.
    """
    buckets = Buckets()
    try:
        for name, value in attributes.items():
            bucket = ATTRIBUTES.get(name)
            if bucket is not None:
                _put(buckets, bucket, value)
                if name not in _CONVENTION:
                    buckets.note_other_name(bucket)
                buckets.total_is_sum |= name == _SUMMED
            elif name in DETAILS:
                _put_details(buckets, name, value)
            elif name not in IGNORED and name.startswith(PREFIXES):
                _note_unknown(buckets, name, value)
    except _BadCount:
        return TokenUsage(status="invalid", flags=("counts_invalid",))
    buckets.flags = [*_reported_flags(attributes), *buckets.flags]
    return _fitted(buckets, operation, provider)


def usage_of_raw(
    raw: Mapping[str, object],
    operation: str,
    names: Mapping[str, str],
    *,
    provider: str | None = None,
    beside: bool = False,
) -> TokenUsage:
    """Return the usage of an instrumentor's own usage text.

    ``names`` maps its keys to buckets. ``beside`` says that every part stands beside the input and
    the output, as Langfuse has it.
    """
    # An instrumentor's own text has a total of its own making.
    buckets = Buckets(
        by_convention=False,
        thoughts_by_convention=False,
        total_is_sum=not beside,
    )
    try:
        for key, value in raw.items():
            bucket = names.get(key)
            if bucket is not None:
                _put(buckets, bucket, value)
            elif key in DETAILS:
                _put_details(buckets, key, value)
            else:
                _note_unknown(buckets, key, value)
    except _BadCount:
        return TokenUsage(status="invalid", flags=("counts_invalid",))
    if beside:
        _add_parts(buckets)
    return _fitted(buckets, operation, provider)


def _put_details(buckets: Buckets, name: str, value: object) -> None:
    """Read an attribute that holds a dictionary."""
    for key, count in mapping_in(value).items():
        bucket = DETAILS[name].get(key)
        if bucket is not None:
            _put(buckets, bucket, count)
        else:
            _note_unknown(buckets, f"{name}.{key}", count)


def _add_parts(buckets: Buckets) -> None:
    """Make the input and output whole, where their parts stand beside them."""
    plain = (buckets.input or 0) + (buckets.output or 0)
    if buckets.total == plain and buckets.cached:
        # Either the input has the cached tokens in it, or the total leaves them out.
        buckets.flag("cached_location_assumed")
    elif buckets.input is not None:
        media = (buckets.input_audio or 0) + (buckets.input_image or 0)
        buckets.fresh_input = buckets.input
        buckets.input += buckets.cached + media
    if buckets.output is not None and buckets.total is not None and buckets.input is not None:
        rest = buckets.total - buckets.input - buckets.output
        parts = (buckets.reasoning, buckets.output_audio, buckets.output_image)
        if rest > 0 and rest == sum(part or 0 for part in parts):
            buckets.output += rest


def _put(buckets: Buckets, bucket: str, value: object) -> None:
    if value is None:
        return
    count = whole(value)
    if count is None or not 0 <= count < _ABSURD:
        raise _BadCount
    buckets.put(bucket, count)


def _note_unknown(buckets: Buckets, name: str, value: object) -> None:
    """Flag a name that no table has, where its value is a number other than 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    number = value if is_number else whole(value)
    if not number and not isinstance(value, dict | list | tuple):
        return
    noted = [flag for flag in buckets.flags if flag.startswith("unknown_usage")]
    if len(noted) >= _MOST_UNKNOWN:
        return
    printable = text(name) or "?"
    short = printable[:_LONGEST_NAME].replace(",", ".")
    buckets.flag(f"unknown_usage:{short}")


def _reported_flags(attributes: Mapping[str, object]) -> tuple[str, ...]:
    """Return the flags on the span (a list, or one text), each once."""
    reported = attributes.get(semconv.USAGE_FLAGS)
    if reported is None:
        return ()
    listed = (reported,)
    if isinstance(reported, list | tuple):
        listed = tuple(reported[:16])
    names: dict[str, None] = {}
    for item in listed:
        name = text(item)
        if name:
            names[name] = None
    return tuple(names)


def _fitted(buckets: Buckets, operation: str, provider: str | None) -> TokenUsage:
    """Fit the counts together."""
    if buckets.output is None and operation in _READS_ONLY:
        buckets.output = 0
    if buckets.input is None and buckets.fresh_input is not None:
        buckets.input = buckets.fresh_input + buckets.cached
    if buckets.input is None or buckets.output is None:
        return _unsplit(buckets)
    _fit_total(buckets, provider)
    if buckets.cached > buckets.input:
        return TokenUsage(
            status="invalid",
            flags=(*buckets.flags, "parts_exceed_whole"),
        )
    _fit_reasoning(buckets)
    _add_compactions(buckets)
    return _usage(buckets)


def _unsplit(buckets: Buckets) -> TokenUsage:
    flags = list(buckets.flags)
    if buckets.input or buckets.output or buckets.total:
        flags.append("split_not_reported")
    return TokenUsage(status="missing", flags=tuple(flags))


def _fit_total(buckets: Buckets, provider: str | None) -> None:
    """Decide what stands inside and what beside, by the total where there is one."""
    read = buckets.input or 0
    output = buckets.output or 0
    cached = buckets.cached
    if buckets.fresh_input is not None and cached:
        # The instrumentor says itself what the input is without the cache.
        if read < buckets.fresh_input + cached:
            buckets.input = read = buckets.fresh_input + cached
        if buckets.total in (None, 0, read + output):
            return
    if not buckets.total:
        _fit_without_total(buckets, provider)
        return
    rest = buckets.total - read - output
    if rest == 0:
        if cached > read:
            # The instrumentor added up two counts of which the input leaves the cache out.
            _put_beside(buckets, provider)
        elif cached and buckets.total_is_sum and provider in _BESIDE_PROVIDERS:
            buckets.flag("cached_location_assumed")
        return
    if rest < 0:
        _fit_low_total(buckets, rest, provider)
        return
    _fit_rest(buckets, rest, provider)


def _fit_rest(buckets: Buckets, rest: int, provider: str | None) -> None:
    """Explain the tokens of a total that input and output do not hold."""
    cached = buckets.cached
    thoughts = buckets.reasoning or 0
    output = buckets.output or 0
    read = buckets.input or 0
    by_cache = cached > 0 and rest == cached
    by_thoughts = thoughts > 0 and rest == thoughts
    if by_cache and by_thoughts:
        # Output costs at least as much as cached input, so this is the dearer reading.
        buckets.output = output + thoughts
        buckets.flag("total_ambiguous")
    elif by_cache:
        buckets.input = read + cached
    elif by_thoughts:
        buckets.output = output + thoughts
    elif cached and thoughts and rest == cached + thoughts:
        buckets.input = read + cached
        buckets.output = output + thoughts
    elif cached > read:
        _put_beside(buckets, provider)
        buckets.flag("total_not_explained")
    elif provider in _THOUGHTS_BESIDE and not thoughts:
        # Gemini's total holds thoughts, and prompts of its own tools that cost less.
        buckets.output = output + rest
        buckets.reasoning = rest
        buckets.flag("thoughts_assumed")
    else:
        buckets.flag("total_not_explained")


def _fit_low_total(buckets: Buckets, rest: int, provider: str | None) -> None:
    """Explain a total that is lower than input and output together."""
    if -rest == buckets.cached and buckets.cached:
        # The total leaves out what the input has in it.
        return
    if buckets.cached > (buckets.input or 0):
        _put_beside(buckets, provider)
    buckets.flag("total_below_parts")


def _put_beside(buckets: Buckets, provider: str | None) -> None:
    """Add the cached tokens to an input that is smaller than they are."""
    buckets.input = (buckets.input or 0) + buckets.cached
    if provider not in _BESIDE_PROVIDERS:
        buckets.flag("cached_beside_assumed")


def _fit_without_total(buckets: Buckets, provider: str | None) -> None:
    """Decide by the provider and the names, where there is no total."""
    cached = buckets.cached
    read = buckets.input or 0
    if cached > read > 0:
        _put_beside(buckets, provider)
    elif cached and not buckets.by_convention and provider in _BESIDE_PROVIDERS:
        buckets.flag("cached_location_assumed")
    thoughts = buckets.reasoning or 0
    if thoughts and provider in _THOUGHTS_BESIDE and not buckets.thoughts_by_convention:
        buckets.flag("thoughts_location_assumed")


def _fit_reasoning(buckets: Buckets) -> None:
    """Put reasoning that exceeds the output beside it."""
    thoughts = buckets.reasoning or 0
    output = buckets.output or 0
    if thoughts > output:
        buckets.output = output + thoughts
        if buckets.total != (buckets.input or 0) + buckets.output:
            buckets.flag("reasoning_beside_assumed")


def _add_compactions(buckets: Buckets) -> None:
    """Add Anthropic's compactions, which its counts leave out.

    Nothing tells how much of them was cached.
    """
    if buckets.compaction_input or buckets.compaction_output:
        buckets.input = (buckets.input or 0) + (buckets.compaction_input or 0)
        buckets.output = (buckets.output or 0) + (buckets.compaction_output or 0)
        buckets.flag("cached_not_reported")


def _usage(buckets: Buckets) -> TokenUsage:
    read = buckets.input or 0
    output = buckets.output or 0
    written = buckets.written
    write_1h = buckets.cache_write_1h or 0
    write_5m = buckets.cache_write_5m or 0
    if written > write_5m + write_1h:
        if buckets.cache_write_1h is None:
            buckets.flag("cache_ttl_assumed")
        write_5m = written - write_1h
    media_in = _sum(buckets.input_audio, buckets.input_image, buckets.input_video)
    media_out = _sum(buckets.output_audio, buckets.output_image, buckets.output_video)
    if media_in > read or media_out > output:
        return TokenUsage(
            status="invalid",
            flags=(*buckets.flags, "parts_exceed_whole"),
        )
    if not (read or output or buckets.web_searches or buckets.search_units):
        return TokenUsage(status="missing", flags=(*buckets.flags, "zero_usage"))
    return TokenUsage(
        input=read,
        output=output,
        cache_read=buckets.cache_read or 0,
        cache_write_5m=write_5m,
        cache_write_1h=write_1h,
        reasoning=min(buckets.reasoning or 0, output),
        input_audio=buckets.input_audio or 0,
        output_audio=buckets.output_audio or 0,
        input_image=buckets.input_image or 0,
        output_image=buckets.output_image or 0,
        web_searches=buckets.web_searches or 0,
        search_units=buckets.search_units or 0,
        input_video=buckets.input_video or 0,
        output_video=buckets.output_video or 0,
        cache_read_audio=buckets.cache_read_audio or 0,
        cache_read_image=buckets.cache_read_image or 0,
        flags=tuple(buckets.flags),
    )


def _sum(*counts: int | None) -> int:
    return sum(count or 0 for count in counts)
