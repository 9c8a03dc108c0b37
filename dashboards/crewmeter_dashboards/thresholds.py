"""The thresholds file: reading and checking."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from crewmeter_dashboards.time_zones.sql import UTC

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Thresholds", "ThresholdsError", "load"]


_LARGEST_FILE = 1 << 15
"""Bytes; the shipped file has a tenth. `tomllib` takes minutes for a dotted key of a megabyte."""


class ThresholdsError(ValueError):
    """A thresholds file that cannot be used.

    The message names the key and what is wrong with it.
    """


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Numbers by section and name, as in ``thresholds.toml``."""

    runbooks: str
    page: str
    """Where a browser reaches crewmeter's page."""
    sections: Mapping[str, Mapping[str, Any]]
    zone: str = UTC
    """Time zone (IANA name) of the rules' days and months."""

    def __call__(self, section: str, name: str) -> float:
        """Return one number."""
        numbers = self.sections[section]
        value: float = numbers[name]
        return value

    def runbook_url(self, name: str) -> str:
        """Return the address of a runbook.

        A page under `runbooks`, or where it says ``{name}``.
        """
        if "{name}" in self.runbooks:
            return self.runbooks.replace("{name}", name)
        return f"{self.runbooks.rstrip('/')}/{name}/"

    @property
    def month_shares(self) -> tuple[float, ...]:
        """Return the shares of the monthly budget that raise an alert, ascending."""
        spend = self.sections["spend"]
        return tuple(spend["month_shares"])


def load(
    overrides: Path | None = None, *, runbooks: str | None = None, zone: str = UTC
) -> Thresholds:
    """Return the shipped thresholds with those of `overrides` on top.

    `runbooks` goes before either. `zone` is that of days and months.

    Raises:
        ThresholdsError: A name is unknown or a value is wrong.
    """
    shipped_file = resources.files("crewmeter_dashboards").joinpath("thresholds.toml")
    shipped = tomllib.loads(shipped_file.read_text("utf-8"))
    if overrides is not None:
        _merge(shipped, _read(overrides), str(overrides))
    shipped_runbooks = shipped.pop("runbooks")
    page = shipped.pop("page").rstrip("/")
    return Thresholds(runbooks=runbooks or shipped_runbooks, page=page, sections=shipped, zone=zone)


def _read(path: Path) -> dict[str, Any]:
    """Return the tables of somebody's file of thresholds."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ThresholdsError(f"{path}: {error}") from error
    if len(raw) > _LARGEST_FILE:
        raise ThresholdsError(f"{path} is larger than {_LARGEST_FILE:,} bytes")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ThresholdsError(f"{path}: {error}") from error


def _merge(shipped: dict[str, Any], mine: Mapping[str, Any], source: str, path: str = "") -> None:
    for name, value in mine.items():
        where = f"{path}{name}"
        if name not in shipped:
            known = ", ".join(shipped)
            raise ThresholdsError(f"{source}: there is no threshold {where!r}; known here: {known}")
        old = shipped[name]
        if isinstance(old, dict):
            if not isinstance(value, dict):
                raise ThresholdsError(f"{source}: {where} is a section")
            _merge(old, value, source, f"{where}.")
            continue
        if _shape(value) is not _shape(old):
            raise ThresholdsError(f"{source}: {where} = {value!r} is not like {old!r}")
        shipped[name] = value


def _shape(value: object) -> type:
    if isinstance(value, bool):
        return bool
    if isinstance(value, int | float):
        return float
    return type(value)
