"""The model that the body of a request names."""

from __future__ import annotations

import json
import re

__all__ = ["model_in_body"]

_NAME = re.compile(rb'\s*:\s*("(?:[^"\\]|\\.){1,300}")')
_FORM_NAME = re.compile(rb'name="model"(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]{1,300})')
_FORM_SEARCHED = 64 * 1024
"""Bytes of a form that are searched: the fields stand before the file or after it."""
_KEY = b'"model"'
_LONGEST_NAME = 300
_PARSE_UP_TO = 4 * 2**20
"""Bytes of a request body that may be parsed whole to find the model."""


def model_in_body(body: bytes) -> str | None:
    """Return the model a request's body names.

    None where it names none. ``"model"`` in quotes can't stand inside a JSON string, so a single
    one is the key. Where there are more, the body is parsed.
    """
    first = body.find(_KEY)
    if first < 0:
        return None
    if body[:2] == b"--" or body[first - 5 : first] == b"name=":
        return _model_in_form(body)
    if body.find(_KEY, first + len(_KEY)) >= 0 and len(body) <= _PARSE_UP_TO:
        return _model_parsed(body)
    after_key = first + len(_KEY)
    return _plain_name(body, after_key) or _quoted_name(body, after_key)


def _quoted_name(body: bytes, after_key: int) -> str | None:
    match = _NAME.match(body, after_key)
    if match is None:
        return None
    if b"\\" not in match.group(1):
        return match.group(1)[1:-1].decode("utf-8", "replace")
    try:
        name = json.loads(match.group(1))
    except ValueError:
        return None
    if isinstance(name, str):
        return name
    return None


def _plain_name(body: bytes, after_key: int) -> str | None:
    """Return a name as SDKs write it, without escapes.

    A search by pattern takes twice as long.
    """
    separator = body[after_key : after_key + 3]
    begin = after_key + 2
    if separator == b': "':
        begin += 1
    elif separator[:2] != b':"':
        return None
    end = body.find(b'"', begin, begin + _LONGEST_NAME + 1)
    name = body[begin:end]
    if end <= begin or b"\\" in name:
        return None
    return name.decode("utf-8", "replace")


def _model_parsed(body: bytes) -> str | None:
    try:
        model = json.loads(body).get("model")
    except (ValueError, AttributeError, RecursionError):
        return None
    return model if isinstance(model, str) else None


def _model_in_form(body: bytes) -> str | None:
    for part in (body[:_FORM_SEARCHED], body[-_FORM_SEARCHED:]):
        match = _FORM_NAME.search(part)
        if match is not None:
            return match.group(1).decode("utf-8", "replace")
    return None
