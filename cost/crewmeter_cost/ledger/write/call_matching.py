"""Whether two rows report one call, or one sums up what others report."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.write.rows import CALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crewmeter_cost.ledger.write.rows import Row

__all__ = [
    "CLOSE_NS",
    "bare_model",
    "covers",
    "has_usage",
    "is_same",
    "is_same_root",
    "is_sum",
    "repeats",
    "windows_around",
]

RANDOM_ID_LENGTH = 20
"""A response id this long is random enough to be one call's whatever provider either instrumentor
names (Azure is often called openai). Shorter ones (`1`, `cmpl-7` of a local server) count per
provider."""
_CLOCK_NS = 50_000_000
"""How far the spans of two instrumentors may reach out of each other: one wraps the other, or both
wrap the same function one after the other."""
_DATE = re.compile(r"-(20\d\d-?\d\d-?\d\d|v\d+)$")
CLOSE_NS = 2_000_000_000
"""How long after one instrumentor's root another's may begin, of one call."""


def is_same(other: Row, scopes: set[int], row: Row, *, are_foreign: bool) -> bool:
    """Return whether a row reports a call that is known as ``other``.

    ``scopes`` are the instrumentors that have reported it. ``are_foreign`` says that neither row is
    ours: our tracer has seen a request for each of its rows, whatever the ids.
    """
    if row[CALL.response_id] and row[CALL.response_id] == other[CALL.response_id]:
        if row[CALL.scope] not in scopes and _share_id(other, row):
            return True
        is_repeated = are_foreign and _is_random(row)
        return (is_repeated or _nested(other, row)) and _alike(other, row)
    if row[CALL.response_id] and other[CALL.response_id]:
        return False
    if row[CALL.trace_id] != other[CALL.trace_id] or not _alike(other, row):
        return False
    if _nested(other, row):
        return not _is_failed_attempt(other, row)
    return row[CALL.scope] not in scopes and _within_each_other(other, row)


def is_same_root(other: Row, scopes: set[int], row: Row) -> bool:
    """Return whether two roots, in traces of their own, report one call.

    LangChain's spans are never current, so without a span around both a client's span begins a
    trace of its own, and a stream gives LangChain no response id. Where both instrumentors are at
    work in a service each reports every call, so two that agree in model, use and time are one.
    """
    if row[CALL.response_id] and other[CALL.response_id]:
        return False
    if row[CALL.scope] in scopes:
        return False
    if row[CALL.service] is None or row[CALL.service] != other[CALL.service]:
        return False
    return _alike(other, row) and _within_each_other(other, row)


def windows_around(starts: Iterable[int]) -> list[tuple[int, int]]:
    """Return the times, first and last, in which a pair of a root may begin.

    One late span in a batch must not read all roots between it and the rest.
    """
    windows: list[tuple[int, int]] = []
    for start in sorted(starts):
        first = start - CLOSE_NS
        if windows and first <= windows[-1][1]:
            first = windows.pop()[0]
        windows.append((first, start + CLOSE_NS))
    return windows


def covers(
    total: Row, row: Row, model_names: Callable[[Row], set[str]], *, is_below: bool | None
) -> bool:
    """Return whether the use that ``row`` reports is in the sum that ``total`` may be.

    Both are of one trace. An agent's calls are below it, with its model, and no one of them uses
    more than all together. Siblings hold nothing of each other. Where the parents are not known
    (``is_below`` is None), a call made while the agent runs is taken for its own, and another sum
    is not: agents run side by side.
    """
    if is_below is None:
        is_below = row[CALL.origin] != total[CALL.origin] and _inside(row, total)
    if not is_below:
        return False
    for count in (CALL.input_tokens, CALL.output_tokens):
        if (row[count] or 0) > (total[count] or 0):
            return False
    names = model_names(row)
    return not names or not names.isdisjoint(model_names(total))


def has_usage(row: Row) -> bool:
    """Return whether a row has any count."""
    return row[CALL.input_tokens] is not None or row[CALL.other_usage] is not None


def repeats(total: Row, row: Row) -> bool:
    """Return whether a span that is no known inference repeats the use of one that is.

    AG2 writes ``record_usage`` after each ``chat``, side by side.
    """
    if row[CALL.scope] != total[CALL.scope] or row[CALL.input_tokens] is None:
        return False
    return row[CALL.trace_id] == total[CALL.trace_id] and _alike(total, row)


def is_sum(outer: Row, inner: Sequence[Row]) -> bool:
    """Return whether an inference sums up the ones inside it, two or more."""
    if len(inner) < 2:
        return False
    return all(
        outer[count] and outer[count] == sum(row[count] or 0 for row in inner)
        for count in (CALL.input_tokens, CALL.output_tokens)
    )


def _share_id(one: Row, other: Row) -> bool:
    """Return whether one response id means one call."""
    providers = {one[CALL.provider], other[CALL.provider]}
    return bool(len(providers) == 1 or None in providers or _is_random(one))


def _is_random(row: Row) -> bool:
    """Return whether no second response has this one's id.

    An instrumentor that reports it twice saw it fetched again, or from a cache.
    """
    return len(row[CALL.response_id]) >= RANDOM_ID_LENGTH


def _nested(one: Row, other: Row) -> bool:
    """Return whether one span is the parent of the other."""
    if one[CALL.trace_id] != other[CALL.trace_id]:
        return False
    return bool(
        one[CALL.parent_span_id] == other[CALL.span_id]
        or other[CALL.parent_span_id] == one[CALL.span_id]
    )


def _is_failed_attempt(one: Row, other: Row) -> bool:
    """Return whether one of two nested rows is a failed request of the other.

    The other did not fail. A client that tries again makes several requests in one call.
    """
    inner, outer = one, other
    if other[CALL.parent_span_id] == one[CALL.span_id]:
        inner, outer = other, one
    has_use = inner[CALL.input_tokens] is not None
    return inner[CALL.error_type] is not None and not has_use and outer[CALL.error_type] is None


def _alike(one: Row, other: Row) -> bool:
    """Return whether two rows report one model and the same use.

    A count that one of them does not have is like any.
    """
    models = _models(one)
    other_models = _models(other)
    if models and other_models and models.isdisjoint(other_models):
        return False
    for count in (CALL.input_tokens, CALL.output_tokens):
        first = one[count]
        second = other[count]
        if first != second and first is not None and second is not None:
            return False
    return True


def _models(row: Row) -> set[int]:
    """Return the labels of the models that a row names."""
    requested = row[CALL.request_model]
    answered = row[CALL.response_model]
    return {requested, answered} - {None}


def _within_each_other(one: Row, other: Row) -> bool:
    """Return whether one span lies within the other in time, but for the clock."""
    return _inside(one, other) or _inside(other, one)


def _inside(inner: Row, outer: Row) -> bool:
    start = outer[CALL.started_ns] - _CLOCK_NS
    end = outer[CALL.started_ns] + outer[CALL.duration_ns] + _CLOCK_NS
    inner_start = inner[CALL.started_ns]
    inner_end = inner_start + inner[CALL.duration_ns]
    return bool(start <= inner_start and inner_end <= end)


def bare_model(model: str) -> str:
    """Return a model's name without its provider in front and its date behind."""
    name = max(model.lower().rpartition("/")[2].split(":"), key=len)
    return _DATE.sub("", name)
