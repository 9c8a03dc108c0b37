"""Plain fields of multipart forms that an SDK has not encoded yet.

Transcriptions, image edits and videos name their model in one. Files are left alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["fields_as_json", "httpx_fields"]

_MOST_FIELDS = 100
_LONGEST_VALUE = 4096


def fields_as_json(fields: Iterable[tuple[object, object]]) -> bytes:
    """Return the short text fields of a form as a JSON object.

    Returns ``b""`` where there are none.
    """
    found: dict[str, str] = {}
    for name, value in fields:
        text = _text(value)
        if isinstance(name, str) and text is not None:
            found.setdefault(name, text)
        if len(found) >= _MOST_FIELDS:
            break
    if not found:
        return b""
    return json.dumps(found).encode()


def _text(value: object) -> str | None:
    """Return a field's value as a short text.

    Returns None for a file and for a long text.
    """
    if isinstance(value, bytes):
        value = value[: _LONGEST_VALUE + 1].decode("utf-8", "replace")
    elif type(value) is int:
        value = str(value)
    if isinstance(value, str) and len(value) <= _LONGEST_VALUE:
        return value
    return None


def httpx_fields(stream: Any) -> bytes:
    """Return the plain fields of httpx's multipart stream."""
    fields = getattr(stream, "fields", None)
    if not isinstance(fields, list):
        return b""
    plain = []
    for field in fields:
        if not hasattr(field, "file"):
            name = getattr(field, "name", None)
            value = getattr(field, "value", None)
            plain.append((name, value))
    return fields_as_json(plain)
