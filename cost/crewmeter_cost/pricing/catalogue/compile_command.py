"""The command line that both catalogue compilers share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

__all__ = ["write_or_check"]


def write_or_check(
    path: Path, module: str, build: Callable[[], str], arguments: Sequence[str]
) -> int:
    """Write a catalogue's committed file, or check that it is what its compiler makes.

    Args:
        path: The committed file.
        module: The compiler's module, for the hint.
        build: Returns the file's text.
        arguments: ``--check``, or nothing to write.

    Returns:
        The exit code: 1 where the file differs.
    """
    text = build()
    if "--check" not in arguments:
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}: {len(text):,} characters\n")
        return 0
    same = path.exists() and path.read_text(encoding="utf-8") == text
    state = "up to date" if same else f"differs; run python -m {module}"
    sys.stdout.write(f"{path.name}: {state}\n")
    return 0 if same else 1
