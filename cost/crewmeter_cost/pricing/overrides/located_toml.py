"""A TOML or YAML file with the line of every key, and exact decimals."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from crewmeter_cost.config_file import toml_mistake
from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import yaml

__all__ = ["Document", "read_document"]

_LARGEST = 1 << 20
"""Bytes; a larger file is a mistake, and may be a YAML bomb."""
_MOST_KEYS = 20_000
"""Keys whose lines are remembered: anchors can make a small file of millions."""
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*=""")
Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """What the file says, and where each key stands."""

    path: Path
    data: dict[str, Any]
    line_of: Callable[[Path_], int]

    def error(self, at: Path_, problem: str, *, hint: str) -> CrewMeterError:
        """An error that names the file, the line and the key."""
        key = "".join(
            f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in at
        ).lstrip(".")
        return CrewMeterError(
            f"{self.path} line {self.line_of(at)}: {key}: {problem}"
            if key
            else f"{self.path}: {problem}",
            hint=hint,
        )


def read_document(path: Path) -> Document:
    """Read a ``.toml``, ``.yaml`` or ``.yml`` file.

    Raises `CrewMeterError` for a missing, oversized or malformed one.
    """
    if path.exists() and not path.is_file():
        raise CrewMeterError(
            f"{path} is not a regular file", hint="check $CREWMETER_PRICES, or unset it"
        )
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise CrewMeterError(
            f"{path} can't be read: {error.strerror}", hint="check $CREWMETER_PRICES, or unset it"
        ) from error
    if len(raw) > _LARGEST:
        raise CrewMeterError(
            f"{path} has over {_LARGEST:,} bytes, too many for a price file",
            hint="is it the right file?",
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CrewMeterError(
            f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8"
        ) from error
    try:
        return _parse(path, text)
    except RecursionError as error:
        raise CrewMeterError(
            f"{path} is nested too deeply", hint="docs/pricing.md has an example"
        ) from error


def _parse(path: Path, text: str) -> Document:
    if path.suffix in (".yaml", ".yml"):
        return _read_yaml(path, text)
    if path.suffix != ".toml":
        raise CrewMeterError(
            f"{path} is neither .toml nor .yaml",
            hint="rename it, or point $CREWMETER_PRICES at a TOML or YAML file",
        )
    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        line, problem = toml_mistake(text, error)
        raise CrewMeterError(
            f"{path} line {line} is not TOML: {problem}",
            hint="correct that line; docs/pricing.md has an example",
        ) from error
    except ArithmeticError as error:
        raise CrewMeterError(
            f"{path} has a number that is none: {error}", hint="docs/pricing.md has an example"
        ) from error
    return Document(path, data, _toml_lines(text))


def _toml_lines(text: str) -> Callable[[Path_], int]:
    """Return the line of a key in TOML, by walking its headers.

    An inline table's keys get the line of the table.
    """
    lines: dict[Path_, int] = {}
    tables: dict[str, int] = {}
    where: Path_ = ()
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


def _nearest(lines: dict[Path_, int], at: Path_) -> int:
    """The line of a path, or of the nearest thing around it that has one."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


def _read_yaml(path: Path, text: str) -> Document:
    import yaml

    class Loader(yaml.SafeLoader):
        """PyYAML's safe loader, with floats as Decimals.

        Duplicate keys are refused by `_yaml_lines`.
        """

    def exact(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
        value = str(node.value)
        if re.fullmatch(r"[-+]?[\d_]*\.?\d+([eE][-+]?\d+)?", value):
            return Decimal(value)
        return loader.construct_yaml_float(node)

    Loader.add_constructor("tag:yaml.org,2002:float", exact)
    try:
        root = yaml.compose(text, Loader=Loader)
        data = yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or " ".join(str(error).split())[:200]
        line = f" line {mark.line + 1}" if mark is not None else ""
        raise CrewMeterError(
            f"{path}{line} is not YAML: {problem}",
            hint="correct that line; docs/pricing.md has an example",
        ) from error
    if data is None:
        data = {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise CrewMeterError(
            f"{path} is not a table of settings", hint="see docs/pricing.md for an example"
        )
    lines: dict[Path_, int] = {}
    if root is not None:
        _yaml_lines(root, (), lines)
    return Document(
        path,
        data,
        lambda at: _nearest(lines, at),
    )


def _yaml_lines(node: yaml.Node, at: Path_, lines: dict[Path_, int]) -> None:
    if len(lines) > _MOST_KEYS:
        return
    children: Sequence[Any] = node.value if isinstance(node.value, list) else ()
    for index, child in enumerate(children):
        if isinstance(child, tuple):
            key, value = child
            lines.setdefault(
                (*at, str(key.value)),
                key.start_mark.line + 1,
            )
            if len(at) < 8:
                _yaml_lines(
                    value,
                    (*at, str(key.value)),
                    lines,
                )
        elif len(at) < 8:
            lines.setdefault(
                (*at, index),
                child.start_mark.line + 1,
            )
            _yaml_lines(child, (*at, index), lines)
