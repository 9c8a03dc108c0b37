"""Captured prompts and answers in the shape of the GenAI conventions.

Each is a JSON list of ``{"role": …, "parts": [{"type": "text", "content": …}]}``:
https://github.com/open-telemetry/semantic-conventions-genai/tree/main/docs/gen-ai
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from crewmeter.redaction import Content

    Part = dict[str, object]
    Piece = tuple[Callable[[Any, Content, int], Part], Any]
    """What makes a part, and of what."""

__all__ = ["called_tool", "messages_text"]

_MOST_PARTS = 200
"""Parts of one list of messages. What exceeds it is at the front: the oldest."""
_FEWEST_CHARACTERS = 100
"""What each part may hold of its text, however many they are."""
_LONGEST_NAME = 200
"""Characters of a role, a tool's name or an id."""
_ROLES = frozenset({"assistant", "developer", "system", "tool", "user"})


def messages_text(value: object, role: str, content: Content) -> str | None:
    """Return ``value`` as the JSON of a list of messages, scrubbed and cut to size.

    Args:
        value: A text, a list of ``{"role", "content"}``, a list of tool calls, or anything else,
            which becomes its JSON.
        role: Who says it, where the value itself does not tell.
        content: Each part gets an equal share of the limit, at least a hundred characters. So the
            texts together have at most the limit, or 20,000 characters where that is more.

    Returns:
        None where content is not captured, or there is none.
    """
    if not content.enabled or value is None:
        return None
    newest: list[tuple[str, list[Piece]]] = []
    left = _MOST_PARTS
    for message in reversed(_listed(value, role)):
        pieces = _pieces(message)[-left:]
        newest.append((message.get("role") or role, pieces))
        left -= max(1, len(pieces))
        if left <= 0:
            break
    share = max(_FEWEST_CHARACTERS, content.limit // (_MOST_PARTS - left))
    shaped: list[Part] = []
    for who, pieces in reversed(newest):
        parts = [make(item, content, share) for make, item in pieces]
        shaped.append({"role": _role(who, content), "parts": parts})
    return json.dumps(shaped, default=str, ensure_ascii=False)


def _listed(value: object, role: str) -> list[Any]:
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        return value
    return [{"role": role, "content": value}]


def _is_message(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("role"), str)


def _role(who: str, content: Content) -> str | None:
    return who if who in _ROLES else content.text(who, _LONGEST_NAME)


def _pieces(message: dict[str, Any]) -> list[Piece]:
    """Return the newest parts: text, tool calls, and the kind of the rest."""
    said = message.get("content")
    if message.get("role") == "tool":
        return [(_tool_answer, message)]
    pieces: list[Piece] = []
    if isinstance(said, list) and said:
        pieces = [(_listed_part, item) for item in said[-_MOST_PARTS:]]
    elif said is not None:
        pieces = [(_text, said)]
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        pieces += [(_tool_call, call) for call in calls[-_MOST_PARTS:]]
    return pieces


def _text(said: object, content: Content, share: int) -> Part:
    return {"type": "text", "content": content.text(said, share)}


def _listed_part(item: object, content: Content, share: int) -> Part:
    if _name_of_call(item) is not None:
        return _tool_call(item, content, share)
    if isinstance(item, dict) and isinstance(item.get("text"), str):
        return _text(item["text"], content, share)
    if isinstance(item, dict) and isinstance(item.get("type"), str):
        # An image, a file: what it is, and not its bytes.
        return {"type": "generic", "name": content.text(item["type"], _LONGEST_NAME)}
    return _text(item, content, share)


def _tool_answer(message: dict[str, Any], content: Content, share: int) -> Part:
    return {
        "type": "tool_call_response",
        "id": content.text(message.get("tool_call_id"), _LONGEST_NAME),
        "response": content.text(message.get("content"), share),
    }


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


def _tool_call(item: object, content: Content, share: int) -> Part:
    function = _field(item, "function")
    holder = item if function is None else function
    arguments = _field(holder, "arguments")
    if arguments is None:
        arguments = _field(holder, "input")
    return {
        "type": "tool_call",
        "id": content.text(_field(item, "id"), _LONGEST_NAME),
        "name": content.text(_name_of_call(item), _LONGEST_NAME),
        "arguments": content.text(arguments, share),
    }


def _field(item: object, name: str) -> Any:
    if isinstance(item, dict):
        return item.get(name)
    return getattr(item, name, None)
