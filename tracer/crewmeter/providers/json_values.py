"""Values out of parsed JSON, which may be anything: the expected type, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter.providers.provider_protocol import Json

__all__ = ["as_list", "as_map", "as_text", "first_map"]

_LONGEST_NAME = 300


def as_text(value: object) -> str | None:
    """Return ``value`` if it is a text, short, else None."""
    if isinstance(value, str) and value:
        return value[:_LONGEST_NAME]
    return None


def as_map(value: object) -> Json:
    """Return ``value`` if it is a JSON object, else an empty one."""
    if isinstance(value, dict):
        return value
    return {}


def as_list(value: object) -> list[object]:
    """Return ``value`` if it is a list, else an empty one."""
    if isinstance(value, list):
        return value
    return []


def first_map(value: object) -> Json:
    """Return the first item of a list of JSON objects, else an empty one."""
    if isinstance(value, list) and value:
        return as_map(value[0])
    return {}
