"""TOML and YAML files that people write, with exact decimals and line numbers.

The line of a mistake is the one a person has to correct, also where the parser only notices at
the end of the file.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crewmeter_cost.config_limits import (
    bounded_loader,
    has_endless_number,
    line_of_endless_key,
)
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import yaml

__all__ = [
    "LARGEST_FILE",
    "Document",
    "FileKind",
    "KeyPath",
    "parse_toml",
    "read_document",
    "refuse_endless_numbers",
]

LARGEST_FILE = 1 << 20
"""Bytes; a larger file is a mistake, and may be a YAML bomb."""
_MOST_KEYS = 20_000
"""Keys whose lines are remembered: anchors can make a small file of millions."""
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*=""")
_POSITION = re.compile(r"\s*\((?:at line (\d+), column \d+|at end of document)\)$")
_WORDS = {
    "Illegal character '\\n'": "a text that begins here is not closed",
    "Cannot overwrite a value": "this key stands there twice",
}
"""What `tomllib` says → what it means to somebody who wrote settings."""
_MOST_TRIES = 200
_MOST_TRIED = 2 << 20
"""Statements and characters that are tried of a large file, so that it is answered at once."""
_STATEMENT = re.compile(r"\s*(?:\[|[A-Za-z0-9_\"'-][^=\n]*=)")
KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead to a value."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """What error messages about a kind of file name."""

    name: str
    variable: str
    """The environment variable that holds the file's path."""
    guide: str
    """The page of the documentation with an example."""


@dataclass(frozen=True, slots=True)
class Document:
    """What the file says, and where each key stands."""

    path: Path
    data: dict[str, Any]
    line_of: Callable[[KeyPath], int]

    def error(self, at: KeyPath, problem: str, *, hint: str) -> CrewMeterError:
        """Return an error that names the file, the line and the key."""
        key = "".join(
            f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in at
        ).lstrip(".")
        return CrewMeterError(
            f"{self.path} line {self.line_of(at)}: {key}: {problem}"
            if key
            else f"{self.path}: {problem}",
            hint=hint,
        )


def read_document(path: Path, kind: FileKind) -> Document:
    """Read a ``.toml``, ``.yaml`` or ``.yml`` file.

    Raises `CrewMeterError` for a missing, oversized or malformed one.
    """
    hint = f"check ${kind.variable}, or unset it"
    if path.exists() and not path.is_file():
        raise CrewMeterError(f"{path} is not a regular file", hint=hint)
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise CrewMeterError(f"{path} can't be read: {error.strerror}", hint=hint) from error
    if len(raw) > LARGEST_FILE:
        raise CrewMeterError(
            f"{path} has over {LARGEST_FILE:,} bytes, too many for a {kind.name}",
            hint="is it the right file?",
        )
    try:
        text = raw.decode("utf-8-sig")  # editors on Windows begin a file with a mark
    except UnicodeDecodeError as error:
        raise CrewMeterError(
            f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8"
        ) from error
    if path.suffix == ".toml":
        data = parse_toml(text, path, kind, parse_float=Decimal)
        return Document(path, data, _toml_lines(text))
    if path.suffix not in (".yaml", ".yml"):
        raise CrewMeterError(
            f"{path} is neither .toml nor .yaml",
            hint=f"rename it, or point ${kind.variable} at a TOML or YAML file",
        )
    try:
        return _read_yaml(path, text, kind)
    except RecursionError as error:
        raise _too_deep(path, kind) from error


def parse_toml(
    text: str,
    path: Path,
    kind: FileKind,
    *,
    parse_float: Callable[[str], object] = float,
) -> dict[str, Any]:
    """Return the tables of the TOML file `path`, whose text is `text`.

    Raises `CrewMeterError` with the line to correct.
    """
    endless = line_of_endless_key(text)
    if endless is not None:
        raise CrewMeterError(
            f"{path} line {endless} has a key of too many parts",
            hint=f"correct that line; {kind.guide} has an example",
        )
    try:
        data = tomllib.loads(text, parse_float=parse_float)
    except tomllib.TOMLDecodeError as error:
        line, problem = _toml_mistake(text, error)
        raise CrewMeterError(
            f"{path} line {line} is not TOML: {problem}",
            hint=f"correct that line; {kind.guide} has an example",
        ) from error
    except (ArithmeticError, ValueError) as error:
        raise CrewMeterError(
            f"{path} has a number that is none: {error}", hint=f"{kind.guide} has an example"
        ) from error
    except RecursionError as error:
        raise _too_deep(path, kind) from error
    refuse_endless_numbers(data, path, kind)
    return data


