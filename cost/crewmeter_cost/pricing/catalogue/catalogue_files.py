"""Where the catalogue files are: the shipped ones and the user's own."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.catalogue.file_format import Catalogue

__all__ = ["SHIPPED", "is_newer", "keep", "open_genai", "open_litellm", "open_own", "own_path"]

SHIPPED = Path(__file__).with_name("data")
_log = logging.getLogger("crewmeter.prices")


def own_path() -> Path:
    """Return the path of the user's own catalogue, made by `crewmeter prices update`."""
    return Path.home() / ".crewmeter" / "prices" / "genai-prices.txt"


def is_newer(version: str, other: str) -> bool:
    """Return whether one release comes after another.

    A catalogue made from a file (``file …``) was requested, so it counts as newer.
    """
    if version.startswith("file "):
        return True
    return [int(part) for part in re.findall(r"\d+", version)] > [
        int(part) for part in re.findall(r"\d+", other)
    ]


def open_own() -> Catalogue | None:
    """Return the user's own catalogue, if there is one.

    Raises `CrewMeterError` where it is damaged.
    """
    path = own_path()
    if path.is_file():
        return Catalogue.open(path)
    return None


def open_genai() -> Catalogue:
    """Return the genai-prices catalogue to price with.

    The user's own is taken where it is newer, else the shipped one.
    """
    shipped = Catalogue.open(SHIPPED / "genai-prices.txt")
    try:
        own = open_own()
    except CrewMeterError as error:
        _log.warning("%s; using the prices shipped with crewmeter", error.message)
        return shipped
    if own is not None and is_newer(own.version, shipped.version):
        return own
    return shipped


def open_litellm() -> Catalogue:
    """LiteLLM's catalogue, as shipped."""
    return Catalogue.open(SHIPPED / "litellm.txt")


def keep(text: str) -> Path:
    """Make a catalogue the user's own, atomically.

    A reader sees the old file or the new one. Raises `CrewMeterError`.
    """
    import tempfile

    Catalogue(text.encode(), "the new price catalogue")
    path = own_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".new", delete=False
        ) as draft:
            draft.write(text)
        os.replace(draft.name, path)
    except OSError as error:
        raise CrewMeterError(
            f"{path} can't be written: {error.strerror}",
            hint="check the folder's owner and the free space",
        ) from error
    return path
