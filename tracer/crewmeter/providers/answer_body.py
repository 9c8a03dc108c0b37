"""A whole answer: parsed, or searched for its usage where it is large."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.usage.token_usage import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.providers.provider_protocol import PlainAnswer, ProviderProtocol
    from crewmeter.providers.response_facts import ResponseFacts

__all__ = ["read_body", "read_plain_body", "read_request_body"]

_WHOLE_UP_TO = 8 * 2**20
"""Bytes of an answer that are parsed whole; of a longer one only the part with the usage."""
_EMBEDDINGS_WHOLE_UP_TO = 16 * 1024
_EDGE = 4096
_USAGE = re.compile(rb'"(usage|usageMetadata|meta)"\s*:\s*(?=\{)')
_NAMED = re.compile(rb'"(model|id)"\s*:\s*"((?:[^"\\]|\\.){1,300})"')
_PER_TEXT = re.compile(rb'"token_?[cC]ount"\s*:\s*(\d{1,12})')
_LONE = re.compile(rb'"(prompt_eval_count|inputTextTokenCount|input_token_count)"\s*:\s*(\d{1,12})')
_decoder = json.JSONDecoder()
_scan: Callable[[str, int], tuple[object, int]] = _decoder.scan_once  # type: ignore[attr-defined]
"""What parses text from a position on, in C."""


def read_body(facts: ResponseFacts, body: bytes) -> None:
    """Read a whole answer.

    A large one (embeddings) is searched for its usage, not parsed.
    """
    if facts.protocol.answer_is_media:
        return
    is_embedding = facts.operation == semconv.EMBEDDINGS
    limit = _EMBEDDINGS_WHOLE_UP_TO if is_embedding else _WHOLE_UP_TO
    if len(body) > limit:
        _read_large(facts, body)
        return
    try:
        # Half the price of `json.loads`, which guesses the encoding first.
        answer, _ = _decoder.raw_decode(str(body, "utf-8").lstrip())
    except (ValueError, RecursionError):
        facts.usage = replace(MISSING, flags=("body_not_read",))
        return
    for item in answer if isinstance(answer, list) else (answer,):
        if isinstance(item, dict):
            facts.read(item)


def read_plain_body(
    protocol: ProviderProtocol, body: bytes, request_model: str | None
) -> PlainAnswer | None:
    """Read a whole answer the short way. None where the whole reading is needed."""
    read = protocol.read_plain_answer
    if read is None:
        return None
    try:
        answer, _ = _scan(str(body, "utf-8"), 0)
    except (ValueError, RecursionError, StopIteration):
        return None
    if type(answer) is not dict:
        return None
    return read(answer, request_model)


def read_request_body(facts: ResponseFacts, body: bytes) -> None:
    """Read what only the request says of the bill, where the protocol needs it."""
    read = facts.protocol.read_request
    if read is None or not body or len(body) > _WHOLE_UP_TO:
        return
    marks = facts.protocol.request_marks
    if marks and not any(mark in body for mark in marks):
        return
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(request, dict):
        read(facts, request)


def _read_large(facts: ResponseFacts, body: bytes) -> None:
    """Find usage and model at either edge of an answer.

    Numbers fill the middle, so nothing there is lost.
    """
    answer: dict[str, object] = {}
    _search_edge(
        body[-_EDGE:],
        answer,
    )
    _search_edge(body[:_EDGE], answer)
    facts.read(answer)
    is_missing = facts.usage.status == "missing"
    if is_missing and facts.protocol.counts_without_text:
        counts = [int(digits) for digits in _PER_TEXT.findall(body)]
        if counts:
            facts.report({"token_count": sum(counts)})


def _search_edge(edge: bytes, answer: dict[str, object]) -> None:
    for name, value in _NAMED.findall(edge):
        answer.setdefault(
            name.decode(),
            value.decode("utf-8", "replace"),
        )
    for match in _USAGE.finditer(edge):
        rest = edge[match.end() :].decode("utf-8", "replace")
        try:
            found, _ = _decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            continue
        answer.setdefault(
            match.group(1).decode(),
            found,
        )
    for name, digits in _LONE.findall(edge):
        answer.setdefault(
            name.decode(),
            int(digits),
        )
