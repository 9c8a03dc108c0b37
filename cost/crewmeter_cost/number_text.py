"""Numbers that people type.

Read strictly, so that a slip is refused and never rounded.

`Decimal("1,5".replace(",", ""))` is 15, which made a budget of 1.50 USD ten times as large.
Here a comma, an underscore or a space separates groups of exactly three digits, and nothing else.
"""

from __future__ import annotations

import re
from decimal import Decimal

from crewmeter_cost.errors import CrewMeterError

__all__ = ["bounded_integer", "exact_decimal"]

# ASCII digits only: `Decimal` and `int` would also take "٥" or "５", which no reviewer sees.
_PLAIN = r"[0-9]+"
# The first group has no leading zero: 0,005 is a decimal comma, not five.
_GROUPED = r"[1-9][0-9]{0,2}(?:(?P<separator>[,_ '])[0-9]{3})(?:(?P=separator)[0-9]{3})*"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?P<whole>{_GROUPED}|{_PLAIN}|)(?P<fraction>\.[0-9]+|\.|)"
    r"(?P<exponent>[eE][-+]?[0-9]{1,3}|)"
)
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+|[-+]?[0-9]{1,3}(?:\.[0-9]{3})*,[0-9]+")
_INTEGER = re.compile(r"[0-9]+")
_LONGEST = 64


def exact_decimal(text: str, *, name: str = "the number") -> Decimal:
    """Return the number in `text`, exactly as written.

    Accepts ``1.5``, ``1500``, ``1,500.25``, ``1_000`` and ``5e-3``.

    Args:
        text: What a person typed.
        name: What to call it in an error.

    Returns:
        A finite decimal.

    Raises:
        CrewMeterError: `text` is no number, or its commas do not separate thousands.

    """
    stripped = text.strip()
    if _DECIMAL_COMMA.fullmatch(stripped) and not re.fullmatch(_GROUPED, stripped.lstrip("+-")):
        raise CrewMeterError(
            f"{name} {text!r} has a decimal comma",
            hint=f"write {_with_point(stripped)!r}; commas separate groups of three digits",
        )
    match = _NUMBER.fullmatch(stripped) if len(stripped) <= _LONGEST else None
    if match is None or not (match["whole"] or len(match["fraction"]) > 1):
        raise CrewMeterError(f"{name} {text[:_LONGEST]!r} is not a number", hint="write 1234.5")
    whole = re.sub(r"[^0-9]", "", match["whole"])
    fraction = match["fraction"].rstrip(".")
    return Decimal(f"{match['sign']}{whole}{fraction}{match['exponent']}")


def bounded_integer(text: str, *, name: str, lowest: int, highest: int) -> int:
    """Return the whole number in `text`, checked by its value, not by its length.

    Args:
        text: ASCII digits; leading zeros change nothing.
        name: What to call it in an error.
        lowest: The smallest value allowed.
        highest: The largest value allowed.

    Returns:
        An integer from `lowest` to `highest`.

    Raises:
        CrewMeterError: `text` is no such number.

    """
    # Zeros go first, so that no text is too long to convert (`int` refuses 4,300 digits).
    digits = text.lstrip("0") or "0"
    if _INTEGER.fullmatch(text) and len(digits) <= len(str(highest)):
        value = int(digits)
        if lowest <= value <= highest:
            return value
    quoted = text if len(text) <= 40 else f"{text[:37]}..."
    raise CrewMeterError(f"{name}={quoted!r} is not a whole number from {lowest} to {highest}")


def _with_point(text: str) -> str:
    """Return a number with a decimal comma as it should be written."""
    whole, _, fraction = text.rpartition(",")
    return f"{whole.replace('.', '')}.{fraction}"
