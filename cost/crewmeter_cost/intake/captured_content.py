"""The content that a span carries: messages, tool arguments and results.

It is read only where somebody chose to store it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from crewmeter import semconv
from crewmeter.redaction import scrub, scrub_json
from crewmeter_cost.intake.shortened_json import CUT, shortened_json
from crewmeter_cost.records import CapturedContent, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crewmeter_cost.records import Call, Span

__all__ = ["CONTENT_NAMES", "ITEMS", "LONGEST", "captured_content"]

ITEMS = (
    "system_instructions",
    "input_messages",
    "output_messages",
    "tool_arguments",
    "tool_result",
    "error_message",
)
"""What a step may have captured, in the order it is displayed."""
LONGEST = 32_768
"""Characters stored of one item. A longer one is cut with a marker."""
_SCRUBBED_BEYOND = 4_096
"""Characters past the limit that are scrubbed too, so that no key survives in half at the cut."""
_LONGEST_JSON = 1_048_576
"""Characters of JSON that are parsed, so that one value takes a fraction of a second."""
_MOST_MESSAGES = 200

CONTENT_NAMES: Mapping[str, str] = {
    "gen_ai.system_instructions": "system_instructions",
    semconv.INPUT_MESSAGES: "input_messages",
    semconv.OUTPUT_MESSAGES: "output_messages",
    semconv.TOOL_ARGUMENTS: "tool_arguments",
    semconv.TOOL_RESULT: "tool_result",
    # OpenInference and OpenLLMetry have one pair of names for every kind of span.
    "input.value": "input_messages",
    "output.value": "output_messages",
    "traceloop.entity.input": "input_messages",
    "traceloop.entity.output": "output_messages",
}
"""Attribute → item."""
_OF_TOOLS = {"input_messages": "tool_arguments", "output_messages": "tool_result"}
_NUMBERED = re.compile(
    r"(?:gen_ai\.(?P<old>prompt|completion)|llm\.(?P<side>input|output)_messages)"
    r"\.(?P<number>[0-9]{1,4})\.(?:message\.)?(?P<field>role|content)"
)
"""Messages spread over attributes, as OpenLLMetry and OpenInference write them."""
_ITEM_OF_SIDE = {
    "prompt": "input_messages",
    "input": "input_messages",
    "completion": "output_messages",
    "output": "output_messages",
}
_NUMBERED_PREFIXES = ("gen_ai.prompt.", "gen_ai.completion.", "llm.")


def captured_content(span: Span, record: Call | Step) -> list[CapturedContent]:
    """Return the texts that a span carries, scrubbed of keys and cut to size.

    Args:
        span: The span, whoever made it.
        record: The call or step that was read from it.
    """
    texts = dict(_named(span.attributes))
    for item, messages in _numbered(span.attributes).items():
        texts.setdefault(item, messages)
    if isinstance(record, Step) and record.kind == semconv.KIND_TOOL:
        texts = {_OF_TOOLS.get(item, item): text for item, text in texts.items()}
    if span.status_message:
        texts["error_message"] = span.status_message
    return [
        CapturedContent(
            trace_id=span.trace_id,
            span_id=span.span_id,
            started_ns=span.started_ns,
            user=record.context.user,
            item=item,
            text=_clean(text),
        )
        for item, text in texts.items()
        if text
    ]


def _named(attributes: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield (item, text) of whole items, those of the conventions' names last."""
    for name in reversed(list(CONTENT_NAMES)):
        value = attributes.get(name)
        if value is not None:
            yield CONTENT_NAMES[name], _text(value)


def _numbered(attributes: Mapping[str, object]) -> dict[str, str]:
    """Return messages that are spread over attributes, in the conventions' shape."""
    found: dict[str, dict[int, dict[str, str]]] = {}
    for name, value in attributes.items():
        if not name.startswith(_NUMBERED_PREFIXES):
            continue
        match = _NUMBERED.fullmatch(name)
        if match is None:
            continue
        item = _ITEM_OF_SIDE[match["old"] or match["side"]]
        message = found.setdefault(item, {}).setdefault(int(match["number"]), {})
        message[match["field"]] = _text(value)
    return {item: _joined(messages) for item, messages in found.items()}


def _joined(messages: Mapping[int, Mapping[str, str]]) -> str:
    """Return numbered messages as JSON in the shape of the conventions."""
    newest = sorted(messages)[-_MOST_MESSAGES:]
    shaped = []
    for number in newest:
        message = messages[number]
        part = {
            "type": "text",
            "content": message.get("content"),
        }
        shaped.append(
            {
                "role": message.get("role"),
                "parts": [part],
            }
        )
    return json.dumps(shaped, ensure_ascii=False)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return f"<{type(value).__name__}>"


def _clean(text: str) -> str:
    """Return a text that any database takes, without keys, and of bounded length."""
    text = text.replace("\0", "")
    clean = _clean_json(text)
    if clean is None:
        clean = scrub(text[: LONGEST + _SCRUBBED_BEYOND])
        if max(len(text), len(clean)) > LONGEST:
            clean = clean[:LONGEST] + CUT
    # Half a surrogate pair is text to Python, and to no database.
    encoded = clean.encode("utf-8", "replace")
    return encoded.decode("utf-8")


def _clean_json(text: str) -> str | None:
    """Return JSON that is scrubbed and cut inside its texts, None if it is none."""
    if not text.startswith(("[", "{")) or len(text) > _LONGEST_JSON:
        return None
    try:
        value = json.loads(text)
        clean = scrub_json(value)
        if clean == value and len(text) <= LONGEST:
            return text
        return shortened_json(clean, LONGEST)
    except (ValueError, RecursionError):
        return None
