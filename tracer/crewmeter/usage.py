"""A provider's usage, in whatever shape it came, as one `TokenUsage` of disjoint buckets. Pure: no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TokenUsage"]


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What one call used, in tokens unless said otherwise. ``None`` is "not known", never zero.

    ``input`` includes the cached tokens and ``output`` includes reasoning, as the GenAI conventions have it;
    the cache fields are disjoint subsets of ``input``, ``reasoning`` is information only and never added.
    Audio and image counts are subsets of ``input`` and ``output``.
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
    status: str = "reported"
    """``reported`` | ``missing`` | ``estimated`` | ``reconciled`` | ``invalid``."""
    flags: tuple[str, ...] = ()
    """What was assumed while reading, e.g. ``cache_ttl_assumed``."""
