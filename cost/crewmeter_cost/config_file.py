"""Where a TOML file is broken.

The line a person has to correct, also where the parser only notices at the end of the file.
"""

from __future__ import annotations

import re
import tomllib

__all__ = ["toml_mistake"]

_POSITION = re.compile(r"\s*\((?:at line (\d+), column \d+|at end of document)\)$")
_WORDS = {
    "Illegal character '\\n'": "a text that begins here is not closed",
    "Cannot overwrite a value": "this key stands there twice",
}
"""What `tomllib` says → what it means to somebody who wrote settings."""
_MOST_TRIES = 200
"""Of a large file only so many statements are tried, so that a mistake is answered at once."""
_STATEMENT = re.compile(r"\s*(?:\[|[A-Za-z0-9_\"'-][^=\n]*=)")


def toml_mistake(text: str, error: Exception) -> tuple[int, str]:
    """(line, problem) of a text that `tomllib` refused with `error`.

    An array, table or string that is never closed is noticed at the end of the file, or far below:
    then the line is the one that opens it, the first from which on the text can't be read.
    """
    said = str(error)
    context = _POSITION.search(said)
    problem = said[: context.start()] if context else said
    if context and context[1]:
        return int(context[1]), _WORDS.get(problem) or problem[:1].lower() + problem[1:]
    lines = text.splitlines()
    opening = _opening(lines)
    if opening is None:
        return (len(lines), "something above is never finished")
    return (opening, "what begins here is never finished")


def _opening(lines: list[str]) -> int | None:
    """The line of the last statement above which everything can be read."""
    starts = [number for number, line in enumerate(lines) if _STATEMENT.match(line)]
    for start in reversed(starts[-_MOST_TRIES:]):
        try:
            tomllib.loads("\n".join(lines[:start]))
        except tomllib.TOMLDecodeError:
            continue
        return start + 1
    return None
