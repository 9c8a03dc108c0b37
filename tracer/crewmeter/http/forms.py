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

    b"" where there are none.
    """
    found: dict[str, str] = {}
    for _, (name, value) in zip(range(_MOST_FIELDS), fields, strict=False):
        if isinstance(value, bytes) and len(value) <= _LONGEST_VALUE:
            value = value.decode("utf-8", "replace")
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(name, str) and isinstance(value, str) and len(value) <= _LONGEST_VALUE:
            found.setdefault(name, value)
    return json.dumps(found).encode() if found else b""


def httpx_fields(stream: Any) -> bytes:
    """Return the plain fields of httpx's multipart stream."""
    fields = getattr(stream, "fields", None)
    if not isinstance(fields, list):
        return b""
    plain = [field for field in fields if not hasattr(field, "file")]
    return fields_as_json((getattr(f, "name", None), getattr(f, "value", None)) for f in plain)
