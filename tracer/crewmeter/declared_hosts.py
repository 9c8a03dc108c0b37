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
_TOML = re.compile(
    r"""^[ \t]*\[[ \t]*["']?hosts["']?[ \t]*\][ \t]*(?:\#.*)?\n"""
    r"""(?P<pairs>(?:(?![ \t]*\[).*\n?)*)""",
    re.MULTILINE,
)
_YAML = re.compile(
    r"""^["']?hosts["']?[ \t]*:[ \t]*(?:\#.*)?\n"""
    r"""(?P<pairs>(?:(?:[ \t]+.*|[ \t]*\#.*|[ \t]*)(?:\n|\Z))*)""",
    re.MULTILINE,
)
_INLINE = re.compile(
    r"""(?:^|[{,])[ \t]*["']?hosts["']?[ \t]*[=:][ \t]*\{(?P<pairs>[^{}]*)\}""", re.MULTILINE
)
_DOTTED = re.compile(r"""^[ \t]*hosts[ \t]*\.[ \t]*(?P<pairs>["'].*)$""", re.MULTILINE)
_SECTIONS = (_TOML, _YAML, _INLINE, _DOTTED)
"""The ways in which TOML and YAML write a table: under its name, in braces, key by key."""
_PAIR = re.compile(
    r"""(?:^|[,\n])[ \t]*(?:"(?P<double>[^"\n]+)"|'(?P<single>[^'\n]+)'|(?P<bare>[\w.\-]+))"""
    r"""[ \t]*[=:][ \t]*["']?(?P<provider>[\w.\-]+)["']?[ \t]*(?=\#|,|\n|\r|$)"""
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
        text = path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except (OSError, ValueError):
        return {}
    found = {}
    for section in _SECTIONS:
        for part in section.finditer(text):
            for pair in _PAIR.finditer(part["pairs"]):
                host = pair["double"] or pair["single"] or pair["bare"]
                found[host.partition(":")[0].lower()] = pair["provider"].lower()
    return found
