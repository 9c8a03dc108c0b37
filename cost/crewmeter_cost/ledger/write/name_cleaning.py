"""Names as every database takes them."""

from __future__ import annotations

__all__ = ["MAX_NAME", "clean"]

MAX_NAME = 500
"""Characters kept of a name. Longer ones (hostile, or content in the wrong place) are cut and end in an ellipsis."""


def clean(name: str, longest: int = MAX_NAME) -> str:
    """A name as databases take it: without NUL and lone surrogates, at most `longest` characters."""
    if "\0" in name:
        name = name.replace("\0", "")
    name = name.encode("utf-8", "replace").decode()
    return name if len(name) <= longest else name[: longest - 1] + "…"
