"""Which schema a ledger has.

The revisions there are, and where the version is stored.
"""

from __future__ import annotations

import os
from pathlib import Path

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import upgrade_command

__all__ = [
    "APPLICATION_ID",
    "HEAD",
    "REVISIONS",
    "VERSION_TABLE",
    "foreign_database",
    "known",
    "needs_writing",
]

_VERSIONS = Path(__file__).parent / "migrations" / "versions"
REVISIONS = tuple(sorted(file[1:5] for file in os.listdir(_VERSIONS) if file.startswith("r0")))
"""Every revision, oldest first: the number in the name of its file in `migrations/versions`."""
HEAD = REVISIONS[-1]

VERSION_TABLE = "crewmeter_schema"
"""Alembic's version table under a name of our own: a current ledger opens without Alembic."""

APPLICATION_ID = 0x43524D54
"""`PRAGMA application_id` of our SQLite files ("CRMT"): `file` can tell whose they are."""


def known(version: str, ledger: str) -> str:
    """Return the version.

    Raises `CrewMeterError` for one that only a newer crewmeter knows.
    """
    if version not in REVISIONS:
        raise CrewMeterError(
            f"ledger {ledger} was written by a newer crewmeter "
            f"(schema {version}, this one knows {HEAD})",
            hint=f"{upgrade_command()}, or set CREWMETER_LEDGER to another ledger",
        )
    return version


def foreign_database(ledger: str) -> CrewMeterError:
    """Return the error for a database that holds another program's tables."""
    return CrewMeterError(
        f"{ledger} is a database of something else, not a crewmeter ledger",
        hint="set CREWMETER_LEDGER to another path",
    )


def needs_writing(ledger: str, found: str | None) -> CrewMeterError:
    """Return the error for a ledger without a current schema that may only be read."""
    state = "is empty" if found is None else f"has the older schema {found}"
    return CrewMeterError(
        f"ledger {ledger} {state}",
        hint="open it once with write access, e.g. `crewmeter doctor`",
    )
