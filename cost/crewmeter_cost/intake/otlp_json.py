"""OTLP trace requests in JSON, as spans.

Ids are hex, 64-bit numbers strings or numbers, field names camelCase or as in the .proto.

Read by hand: protobuf's own JSON reader takes ids for base64 and refuses what the OTLP
specification allows.
"""

from __future__ import annotations

import json
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from crewmeter_cost.errors import BadRequest
from crewmeter_cost.intake.coerce import plausible
from crewmeter_cost.intake.otlp_protobuf import ATTRIBUTE_LIMIT, BATCH_LIMIT, DEPTH_LIMIT, Batch
from crewmeter_cost.records import Span

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["from_json"]

_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")
VALUE_LIMIT = 1_000_000
"""Values (lists, objects and their members) in one request. A span with 16 attributes has about
70; a request of a few megabytes of empty objects, or of one-digit numbers, would become half a
gigabyte of Python's.
"""
_TEXTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A JSON text, also one that is cut off.

Possessive, so that no body makes it look twice at a character.
"""
_SNAKE = re.compile(r"(?<=[a-z0-9])([A-Z])")
_ERROR = (2, "2", "STATUS_CODE_ERROR")
_NOTHING: Mapping[str, object] = {}
_INT64 = range(-(2**63), 2**64)


def from_json(body: bytes, *, now_ns: int | None = None) -> Batch:
    """Read an OTLP/JSON trace request.

    Raises `BadRequest` where the body is something else. Wrongly typed fields count as absent.
    """
    now = time.time_ns() if now_ns is None else now_ns
    try:
        text = body.decode("utf-8-sig")
        if _is_crowded(text):
            raise BadRequest(
                f"more than {VALUE_LIMIT} values in one JSON request: send smaller ones, or "
                "protobuf"
            )
        document = json.loads(text)
    except BadRequest:
        raise
    except (
        ValueError,
        RecursionError,
    ):  # ValueError covers bad UTF-8 and numbers of thousands of digits
        raise BadRequest("the body is not JSON") from None
    if not isinstance(document, dict) or not isinstance(
        _field(document, "resourceSpans") or [], list
    ):
        raise BadRequest("the JSON is not an OTLP trace request: it needs a list resourceSpans")
    batch = Batch()
    for group in _objects(document, "resourceSpans"):
        resource = _attributes(_object(group, "resource"))
        for scoped in _objects(group, "scopeSpans"):
            named = _object(scoped, "scope")
            scope = _string(named, "name"), _string(named, "version")
            for span in _objects(scoped, "spans"):
                _take(batch, span, resource, scope, now)
    return batch


def _take(
    batch: Batch,
    span: Mapping[str, object],
    resource: Mapping[str, object],
    scope: tuple[str, str],
    now_ns: int,
) -> None:
    trace_id = _string(span, "traceId").lower()
    span_id = _string(span, "spanId").lower()
    parent = _string(span, "parentSpanId").lower()
    if not _TRACE_ID.fullmatch(trace_id) or not _SPAN_ID.fullmatch(span_id):
        batch.refused["no valid trace id and span id"] += 1
        return
    if len(batch.spans) >= BATCH_LIMIT:
        batch.refused[f"more than {BATCH_LIMIT} spans in one request"] += 1
        return
    started, ended = plausible(
        _time(span, "startTimeUnixNano"), _time(span, "endTimeUnixNano"), now_ns
    )
    status = _object(span, "status")
    batch.spans.append(
        Span(
            trace_id,
            span_id,
            parent if _SPAN_ID.fullmatch(parent) else None,
            _string(span, "name"),
            started,
            ended,
            _field(status, "code") in _ERROR,
            _attributes(span),
            resource,
            scope[0],
            _string(status, "message"),
            scope[1],
        )
    )


def _is_crowded(text: str) -> bool:
    """Return whether a JSON text has more than `VALUE_LIMIT` values.

    Each but the first follows a comma or an opening bracket outside the strings.
    """
    if sum(map(text.count, ",{[")) <= VALUE_LIMIT:
        return False
    values = at = 0
    for match in _TEXTS.finditer(text):
        between = text[at : match.start()]
        values += sum(map(between.count, ",{["))
        if values > VALUE_LIMIT:
            return True
        at = match.end()
    return (
        values
        + sum(
            map(
                text[at:].count,
                ",{[",
            )
        )
        > VALUE_LIMIT
    )


@lru_cache(maxsize=64)
def _snake(name: str) -> str:
    """Return a field's name as it stands in the .proto."""
    return _SNAKE.sub(
        lambda match: "_" + match[1].lower(),
        name,
    )


def _field(holder: Mapping[str, object], name: str) -> object:
    value = holder.get(name)
    if value is None:
        return holder.get(_snake(name))
    return value


def _object(holder: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = _field(holder, name)
    if isinstance(value, dict):
        return value
    return _NOTHING


def _objects(holder: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    value = _field(holder, name)
    if isinstance(value, list):
        return [item for item in value if isinstance(item, dict)]
    return []


def _string(holder: Mapping[str, object], name: str) -> str:
    value = _field(holder, name)
    if isinstance(value, str):
        return value
    return ""


def _integer(value: object) -> int | None:
    """Return a 64-bit number written as a number or as text, else None."""
    if isinstance(value, str) and len(value) <= 20:
        try:
            value = int(value)
        except ValueError:
            return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value in _INT64:
        return value
    return None


def _time(holder: Mapping[str, object], name: str) -> int:
    return max(
        _integer(_field(holder, name)) or 0,
        0,
    )


def _attributes(holder: Mapping[str, object]) -> dict[str, object]:
    pairs = _objects(holder, "attributes")[:ATTRIBUTE_LIMIT]
    return {
        key: _value(pair.get("value"), DEPTH_LIMIT)
        for pair in pairs
        if isinstance(key := pair.get("key"), str)
    }


def _value(value: object, depth: int) -> object:
    """Return a JSON AnyValue as plain Python, or None."""
    if not isinstance(value, dict) or depth == 0:
        return None
    for name in ("stringValue", "boolValue", "doubleValue"):
        plain = _field(value, name)
        if isinstance(plain, str | bool | float | int):
            return plain
    number = _field(value, "intValue")
    if number is not None:
        return _integer(number)
    if items := _object(value, "arrayValue"):
        listed = _field(items, "values")
        if isinstance(listed, list):
            return [_value(item, depth - 1) for item in listed]
        return []
    if pairs := _objects(_object(value, "kvlistValue"), "values"):
        return {
            key: _value(pair.get("value"), depth - 1)
            for pair in pairs
            if isinstance(key := pair.get("key"), str)
        }
    return None
