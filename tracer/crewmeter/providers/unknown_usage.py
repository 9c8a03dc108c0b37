"""What in an answer may cost money and is known to no reader. Pure and bounded.

A charge is exact only where everything that can cost money was understood. Each path found here
becomes a flag ``unknown_usage:PATH``, with which a charge is a lower bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter.providers.provider_protocol import KnownKeys

__all__ = ["FLAG", "flag_of", "is_nothing", "unknown_names", "unknown_paths"]

FLAG = "unknown_usage:"
_MOST_PATHS = 4
_LONGEST_PATH = 80
_DEEPEST = 6
_MOST_KEYS = 200
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.\-]+")
_BILL_WORDS = re.compile(
    r"usage|cost|bill|price|pricing|tier|token|credit|fee\b|fees|charge|speed|traffic",
    re.IGNORECASE,
)


def flag_of(path: str) -> str:
    """Return the flag for ``path``, which may be hostile.

    The flag is printable, short and has no spaces.
    """
    return (
        FLAG
        + _NOT_PLAIN.sub(
            "_",
            path[: 2 * _LONGEST_PATH],
        )[:_LONGEST_PATH]
    )


def is_nothing(value: object, depth: int = 0) -> bool:
    """Tell whether ``value`` says that nothing was used: empty, zero, or made of such."""
    if not value:
        return True
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return all(is_nothing(item, depth + 1) for item in value.values())
        if isinstance(value, list | tuple):
            return all(is_nothing(item, depth + 1) for item in value)
    return value in ("0", "0.0")


def unknown_paths(raw: Mapping[str, object], known: KnownKeys) -> tuple[str, ...]:
    """Return a flag for each key in ``raw``, at any depth, that is not ``known``.

    Keys without a value, or with nothing but zeros in it, do not count. At most four flags.
    """
    found: list[str] = []
    _walk(raw, known, "", found)
    return tuple(found)


def _walk(raw: Mapping[str, object], known: KnownKeys, above: str, found: list[str]) -> None:
    names = raw.keys()
    if not names <= known.names:
        unknown = list(names - known.names)
        for key in unknown[:_MOST_KEYS]:
            _note(
                above,
                key,
                raw[key],
                found,
            )
    for key in raw:
        inside = known.inside.get(key)
        if inside is None or not raw[key]:
            continue
        value = raw[key]
        path = f"{above}{key}."
        if type(value) is dict or isinstance(value, Mapping):  # the first is quicker
            _walk(value, inside, path, found)
        else:
            _walk_list(value, inside, path, found)


def _walk_list(values: object, known: KnownKeys, above: str, found: list[str]) -> None:
    if not isinstance(values, list | tuple):
        if not hasattr(values, "__dict__"):  # an SDK's object is read like a mapping
            _note(above, "", values, found)
        return
    for item in values[:_MOST_KEYS]:
        if isinstance(item, Mapping):
            _walk(item, known, above, found)
        else:
            _note(above, "", item, found)


def _note(above: str, key: object, value: object, found: list[str]) -> None:
    if is_nothing(value):
        return
    flag = flag_of(f"{above}{str(key)[:_LONGEST_PATH]}".rstrip("."))
    if flag not in found and len(found) < _MOST_PATHS:
        found.append(flag)


@lru_cache(maxsize=256)
def unknown_names(names: frozenset[str], known: frozenset[str]) -> tuple[str, ...]:
    """Return those of ``names`` that read like a bill's and are not ``known``.

    At most four. For keys of an answer and names of headers, most of which have nothing to do with
    money.
    """
    fresh = sorted(name for name in names - known if _BILL_WORDS.search(name[:_LONGEST_PATH]))
    return tuple(fresh[:_MOST_PATHS])
