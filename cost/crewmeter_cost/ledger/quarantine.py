"""A damaged SQLite ledger is moved aside, whole and under its own name.

Nothing is deleted or overwritten: the file, its write-ahead log and its index are the evidence.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from crewmeter_cost.ledger.integrity import damage_of
from crewmeter_cost.ledger.sqlite_file import identity_of, real_path

if TYPE_CHECKING:
    from pathlib import Path

    from crewmeter_cost.ledger.sqlite_file import FileIdentity

__all__ = ["quarantine"]

_BESIDE = ("-wal", "-shm")


def quarantine(path: Path, *, damaged: FileIdentity | None = None) -> Path | None:
    """Rename a damaged ledger to `<name>.corrupt-<UTC time>`, its new path.

    `damaged` is the file that was found to be damaged, where that is known. None where nothing was
    moved: the file is sound, or another process was quicker and a new ledger is at the path. Raises
    `OSError` where it cannot be moved. A symbolic link stays; what it leads to is moved.
    """
    path = real_path(path)
    found = identity_of(path)
    if found is None or (found != damaged and damage_of(path) is None):
        return None
    beside = {suffix: identity_of(_beside(path, suffix)) for suffix in _BESIDE}
    aside = _reserved_name(path)
    try:
        path.rename(aside)
    except FileNotFoundError:
        aside.unlink()
        return None
    if identity_of(aside) != found:
        _put_back(aside, path)
        return None
    for suffix, identity in beside.items():
        _move(
            _beside(path, suffix),
            identity,
            _beside(aside, suffix),
        )
    return aside


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _reserved_name(path: Path) -> Path:
    """Return a free name, reserved by an empty file.

    A rename replaces nothing but that file.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    number = 1
    while True:
        ending = stamp if number == 1 else f"{stamp}-{number}"
        aside = _beside(path, f".corrupt-{ending}")
        try:
            os.close(
                os.open(
                    aside,
                    os.O_CREAT | os.O_EXCL | os.O_WRONLY,
                    0o600,
                )
            )
        except FileExistsError:
            number += 1
        else:
            return aside


def _put_back(aside: Path, path: Path) -> None:
    """Put back a new ledger that was renamed by mistake."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    aside.unlink()


def _move(path: Path, identity: FileIdentity | None, target: Path) -> None:
    """Rename a file unless it is another one by now.

    A new ledger has a log of its own.
    """
    if identity is None or identity_of(path) != identity:
        return
    try:
        path.rename(target)
    except FileNotFoundError:
        return
