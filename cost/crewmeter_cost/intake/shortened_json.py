"""JSON that is too long to store, cut inside its texts so that it stays JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CUT", "shortened_json"]

CUT = "…[cut]"
"""What ends a text of which the rest is not stored."""
_FEWEST_CHARACTERS = 100
"""What each text may have, however many they are."""


def shortened_json(value: Any, longest: int) -> str | None:
    """Return a value as JSON of at most ``longest`` characters, else None.

    The last texts are stored whole, as far as they fit: of messages these are the newest. Earlier
    ones are cut with a marker. Where that is not enough, the first items of a list give way to a
    marker as well.

    Raises:
        RecursionError: It is nested too deeply.
    """
    left_out = 0
    while True:
        items = _marked(value, left_out)
        for quarters in (4, 3, 2, 1):
            budget = longest * quarters // 4
            cut = _cut(items, budget)
            written = json.dumps(
                cut,
                ensure_ascii=False,
            )
            if len(written) <= longest:
                return written
        if not isinstance(value, list):
            return None
        if len(value) < 2:
            return None
        half = len(value) // 2
        value = value[half:]
        left_out += half


def _marked(value: Any, left_out: int) -> Any:
    """Return a list with a marker in front if items are left out."""
    if not left_out:
        return value
    marker: object = f"…[cut, {left_out} items]"
    if isinstance(value[0], dict) and "parts" in value[0]:
        part = {
            "type": "text",
            "content": marker,
        }
        marker = {
            "role": None,
            "parts": [part],
        }
    return [marker, *value]


def _cut(value: Any, budget: int) -> Any:
    """Return the value with its texts cut to ``budget`` in all, the first ones most."""
    lengths = [len(text) for text in _long_texts(value)]
    fewest = _FEWEST_CHARACTERS * len(lengths)
    left = budget - fewest
    sizes = []
    for length in reversed(lengths):
        wanted = length - _FEWEST_CHARACTERS
        more = max(0, min(wanted, left))
        left -= more
        sizes.append(_FEWEST_CHARACTERS + more)
    return _with_sizes(value, sizes)


def _long_texts(value: Any) -> Iterator[str]:
    """Yield the texts that may be cut, in the order in which they are written."""
    if isinstance(value, str):
        if len(value) > _FEWEST_CHARACTERS:
            yield value
    elif isinstance(value, list | dict):
        items = value.values() if isinstance(value, dict) else value
        for item in items:
            yield from _long_texts(item)


def _with_sizes(value: Any, sizes: list[int]) -> Any:
    """Return the value with each long text cut to its size, popped from ``sizes``."""
    if isinstance(value, dict):
        return {
            name: _with_sizes(
                item,
                sizes,
            )
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [
            _with_sizes(
                item,
                sizes,
            )
            for item in value
        ]
    if not isinstance(value, str):
        return value
    if len(value) <= _FEWEST_CHARACTERS:
        return value
    size = sizes.pop()
    if len(value) <= size:
        return value
    return value[:size] + CUT
