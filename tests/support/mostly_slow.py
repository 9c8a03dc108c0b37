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


def absent(item: pytest.Item, names: tuple[str, ...]) -> list[str]:
    """Return the test functions among `names` that the item's module does not have."""
    module = getattr(item, "module", None)
    return [name for name in names if name.startswith("test_") and not hasattr(module, name)]


def mark_slow(items: Iterable[pytest.Item]) -> None:
    """Mark the tests that a `mostly_slow` marker does not name.

    Raises `pytest.UsageError` where it names a function that is gone.
    """
    for item in items:
        marker = item.get_closest_marker("mostly_slow")
        if marker is None:
            continue
        if gone := absent(item, marker.args):
            raise pytest.UsageError(f"{item.nodeid}: mostly_slow names {gone}")
        if not is_named(item, marker.args):
            item.add_marker(pytest.mark.slow)
