"""Checks of the ledger, the price book and the overrides file."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter_cost.doctor.finding import OK, failed, note, ok
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.formatting import counted
from crewmeter_cost.ledger.file_system import network_file_system
from crewmeter_cost.ledger.location import display_url, ledger_url, sqlite_path
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pricing.catalogue.search import Library
from crewmeter_cost.pricing.overrides.reader import read_overrides

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date

    from crewmeter_cost.doctor.finding import Finding
    from crewmeter_cost.ledger.location import LedgerUrl

__all__ = ["check_ledger", "check_overrides", "check_prices"]

STALE = timedelta(days=60)
"""Providers change prices about every other month.

Past this, new models are likely to be missing.
"""


def check_ledger(option: str | None, environ: Mapping[str, str]) -> Finding:
    """Check the ledger's bytes, then open it as an app would and take its write lock.

    Nothing is written, and a ledger that does not exist yet is not created.
    """
    try:
        where = ledger_url(option, environ=environ)
        path = sqlite_path(where)
        if path is not None and not path.exists():
            found = _can_be_made(path)
        else:
            found = _opened(where, option or environ.get("CREWMETER_LEDGER"))
    except CrewMeterError as error:
        return failed("ledger", error.message, error.hint)
    kind = None if path is None else network_file_system(path)
    if found.status == OK and kind is not None:
        return note(
            "ledger",
            f"{path} is on a file system of type {kind}, where two writers can damage it",
            "set CREWMETER_LEDGER to a local disk, or use `crewmeter serve` or PostgreSQL",
        )
    return found


def _opened(where: LedgerUrl, url: str | None) -> Finding:
    # Before it is opened: SQLite drops what follows a damaged frame of the WAL.
    Ledger(where).verify()
    with Ledger.open(url) as ledger:
        ledger.write([])
    return ok("ledger", f"{display_url(where)} opens, is of this version, and can be written")


def _can_be_made(path: Path) -> Finding:
    """Return whether the ledger can be created, by creating it for a moment."""
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir():
        return failed(
            "ledger",
            f"{path} cannot be created: {folder} is a file, not a folder",
            "set CREWMETER_LEDGER to a path in a folder",
        )
    # Permission bits alone do not tell: root passes them, a read-only mount or a full disk fails.
    try:
        with (
            tempfile.TemporaryDirectory(
                prefix=".crewmeter-doctor-",
                dir=folder,
            ) as trial,
            Ledger.open(str(Path(trial) / "ledger.db")) as ledger,
        ):
            ledger.write([])
    except CrewMeterError as error:
        return failed(
            "ledger",
            f"{path} cannot be created: {error.message}",
            error.hint,
        )
    except OSError as error:
        return failed(
            "ledger",
            f"{path} cannot be created in {folder}: {error.strerror}",
            "set CREWMETER_LEDGER to a path that you may write, or chown the folder",
        )
    return ok("ledger", f"{path} is not there yet, and can be created by the first run")


def check_prices(today: date | None = None) -> Finding:
    """How old the newest price in the book is."""
    day = today or datetime.now(UTC).date()
    newest = Library().newest_price(day)
    if newest is None:
        return failed(
            "prices",
            "the price book is empty",
            "reinstall crewmeter, or run `crewmeter prices update`",
        )
    age = day - newest
    if age > STALE:
        return note(
            "prices",
            f"the newest price is of {newest}, {counted(age.days, 'day')} ago; models since "
            "then are unpriced",
            "pip install --upgrade genai-prices && crewmeter prices update",
        )
    return ok(
        "prices",
        f"the newest price is of {newest}, {counted(age.days, 'day')} ago",
    )


def check_overrides(environ: Mapping[str, str]) -> Iterator[Finding]:
    """``CREWMETER_PRICES``, where set: it must be there and mean something."""
    if name := environ.get("CREWMETER_PRICES"):
        try:
            read_overrides(Path(name).expanduser())
        except CrewMeterError as error:
            yield failed("overrides", error.message, error.hint)
        else:
            yield ok("overrides", f"{name} is valid")
