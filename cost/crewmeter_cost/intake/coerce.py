"""Attribute values as the ledger can hold them: clean, bounded, typed.

Nothing here raises. A value of the wrong type is unknown (None), never a guess.
"""

from __future__ import annotations

import ast
import json
import math
import re
from decimal import Decimal, InvalidOperation

from crewmeter.redaction import model_name

__all__ = [
    "FUTURE_NS",
    "LONGEST_NAME",
    "decimal_text",
    "first_text",
    "mapping_in",
    "mapping_under",
    "model_text",
    "nanoseconds",
    "plausible",
    "text",
    "whole",
]

FUTURE_NS = 3_600 * 10**9
"""How far a sender's clock may run ahead of ours (one hour) before its times are no longer
believed.
"""
LONGEST_NAME = 256
"""Characters of a name, model or id that are stored. A longer one ends in an ellipsis."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
_DIGITS = re.compile(r"(\d{1,19})(?:\.0+)?")
_LONGEST_DURATION_S = 864_000
_LARGEST_AMOUNT = 10**9
_MOST_DIGITS = 30
_LONGEST_MAPPING = 262_144
"""Characters of JSON that are parsed. Usage has a few hundred, beside it may stand log
probabilities or the chunks of a search."""
_LONGEST_LITERAL = 8_192
"""Characters of a Python literal that are parsed, and of an object inside a JSON text."""


def text(value: object) -> str | None:
    """Return a name fit for the ledger.

    It has no control characters (PostgreSQL refuses NUL), no lone surrogates, and at most
    `LONGEST_NAME` characters. Numbers and booleans become their text. Anything else, and an empty
    text, is None.
    """
    if type(value) is not str:
        if value is None or not isinstance(value, str | int | float):
            return None
        value = str(value)
    if value.isprintable() and len(value) <= LONGEST_NAME:
        return value or None
    value = _UNPRINTABLE.sub(
        " ",
        value[: 4 * LONGEST_NAME],
    ).strip()
    if len(value) > LONGEST_NAME:
        value = value[: LONGEST_NAME - 1] + "…"
    return value or None


def model_text(value: object) -> str | None:
    """Return the name of a model as `text`, without what looks like a key in it."""
    return model_name(text(value))


def first_text(value: object) -> str | None:
    """Return the first item of a list as `text`, or the value itself.

    Finish reasons come both ways.
    """
    if isinstance(value, list | tuple):
        if value:
            return text(value[0])
        return None
    return text(value)


def whole(value: object) -> int | None:
    """Return a whole number, also from digits or a float without a fraction."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (digits := _DIGITS.fullmatch(value)):
        return int(digits[1])
    return None


def nanoseconds(seconds: object) -> int | None:
    """Return seconds as nanoseconds.

    None for what is negative, infinite or over ten days.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    if not math.isfinite(seconds) or not 0 <= seconds < _LONGEST_DURATION_S:
        return None
    return round(seconds * 1e9)


def decimal_text(value: object) -> str | None:
    """Return an amount as a plain decimal string. None for what is no amount.

    A float is read by its shortest text.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    if not amount.is_finite() or not 0 <= amount < _LARGEST_AMOUNT:
        return None
    if len(amount.as_tuple().digits) > _MOST_DIGITS or amount.adjusted() <= -_MOST_DIGITS:
        return None
    return format(amount, "f")


def mapping_in(value: object) -> dict[str, object]:
    """Return the dictionary in a text, JSON or a Python literal.

    LiteLLM writes the latter.

    Empty where it is neither.
    """
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or not value.startswith("{") or len(value) > _LONGEST_MAPPING:
        return {}
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = _literal_in(value)
    if isinstance(parsed, dict):
        return parsed
    return {}


def _literal_in(value: str) -> object:
    if len(value) > _LONGEST_LITERAL:
        return None
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        # What literal_eval may raise on hostile text, such as `{{'a': 1}}`.
        return None


def mapping_under(value: object, key: str) -> dict[str, object]:
    """Return the last dictionary under a key in a JSON text, without reading the rest.

    Empty where there is none. A text inside the JSON cannot be taken for the key, since its quotes
    are escaped.
    """
    if not isinstance(value, str):
        return {}
    at = value.rfind(f'"{key}":')
    if at < 0:
        return {}
    start = value.find("{", at)
    if start < 0 or value[at + len(key) + 3 : start].strip():
        return {}
    try:
        found, _ = json.JSONDecoder().raw_decode(value[start : start + _LONGEST_LITERAL])
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, dict):
        return found
    return {}


def plausible(started_ns: int, ended_ns: int, now_ns: int) -> tuple[int, int]:
    """Return a start and an end (ns since 1970) that reports can use.

    A billed call is never refused for its clock.

    No start: it is the end's; neither: now. A start in the future: the span is moved to end now
    and keeps its duration (at most an hour of it). An end in the future or before the start: now,
    or the start.
    """
    latest = now_ns + FUTURE_NS
    if 0 < started_ns <= ended_ns <= latest:
        return started_ns, ended_ns
    started_ns = started_ns or ended_ns or now_ns
    ended_ns = max(ended_ns, started_ns)
    if started_ns > latest:
        duration = min(ended_ns - started_ns, FUTURE_NS)
        return max(now_ns - duration, 0), now_ns
    return started_ns, ended_ns if ended_ns <= latest else max(started_ns, now_ns)
