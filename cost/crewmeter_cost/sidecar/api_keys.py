"""Bearer keys and their roles.

``ingest`` sends spans, ``read`` reads metrics, page and API, ``content`` reads captured prompts
and answers.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crewmeter_cost.errors import CrewMeterError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ROLES", "Keys", "keys_from"]

ROLES = ("ingest", "read", "content")
_SHORTEST = 8


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys and their roles. Without any, everybody may do everything."""

    entries: tuple[tuple[bytes, frozenset[str]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    def allow(self, authorization: str | None, role: str) -> bool:
        """Return whether an ``Authorization`` header carries a key of this role.

        It is ``Bearer KEY``, or, from browsers, ``Basic`` with the key as password. Every key is
        compared, each in constant time, so that the time taken tells nothing about the keys.
        """
        if not self.entries:
            return True
        offered = _offered(authorization or "")
        matched = False
        for key, roles in self.entries:
            same = hmac.compare_digest(key, offered)
            matched |= same and role in roles
        return matched


def _offered(authorization: str) -> bytes:
    """Return the key in an ``Authorization`` header, empty where there is none."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return given.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
        except ValueError:  # also what b64decode raises for bad padding
            return b""
    return b""


def keys_from(text: str | None, file: Path | None) -> Keys:
    """Return the keys of ``CREWMETER_TOKEN`` and of a token file.

    Entries stand one a line or between commas: ``KEY`` (all roles), ``ingest:KEY``,
    ``read:KEY`` or ``content:KEY``. A key may stand several times. ``#`` begins
    a comment line. Raises `CrewMeterError` for anything else.
    """
    lines = (text or "").replace(",", "\n").splitlines()
    if file is not None:
        try:
            lines += file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CrewMeterError(f"token file {file} cannot be read: {error}") from None
    stripped = map(str.strip, lines)
    entries = [_entry(line) for line in stripped if line and not line.startswith("#")]
    if file is not None and not entries:
        raise CrewMeterError(
            f"token file {file} holds no key",
            hint="write one key a line: KEY, ingest:KEY, read:KEY or content:KEY",
        )
    return Keys(tuple(entries))


def _entry(line: str) -> tuple[bytes, frozenset[str]]:
    """Return (key, roles) of one line."""
    role, colon, key = line.partition(":")
    secret = line
    roles = frozenset(ROLES)
    if colon and role in ROLES:
        secret = key.strip()
        roles = frozenset({role})
    if len(secret) < _SHORTEST or any(letter.isspace() for letter in secret):
        raise CrewMeterError(
            f"a key must have at least {_SHORTEST} characters and no spaces",
            hint="make one with: python -c 'import secrets; print(secrets.token_urlsafe(24))'",
        )
    return secret.encode(), roles
