"""Names as labels: one clean line of bounded length.

Also what an LLM object says of its provider and endpoint.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

__all__ = ["declared_provider", "endpoint_of", "short", "text"]

_LIMIT = 128


def text(value: object) -> str | None:
    """Return a string, number or id as text, None for anything empty."""
    if value is None:
        return None
    return (value if isinstance(value, str) else str(value)) or None


def short(value: object) -> str | None:
    """Return a string as one clean line of at most 128 characters, None for others."""
    if not isinstance(value, str):
        return None
    if len(value) <= _LIMIT:
        return _clean(value) or None
    line = " ".join(value.split())
    if len(line) > _LIMIT:
        line = line[: _LIMIT - 1] + "…"
    return line


@lru_cache(maxsize=1024)
def _clean(value: str) -> str:
    """Collapse white space. Cached, as every call repeats the same few names."""
    return " ".join(value.split())


def declared_provider(source: Any) -> str | None:
    """Return the provider an LLM object names, None where it names none.

    Then the model's prefix decides, see `crewmeter.spans.call_attributes.names_of`.
    """
    provider = short(getattr(source, "provider", None))
    return provider.lower() if provider else None


def endpoint_of(source: Any) -> str | None:
    """Return the URL an LLM object talks to, where it says so."""
    for name in ("base_url", "endpoint", "api_base"):
        value = getattr(source, name, None)
        if isinstance(value, str) and value:
            return value
    return None
