"""Names as labels: one clean line of bounded length.

Also what an LLM object says of its provider and endpoint.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["declared_provider", "endpoint_of", "settings_of", "short", "text"]

_LIMIT = 128
_ENDPOINTS = ("base_url", "endpoint", "api_base")
"""Settings of an LLM object that may hold the URL it talks to, the best first."""
_SETTINGS = frozenset({"model", "provider", "reasoning_effort", *_ENDPOINTS})
"""What is read of an LLM object."""
_LOOKED_UP = _SETTINGS | {"__getattribute__"}
"""Attributes of a class that come before what its objects hold."""


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


def settings_of(source: Any) -> Callable[[str], object]:
    """Return what gives the settings of an LLM object by name, None for what it lacks."""
    kind: type[object] = type(source)
    if _holds_settings(kind):  # type: ignore[arg-type]  # a class has a hash
        # Pydantic takes 4 µs to say that there is no such attribute.
        found: Callable[[str], object] = vars(source).get
        return found
    return lambda name: getattr(source, name, None)


@lru_cache(maxsize=64)
def _holds_settings(kind: type) -> bool:
    """Return True where a class's objects hold their settings in ``__dict__`` alone."""
    own_lookup = getattr(kind, "__getattr__", None)
    from_pydantic = getattr(own_lookup, "__module__", None) == "pydantic.main"
    is_plain = own_lookup is None or from_pydantic
    config = getattr(kind, "model_config", None) or {}
    if not isinstance(config, dict) or config.get("extra") == "allow":
        return False
    if not is_plain or not kind.__dictoffset__:
        return False
    bases = kind.__mro__[:-1]  # but for `object`
    return all(_LOOKED_UP.isdisjoint(vars(base)) for base in bases)


def declared_provider(setting: Callable[[str], object]) -> str | None:
    """Return the provider an LLM object names, None where it names none.

    Then the model's prefix decides, see `crewmeter.spans.call_attributes.names_of`. ``setting``
    gives the object's settings, see `settings_of`.
    """
    provider = setting("provider")
    if isinstance(provider, str) and len(provider) <= _LIMIT:
        return _lower(provider)
    return (short(provider) or "").lower() or None


@lru_cache(maxsize=256)
def _lower(value: str) -> str | None:
    return (short(value) or "").lower() or None


def endpoint_of(setting: Callable[[str], object]) -> str | None:
    """Return the URL an LLM object talks to, where it says so. ``setting`` as above."""
    for name in _ENDPOINTS:
        value = setting(name)
        if isinstance(value, str) and value:
            return value
    return None
