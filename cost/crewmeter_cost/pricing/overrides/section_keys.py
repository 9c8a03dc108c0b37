"""The sections of an overrides file, and the keys that each may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RULE_KEYS", "SECTIONS", "UNITS", "is_size"]

UNITS = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "output_audio",
    "cache_audio_read",
    "input_image",
    "output_image",
    "output_reasoning",
    "request",
    "web_search",
    "search_unit",
    "search_response",
    "storage_search",
    "document_search",
    "x_search",
    "code_execution",
    "maps_grounding",
    "image_pixel",
    "video_pixel",
    "character",
    "page",
    "annotated_page",
    "image",
    "input_second",
    "output_second",
    "audio_hour",
)
"""What a price may be given for: tokens per million, those from ``request`` on per one."""
SECTIONS = (
    "currency",
    "aliases",
    "hosts",
    "reported",
    "fx",
    "price",
    "discount",
    "free",
    "self_hosted",
)
_WHO = ("provider", "model", "models", "from", "until")
RULE_KEYS: Mapping[str, tuple[str, ...]] = {
    "price": (*_WHO, "tier", "currency", "over", *UNITS),
    "discount": (*_WHO, "percent"),
    "free": _WHO,
    "self_hosted": (*_WHO, "host", "price_per_gpu_hour", "gpus", "currency"),
}


def is_size(tokens: object) -> bool:
    """Return whether a value is a request size in tokens: a whole number above zero."""
    return isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0
