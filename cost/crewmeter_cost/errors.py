"""Errors a person caused or can mend: what is wrong, and the way out."""

from __future__ import annotations

__all__ = ["CrewMeterError"]


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