def refuse_endless_numbers(data: object, path: Path, kind: FileKind) -> None:
    """Raise `CrewMeterError` where a number of a file has over a hundred digits."""
    if has_endless_number(data):
        raise CrewMeterError(
            f"{path} has a number of over a hundred digits", hint=f"{kind.guide} has an example"
        )


def _too_deep(path: Path, kind: FileKind) -> CrewMeterError:
    return CrewMeterError(f"{path} is nested too deeply", hint=f"{kind.guide} has an example")


def _toml_lines(text: str) -> Callable[[KeyPath], int]:
    """Return the line of a key in TOML, by walking its headers.

    An inline table's keys get the line of the table.
    """
    lines: dict[KeyPath, int] = {}
    tables: dict[str, int] = {}
    where: KeyPath = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            name = header[2].strip("\"'")
            if header[1] == "[[":
                tables[name] = tables.get(name, -1) + 1
                lines.setdefault((name,), number)
                where = (name, tables[name])
            else:
                where = (name,)
            lines.setdefault(where, number)
        elif key := _KEY.match(line):
            lines.setdefault(
                (*where, next(part for part in key.groups() if part is not None)), number
            )
    return lambda at: _nearest(lines, at)


def _nearest(lines: dict[KeyPath, int], at: KeyPath) -> int:
    """Return the line of a path, or of the nearest thing around it that has one."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


def _read_yaml(path: Path, text: str, kind: FileKind) -> Document:
    import yaml

    class Loader(bounded_loader()):  # type: ignore[misc]
        """The safe loader, with floats as Decimals.

        Duplicate keys are refused by `_yaml_lines`.
        """

    def exact(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
        value = str(node.value)
        if re.fullmatch(r"[-+]?[\d_]*\.?\d+([eE][-+]?\d+)?", value):
            return Decimal(value)
        return loader.construct_yaml_float(node)

    Loader.add_constructor("tag:yaml.org,2002:float", exact)
    lines: dict[KeyPath, int] = {}
    loader = Loader(text)
    try:
        root = loader.get_single_node()
        if root is not None:
            _yaml_lines(root, (), lines)
        data = None if root is None else loader.construct_document(root)
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
        line = f" line {mark.line + 1}" if mark is not None else ""
        raise CrewMeterError(
            f"{path}{line} is not YAML: {problem}",
            hint=f"correct that line; {kind.guide} has an example",
        ) from error
    if data is None:
        data = {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise CrewMeterError(
            f"{path} is not a table of settings", hint=f"see {kind.guide} for an example"
        )
    refuse_endless_numbers(data, path, kind)
    return Document(path, data, lambda at: _nearest(lines, at))


def _yaml_lines(node: yaml.Node, at: KeyPath, lines: dict[KeyPath, int]) -> None:
    if len(lines) > _MOST_KEYS:
        return
    children: Sequence[Any] = node.value if isinstance(node.value, list) else ()
    for index, child in enumerate(children):
        if isinstance(child, tuple):
            key, value = child
            # A key that is a list is refused later; as text, its aliases would be endless.
            name = key.value if isinstance(key.value, str) else ""
            lines.setdefault((*at, name), key.start_mark.line + 1)
            if len(at) < 8:
                _yaml_lines(value, (*at, name), lines)
        elif len(at) < 8:
            lines.setdefault(
                (*at, index),
                child.start_mark.line + 1,
            )
            _yaml_lines(child, (*at, index), lines)


def _toml_mistake(text: str, error: Exception) -> tuple[int, str]:
    """Return (line, problem) of a text that `tomllib` refused with `error`.

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
    """Return the line of the last statement above which everything can be read."""
    starts = [number for number, line in enumerate(lines) if _STATEMENT.match(line)]
    tried = 0
    for start in reversed(starts[-_MOST_TRIES:]):
        above = "\n".join(lines[:start])
        tried += len(above)
        if tried > _MOST_TRIED:
            return None
        try:
            tomllib.loads(above)
        except tomllib.TOMLDecodeError:
            continue
        return start + 1
    return None
