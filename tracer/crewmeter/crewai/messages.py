"""Captured prompts and answers in the shape of the GenAI conventions.

That is a JSON list of ``{"role": …, "parts": [{"type": "text", "content": …}]}``:
https://github.com/open-telemetry/semantic-conventions-genai/tree/main/docs/gen-ai
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crewmeter.redaction import Content

__all__ = ["called_tool", "messages_text"]

_MOST_MESSAGES = 200
"""Messages of one list. What exceeds it is at the front: the oldest."""
_FEWEST_CHARACTERS = 100
"""What each message may hold of its text, however many they are."""


def messages_text(value: object, role: str, content: Content) -> str | None:
    """Return ``value`` as the JSON of a list of messages, scrubbed and cut to size.

    Args:
        value: A text, a list of ``{"role", "content"}``, a list of tool calls, or anything else,
            which becomes its JSON.
        role: Who says it, where the value itself does not tell.
        content: The limit is the whole list's. Each message gets an equal share of it.

    Returns:
        None where content is not captured, or there is none.
    """
    if not content.enabled or value is None:
        return None
    messages = _listed(value, role)[-_MOST_MESSAGES:]
    share = max(_FEWEST_CHARACTERS, content.limit // max(1, len(messages)))
    shaped = [_message(message, role, content, share) for message in messages]
    return json.dumps(shaped, default=str, ensure_ascii=False)


def _listed(value: object, role: str) -> list[Any]:
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        return value
    return [{"role": role, "content": value}]


def _is_message(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("role"), str)


def _message(message: dict[str, Any], role: str, content: Content, share: int) -> dict[str, object]:
    who = message.get("role") or role
    said = message.get("content")
    if who == "tool":
        answer = content.text(said, share)
        parts = [
            {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": answer}
        ]
    else:
        parts = _parts(said, content, share)
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            parts += [_tool_call(call, content, share) for call in calls]
    return {"role": who, "parts": parts}


def _parts(said: object, content: Content, share: int) -> list[dict[str, object]]:
    """Return the parts of a message: text, tool calls, and the kind of the rest."""
    if said is None:
        return []
    if not isinstance(said, list) or not said:
        return [{"type": "text", "content": content.text(said, share)}]
    parts: list[dict[str, object]] = []
    for item in said:
        if _name_of_call(item) is not None:
            parts.append(_tool_call(item, content, share))
        elif isinstance(item, dict) and isinstance(item.get("text"), str):
            parts.append({"type": "text", "content": content.text(item["text"], share)})
        elif isinstance(item, dict) and isinstance(item.get("type"), str):
            # An image, a file: what it is, and not its bytes.
            parts.append({"type": "generic", "name": item["type"]})
        else:
            parts.append({"type": "text", "content": content.text(item, share)})
    return parts


def called_tool(item: object) -> tuple[str, str] | None:
    """Return (tool's name, id) of a tool call in a provider's shape, else None."""
    name = _name_of_call(item)
    call_id = _field(item, "call_id") or _field(item, "id")
    if name is None or not isinstance(call_id, str):
        return None
    return name, call_id


def _name_of_call(item: object) -> str | None:
    """Return the tool's name of a tool call in a provider's shape, else None."""
    function = _field(item, "function")
    name = _field(function, "name") if function is not None else None
    if name is None and _field(item, "type") in ("tool_use", "function_call"):
        name = _field(item, "name")
    return name if isinstance(name, str) else None


def _tool_call(item: object, content: Content, share: int) -> dict[str, object]:
    function = _field(item, "function")
    holder = item if function is None else function
    arguments = _field(holder, "arguments")
    if arguments is None:
        arguments = _field(holder, "input")
    return {
        "type": "tool_call",
        "id": _field(item, "id"),
        "name": _name_of_call(item),
        "arguments": content.text(arguments, share),
    }


def _field(item: object, name: str) -> Any:
    if isinstance(item, dict):
        return item.get(name)
    return getattr(item, name, None)
