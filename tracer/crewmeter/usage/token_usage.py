"""What one model call used, as one value."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from crewmeter.value_class import value_class

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MISSING",
    "UNITS",
    "TokenUsage",
    "Unit",
    "UsageStatus",
    "extra_usage",
    "from_extra",
    "usage_status",
]

UsageStatus = Literal["reported", "missing", "estimated", "reconciled", "invalid"]
"""How much the counts can be trusted."""
_STATUSES: dict[str | None, UsageStatus] = {status: status for status in get_args(UsageStatus)}
Unit = tuple[str, int]
"""Something billed by number: its name, as price lists spell it, and how many."""


@value_class
class TokenUsage:
    """What one call used, in tokens unless said otherwise.

    ``None`` is "not known", never zero. ``input`` includes the cached tokens and ``output``
    includes reasoning, as the GenAI conventions have it. The cache fields are disjoint subsets of
    ``input``. ``reasoning`` is information only and never added. Audio, image and video counts are
    subsets of ``input`` and ``output``; ``cache_read_audio`` and ``cache_read_image`` are subsets
    of ``cache_read`` as well.
    """

    input: int | None = None
    output: int | None = None
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    input_audio: int = 0
    output_audio: int = 0
    input_image: int = 0
    output_image: int = 0
    web_searches: int = 0
    """Server-side web searches, in requests."""
    search_units: int = 0
    """Rerank queries, in units as the provider counts them."""
    input_video: int = 0
    output_video: int = 0
    cache_read_audio: int = 0
    cache_read_image: int = 0
    units: tuple[Unit, ...] = ()
    """Other billed quantities, named as in `UNITS`: seconds, pages, images, fees."""
    status: UsageStatus = "reported"
    flags: tuple[str, ...] = ()
    """What was assumed while reading, e.g. ``cache_ttl_assumed``.

    ``unknown_usage:PATH`` names a part of the response that may cost money and that no reader
    knows: what is priced is then a lower bound. ``unrouted`` stands on a request to a provider's
    host whose endpoint is not known.
    """


UNITS = frozenset(
    {
        "input_audio_ms",  # milliseconds of audio transcribed
        "output_audio_ms",
        "output_video_ms",
        "character",  # characters of text spoken
        "page",
        "annotated_page",
        "image",  # images made, of the provider's standard size and quality
        "image_pixel",  # pixels of images read
        "video_pixel",
        "request",
        "x_search",
        "search_source",
        "maps_grounding",
        "storage_search",  # searches of the provider's file store
        "code_execution",
        "document_search",
        "tool_call",  # another tool that the provider ran
        "citation_token",
        "model_router_token",  # input tokens that passed a paid router
    }
)
"""Names of `TokenUsage.units`. A qualifier follows a colon: ``image:QUALITY:WIDTHxHEIGHT``.

Pricing charges each at the unit of this name in the price book. One that has no price there makes
the charge a lower bound.
"""

MISSING = TokenUsage(status="missing")
"""Nothing is known about what the call used."""

_EXTRA = tuple(
    field.name
    for field in fields(TokenUsage)
    if field.name
    not in (
        "input",
        "output",
        "cache_read",
        "cache_write_5m",
        "cache_write_1h",
        "reasoning",
        "status",
        "flags",
    )
)


def usage_status(text: str | None) -> UsageStatus | None:
    """Return ``text`` as a `UsageStatus`.

    None where it is not one.
    """
    return _STATUSES.get(text)


def extra_usage(usage: TokenUsage) -> dict[str, Any]:
    """Return everything beyond the plain token counts, as JSON can hold it.

    {} for most calls.
    """
    return {name: value for name in _EXTRA if (value := getattr(usage, name))}


def from_extra(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `TokenUsage` that `extra_usage` wrote.

    Unknown names are left out.
    """
    values = {name: extra[name] for name in _EXTRA if name in extra}
    if "units" in values:
        values["units"] = tuple((str(name), number) for name, number in values["units"])
    return values
