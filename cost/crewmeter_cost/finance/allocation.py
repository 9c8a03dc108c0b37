"""Allocation of shared cost, exact to the last pico-dollar. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RULES", "allocate", "weights_for"]

RULES = ("none", "proportional", "even")
"""``none`` leaves shared cost apart, ``proportional`` follows each one's own spend, ``even``
splits it. Or fixed weights: ``a=2,b=1``.
"""


def allocate(pusd: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split `pusd` (integer pico-USD) by `weights` into shares with exactly that sum.

    What integer division leaves over goes one pico-dollar each to those with the largest remainder
    (Hamilton's method), names deciding between equals. No weight above zero: everybody gets the
    same.
    """
    if not weights:
        return {}
    used = dict(weights) if any(weights.values()) else dict.fromkeys(weights, 1)
    whole = sum(used.values())
    shares = {name: pusd * weight // whole for name, weight in used.items()}
    left = pusd - sum(shares.values())
    by_remainder = sorted(
        used,
        key=lambda name: (-(pusd * used[name] % whole), name),
    )
    for name in by_remainder[:left]:
        shares[name] += 1
    return shares


def weights_for(rule: str, direct_pusd: Mapping[str, int]) -> dict[str, int] | None:
    """Return each name's weight under a rule, or None for the rule ``none``.

    Weights come from what each name spent directly.

    Raises `CrewMeterError` for another word, a negative weight or a name that spent nothing and
    isn't known.
    """
    if rule == "none":
        return None
    if rule == "even":
        return dict.fromkeys(direct_pusd, 1)
    if rule == "proportional":
        return dict(direct_pusd)
    weights = dict.fromkeys(direct_pusd, 0)
    for part in rule.split(","):
        name, equals, number = part.strip().rpartition("=")
        if not equals or not re.fullmatch(r"[0-9]{1,18}", number):
            raise CrewMeterError(
                f"{part.strip()!r} is no allocation rule",
                hint="use none, proportional, even, or weights such as growth=2,core=1",
            )
        if name not in weights:
            raise CrewMeterError(
                f"no {name!r} among {', '.join(map(repr, weights)) or 'nobody'}",
                hint="weights name those who spent",
            )
        weights[name] = int(number)
    return weights
