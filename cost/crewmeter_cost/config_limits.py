"""Bounds on TOML and YAML that people write.

No small file may cost minutes or gigabytes, but the parsers take time that grows with the
square of the length of a dotted key, copy what merge keys (`<<`) name once for each mention, and
read integers that Python then refuses to print.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import yaml

__all__ = ["bounded_loader", "has_endless_number", "line_of_endless_key"]

_MOST_PARTS = 64
"""Parts of a dotted key; settings have three at most."""
_MOST_DIGITS = 100
"""Digits of a number. Prices have twenty at most; Python prints no integer of over 4,300."""
_MOST_NODES = 100_000
"""Keys and values of a YAML file: about two seconds of PyYAML, which is written in Python."""


def line_of_endless_key(text: str) -> int | None:
    """Return the line of a TOML key with more parts than any setting has."""
    for number, line in enumerate(text.splitlines(), 1):
        statement = line.partition("#")[0]
        if statement.count(".") <= _MOST_PARTS:
            continue
        # Keys end at `=` or `]`, and follow a comma or brace inside of a table in one line.
        parts = re.split(r"[,={}\[\]]", statement)
        if any(part.count(".") > _MOST_PARTS for part in parts):
            return number
    return None


def _scalars(data: object) -> Iterator[object]:
    """Yield every value below `data`, once where aliases name it many times."""
    seen: set[int] = set()
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, dict | list):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)


def has_endless_number(data: object) -> bool:
    """Return whether a number among the values has more digits than anybody means."""
    for value in _scalars(data):
        if isinstance(value, int) and abs(value) >= 10**_MOST_DIGITS:
            return True
        if isinstance(value, Decimal) and len(value.as_tuple().digits) > _MOST_DIGITS:
            return True
    return False


def bounded_loader() -> type[yaml.SafeLoader]:
    """Return PyYAML's safe loader with a limit to the nodes that a file may have."""
    import yaml  # only where someone wrote YAML

    class BoundedLoader(yaml.SafeLoader):
        """A loader that raises `yaml.YAMLError` for a file of too many nodes."""

        nodes = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            """Count a node that is read."""
            self._count(1, self.peek_event().start_mark)  # type: ignore[no-untyped-call]
            return super().compose_node(parent, index)

        def flatten_mapping(self, node: Any) -> None:
            """Count the pairs that a mapping has with those of its merge keys."""
            super().flatten_mapping(node)
            self._count(len(node.value), node.start_mark)

        def _count(self, nodes: int, mark: Any) -> None:
            self.nodes += nodes
            if self.nodes > _MOST_NODES:
                problem = f"over {_MOST_NODES:,} keys and values are too many"
                raise yaml.constructor.ConstructorError(None, None, problem, mark)

    return BoundedLoader
