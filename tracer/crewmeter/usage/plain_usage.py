"""The short way for usage objects in the plain form that most of them have.

Plain is an input and an output that add up to the total, a cached part, reasoning, and zeros. The
counts of anything else come from the protocol's own reader, which gives the same for a plain one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter.usage.draft import LARGEST_COUNT, Raw
from crewmeter.usage.token_usage import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PlainCounts", "PlainForm", "lone_count", "plain_counts", "plain_reader"]

PlainCounts = tuple[int, int, int, int, int, int]
"""The first counts of a `TokenUsage`: input, output, cache read, 5m, 1h and reasoning."""


@dataclass(frozen=True, slots=True)
class PlainForm:
    """The keys of a plain usage object, as one provider names them."""

    input: str
    output: str
    total: str
    input_details: str
    """Key of the object with the cached tokens."""
    cached: str
    output_details: str
    """Key of the object with the reasoning tokens."""
    reasoning: str


def plain_reader(form: PlainForm) -> Callable[[Raw], TokenUsage | None]:
    """Return a reader that gives None for every usage object that is not plain."""
    counts_of = plain_counts(form)

    def read(raw: Raw) -> TokenUsage | None:
        counts = counts_of(raw)
        if counts is None:
            return None
        return TokenUsage(*counts)

    return read


def plain_counts(form: PlainForm) -> Callable[[Raw], PlainCounts | None]:
    """Do as `plain_reader`, and return the bare counts."""
    input_key = form.input
    output_key = form.output
    total_key = form.total
    inside_key = form.input_details
    outside_key = form.output_details
    cached_key = form.cached
    reasoning_key = form.reasoning
    known = frozenset([input_key, output_key, total_key, inside_key, outside_key])

    def read(raw: Raw) -> PlainCounts | None:
        total_in = raw.get(input_key)
        total_out = raw.get(output_key)
        if type(total_in) is not int or type(total_out) is not int or not raw.keys() <= known:
            return None
        cached = lone_count(raw.get(inside_key), cached_key)
        reasoning = lone_count(raw.get(outside_key), reasoning_key)
        fits = (
            0 < total_in < LARGEST_COUNT
            and 0 <= total_out < LARGEST_COUNT
            and 0 <= cached <= total_in
            and 0 <= reasoning <= total_out
            and raw.get(total_key) == total_in + total_out
        )
        if not fits:
            return None
        return total_in, total_out, cached, 0, 0, reasoning

    return read


def lone_count(details: object, name: str) -> int:
    """Return the count ``name`` of a details object where all else in it is nothing.

    -1 for an object that is not plain.
    """
    if details is None:
        return 0
    if type(details) is not dict:
        return -1
    found = 0
    for key, value in details.items():
        if value is None:
            continue
        if type(value) is not int:
            return -1
        if key == name:
            found = value
        elif value:
            return -1
    return found
