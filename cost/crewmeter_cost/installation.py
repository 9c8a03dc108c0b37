"""How this crewmeter was installed, and the commands that add to it or renew it."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install_command", "upgrade_command"]

_EXTRA_MARKER = re.compile(r"""\s*;.*extra == ["']([\w-]+)["'].*""")


def install_command(
    extra: str, *, distribution: Callable[[], metadata.Distribution] | None = None
) -> str:
    """Return a command that adds one of crewmeter's extras to this installation.

    It names the checkout or the wheel that crewmeter came from. Where that is gone, it names the
    packages of the extra, which are all that is missing.

    Args:
        extra: A key of `[project.optional-dependencies]`, such as ``sidecar``.
        distribution: Gives the installed crewmeter; by default asks Python.

    Returns:
        A line to paste into a shell.

    """
    installed = _installed(distribution)
    if installed is None or not _came_from(installed):
        return f"pip install 'crewmeter[{extra}]'"
    path = _local_source(installed)
    if path is None:
        packages = " ".join(f"'{name}'" for name in _packages(installed, extra))
        return f"pip install {packages}"
    editable = "-e " if path.is_dir() else ""
    return f"pip install {editable}'{path}[{extra}]'"


def upgrade_command(*, distribution: Callable[[], metadata.Distribution] | None = None) -> str:
    """Return how to get a newer crewmeter, by pip or from where it was built."""
    installed = _installed(distribution)
    if installed is None or not _came_from(installed):
        return "pip install --upgrade crewmeter"
    path = _local_source(installed)
    if path is not None and path.is_dir():
        return f"git -C '{path}' pull"
    return "install a newer wheel of crewmeter"


def _installed(
    distribution: Callable[[], metadata.Distribution] | None,
) -> metadata.Distribution | None:
    """Return the installed distribution, or None in a bare source tree."""
    try:
        return distribution() if distribution else metadata.distribution("crewmeter")
    except metadata.PackageNotFoundError:
        return None


def _came_from(installed: metadata.Distribution) -> str:
    """Return the URL an installer recorded, or nothing for a package of an index.

    The record is https://packaging.python.org/specifications/direct-url/.
    """
    try:
        record = json.loads(installed.read_text("direct_url.json") or "{}")
        return str(record.get("url", ""))
    except (ValueError, AttributeError):
        return ""


def _local_source(installed: metadata.Distribution) -> Path | None:
    """Return the wheel or checkout that was installed, if it is still there."""
    parts = urlsplit(_came_from(installed))
    if parts.scheme != "file":
        return None
    path = Path(url2pathname(parts.path))
    return path if path.exists() else None


def _packages(installed: metadata.Distribution, extra: str) -> list[str]:
    """Return the requirements of an extra, without their markers."""
    found = []
    requirements = installed.requires or ()
    for line in requirements:
        marker = _EXTRA_MARKER.search(line)
        if marker is None or marker[1] != extra:
            continue
        requirement = line[: marker.start()]
        found.append(requirement)
    return found
