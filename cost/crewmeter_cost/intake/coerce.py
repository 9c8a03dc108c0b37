"""Attribute values as the ledger can hold them: whatever came in → clean bounded text, whole numbers, nanoseconds.

Nothing here raises: a value of the wrong type is unknown (None), never a guess.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

__all__ = ["LONGEST_NAME", "decimal_text", "first_text", "nanoseconds", "text", "whole"]

LONGEST_NAME = 256
"""Characters of a name, model or id that are kept; a longer one ends in an ellipsis."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
_DIGITS = re.compile(r"\d{1,19}")


def text(value: object) -> str | None:
    """A name fit for the ledger: no control characters (PostgreSQL refuses NUL), no lone surrogates, at most `LONGEST_NAME` long.

    Numbers and booleans become their text; anything else, and an empty text, is None.
    """
    if type(value) is not str:
        if value is None or not isinstance(value, str | int | float):
            return None
        value = str(value)
    if value.isprintable() and len(value) <= LONGEST_NAME:
        return value or None
    value = _UNPRINTABLE.sub(" ", value[: 4 * LONGEST_NAME]).strip()
    return (value if len(value) <= LONGEST_NAME else value[: LONGEST_NAME - 1] + "…") or None


def first_text(value: object) -> str | None:
    """The first item of a list as `text`, or the value itself: finish reasons come both ways."""
    if isinstance(value, list | tuple):
        return text(value[0]) if value else None
    return text(value)


def whole(value: object) -> int | None:
    """A whole number, also where it came as a float without a fraction or as digits; anything else is None."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return None


def nanoseconds(seconds: object) -> int | None:
    """A duration in seconds as nanoseconds; negative, infinite or over ten days is None."""
    if (
        isinstance(seconds, int | float)
        and not isinstance(seconds, bool)
        and math.isfinite(seconds)
        and 0 <= seconds < 864_000
    ):
        return round(seconds * 1e9)
    return None


def decimal_text(value: object) -> str | None:
    """An amount as a plain decimal string; negative, infinite or not a number is None. A float is read by its shortest text."""
    if value is None or isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return (
        format(amount, "f")
        if amount.is_finite()
        and 0 <= amount < 10**9
        and len(amount.as_tuple().digits) <= 30
        and amount.adjusted() > -30
        else None
    )
