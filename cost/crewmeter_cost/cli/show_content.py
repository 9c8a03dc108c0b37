"""Captured content as `show --content` prints it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.text import Text

from crewmeter_cost.cli.output import console

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crewmeter_cost.ledger.read.run_tree import Node

__all__ = ["print_content", "with_content"]

_TITLES = {
    "system_instructions": "system",
    "input_messages": "in",
    "output_messages": "out",
    "tool_arguments": "arguments",
    "tool_result": "result",
    "error_message": "error",
}
_NONE = (
    "no content is stored for this run: set CREWMETER_CAPTURE_CONTENT=true and "
    "CREWMETER_CONTENT=store before it runs (stored content is deleted after "
    "CREWMETER_KEEP_CONTENT, by default 7d)\n"
)


def with_content(
    document: dict[str, Any], content: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Return a run's tree as JSON, with the `content` of each node."""
    waiting = [document["tree"]]
    while waiting:
        node = waiting.pop()
        node["content"] = dict(content.get(node["span_id"], {}))
        waiting.extend(node["children"])
    return document


def print_content(nodes: Sequence[Node], content: Mapping[str, Mapping[str, str]]) -> None:
    """Print what each step captured, in the order of the tree."""
    out = console()
    printed = False
    for node in nodes:
        items = content.get(node.span_id)
        if not items:
            continue
        printed = True
        out.print()
        out.print(Text(f"{node.kind} {node.name}", style="bold"))
        for item, text in items.items():
            for title, body in _parts(item, text):
                out.print(Text(f"{title}: ", style="dim") + Text(_printable(body)))
    if not printed:
        sys.stderr.write(f"note: {_NONE}")


def _parts(item: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (title, text) of each message, or of the whole text where it holds none."""
    title = _TITLES.get(item, item)
    messages = _messages(text)
    if messages is None:
        yield title, text
        return
    for message in messages:
        said = map(_part, message["parts"])
        role = message.get("role") or title
        yield str(role), "\n".join(said)


def _messages(text: str) -> list[dict[str, Any]] | None:
    """Return messages in the shape of the GenAI conventions, None for any other text."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if found and all(isinstance(each, dict) and _has_parts(each) for each in found):
        return list(found)
    return None


def _has_parts(message: dict[str, Any]) -> bool:
    parts = message.get("parts")
    if not isinstance(parts, list):
        return False
    return all(isinstance(part, dict) for part in parts)


def _part(part: Mapping[str, Any]) -> str:
    """Return a part of a message as text."""
    match part.get("type"):
        case "text":
            return _plain(part.get("content"))
        case "tool_call":
            return f"{_plain(part.get('name'))}({_plain(part.get('arguments'))})"
        case "tool_call_response":
            return _plain(part.get("response"))
        case _:
            return _plain(part)


def _plain(value: object) -> str:
    """Return a text as it is and anything else as JSON, as the page has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _printable(text: str) -> str:
    """Return a text without control characters, which could command a terminal."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )
