"""Every error that the money side raises on purpose.

CrewMeterError              a person caused it or can correct it; commands print it
    LedgerUnavailableError
    LedgerCorruptError
    NotInCatalogueError
BodyError                   what was sent cannot be read; the sidecar answers 4xx
    TooLarge, CorruptBody, UnknownEncoding, BadRequest
RefusedRequest, QueueFull   the sidecar takes no more now
BalanceUnavailableError     a budget's account cannot be reached
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewmeter_cost.ledger.sqlite_file import FileIdentity

__all__ = [
    "BadRequest",
    "BalanceUnavailableError",
    "BodyError",
    "CorruptBody",
    "CrewMeterError",
    "LedgerCorruptError",
    "LedgerUnavailableError",
    "NotInCatalogueError",
    "QueueFull",
    "RefusedRequest",
    "TooLarge",
    "UnknownEncoding",
]


class CrewMeterError(Exception):
    """Printed on stderr as ``error: …`` and ``hint: …`` without a traceback.

    The process exits with `exit_code`.

    `message` names the culprit, `hint` the way out. ``exit_code`` 2 is wrong usage or input, 1 a
    check that failed.
    """

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class LedgerUnavailableError(CrewMeterError):
    """The ledger cannot be used now: locked, full disk, no permission, server down."""


class LedgerCorruptError(CrewMeterError):
    """The file is damaged, and waiting will not repair it."""

    found_in: FileIdentity | None = None
    """The file, where a check of its bytes found the damage and not a statement that failed."""


class NotInCatalogueError(CrewMeterError):
    """A panel, filter or run that does not exist."""


class BodyError(ValueError):
    """A request's body cannot be read."""


class TooLarge(BodyError):
    """The body is, or opens to, more bytes than allowed."""


class CorruptBody(BodyError):
    """The body does not open as its Content-Encoding says."""


class UnknownEncoding(BodyError):
    """A Content-Encoding nobody here can open."""


class BadRequest(BodyError):
    """The body is not an OTLP trace request.

    The message tells the sender what is wrong with it.
    """


class RefusedRequest(Exception):
    """A request that is not taken.

    `outcome` is its label in the metrics. With `retry_seconds` the sender should try again.
    """

    def __init__(self, outcome: str, message: str, *, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.retry_seconds = retry_seconds


class QueueFull(Exception):
    """The queue is full. Try again in `retry_seconds`."""

    def __init__(self, retry_seconds: float) -> None:
        super().__init__(f"the writer is behind; try again in {retry_seconds:g} s")
        self.retry_seconds = retry_seconds


class BalanceUnavailableError(Exception):
    """The account can't be read.

    `perhaps_done` where the request may have been carried out all the same.
    """

    def __init__(self, reason: str, *, perhaps_done: bool = False) -> None:
        super().__init__(reason)
        self.perhaps_done = perhaps_done
