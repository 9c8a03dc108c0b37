"""Tests of which a few run in the fast suite, as representatives of all the others.

`@pytest.mark.mostly_slow("openai", "test_a_body_is_read")` marks a function or module as slow but
for the tests named: by their function, or by how the id of a parametrized case begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["mark_slow"]


def is_named(item: pytest.Item, names: tuple[str, ...]) -> bool:
    """Return whether `names` has a test's function, or the beginning of its case's id.

    An id is made of parts with a hyphen between: `openai` names `openai` and `openai-streamed`.
    """
    function, _, case = item.name.partition("[")
    case = case.removesuffix("]")
    return function in names or any(f"{case}-".startswith(f"{name}-") for name in names)


def mark_slow(items: Iterable[pytest.Item], *, whole_files: bool) -> None:
    """Mark the tests that a `mostly_slow` marker does not name.

    Raises `pytest.UsageError` where a name is that of no test, so that an area does not lose its
    representative in silence. Only a collection of `whole_files` can tell.
    """
    unmatched: set[tuple[str, str]] = set()
    matched: set[tuple[str, str]] = set()
    for item in items:
        marker = item.get_closest_marker("mostly_slow")
        if marker is None:
            continue
        file = item.nodeid.partition("::")[0]
        for name in marker.args:
            (matched if is_named(item, (name,)) else unmatched).add((file, name))
        if not is_named(item, marker.args):
            item.add_marker(pytest.mark.slow)
    if whole_files and (unused := sorted(unmatched - matched)):
        raise pytest.UsageError(f"mostly_slow names no test: {unused}")
