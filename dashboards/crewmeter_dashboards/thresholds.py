"""The thresholds file, read and checked."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Thresholds", "ThresholdsError", "load"]


class ThresholdsError(ValueError):
    """A thresholds file that cannot be used; the message names the key and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Numbers by section and name, as in ``thresholds.toml``."""

    runbooks: str
    sections: Mapping[str, Mapping[str, Any]]

    def __call__(self, section: str, name: str) -> float:
        """One number."""
        value: float = self.sections[section][name]
        return value

    @property
    def month_shares(self) -> tuple[float, ...]:
        """Shares of the monthly budget at which somebody is told, ascending."""
        return tuple(self.sections["spend"]["month_shares"])


def load(overrides: Path | None = None) -> Thresholds:
    """The shipped thresholds with those of `overrides` on top. Raises `ThresholdsError` for unknown names and wrong values."""
    shipped = tomllib.loads(
        resources.files("crewmeter_dashboards").joinpath("thresholds.toml").read_text("utf-8")
    )
    if overrides is not None:
        try:
            mine = tomllib.loads(overrides.read_text("utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ThresholdsError(f"{overrides}: {error}") from error
        _merge(shipped, mine, str(overrides))
    runbooks = shipped.pop("runbooks")
    return Thresholds(runbooks=runbooks, sections=shipped)


def _merge(shipped: dict[str, Any], mine: Mapping[str, Any], source: str, path: str = "") -> None:
    for name, value in mine.items():
        where = f"{path}{name}"
        if name not in shipped:
            raise ThresholdsError(
                f"{source}: there is no threshold {where!r}; known here: {', '.join(shipped)}"
            )
        if isinstance(shipped[name], dict):
            if not isinstance(value, dict):
                raise ThresholdsError(f"{source}: {where} is a section")
            _merge(shipped[name], value, source, f"{where}.")
        elif _shape(value) is not _shape(shipped[name]):
            raise ThresholdsError(f"{source}: {where} = {value!r} is not like {shipped[name]!r}")
        else:
            shipped[name] = value


def _shape(value: object) -> type:
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, int | float) else type(value)
