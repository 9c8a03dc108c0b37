"""The installed version of crewmeter."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

__all__ = ["version"]


@lru_cache(maxsize=1)
def version() -> str:
    """Return the installed version, ``0`` in a bare source tree."""
    try:
        return installed("crewmeter")
    except PackageNotFoundError:
        return "0"
