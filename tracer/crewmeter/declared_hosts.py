"""Hosts that the user's price file maps to providers (``[hosts]``).

Pricing reads the whole file, later and in the background. Which protocol a request speaks must be
known when it is sent, so this section is read at once, without a parser of TOML or YAML.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["declared_hosts"]

_LARGEST_FILE = 2**20
_SECTION = re.compile(
    r"^(?:\[hosts\]|hosts:)\s*(?:#.*)?\n(?P<pairs>(?:(?!\[|\w+:\s*$).*\n?)*)", re.MULTILINE
)
_PAIR = re.compile(
    r"""^\s*(?:"(?P<double>[^"]+)"|'(?P<single>[^']+)'|(?P<bare>[\w.\-]+))"""
    r"""\s*[=:]\s*["']?(?P<provider>[\w.\-]+)["']?\s*(?:\#.*)?$"""
)


def declared_hosts(environ: Mapping[str, str]) -> dict[str, str]:
    """Return host → provider, in lower case, of the file in ``CREWMETER_PRICES``.

    Empty where there is none. What is wrong with a file is said by pricing, which reads it with
    care.
    """
    named = environ.get("CREWMETER_PRICES")
    if not named:
        return {}
    path = Path(named).expanduser()
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
            return {}
        section = _SECTION.search(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if section is None:
        return {}
    found = {}
    for line in section["pairs"].splitlines():
        pair = _PAIR.match(line)
        if pair is not None:
            host = pair["double"] or pair["single"] or pair["bare"]
            found[host.partition(":")[0].lower()] = pair["provider"].lower()
    return found
