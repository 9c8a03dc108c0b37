"""Warnings on stderr in apps that have set up no logging."""

from __future__ import annotations

import logging
import sys

__all__ = ["print_unhandled_warnings"]

_LOGGER = "crewmeter"


class _LastResort(logging.Handler):
    """Python's handler of last resort, with the name of who warns in front.

    Python's own prints the bare message, and nobody would know whose it is. An app's handlers
    print the logger's name themselves, so messages do not begin with it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record that no handler of the app takes."""
        if self._has_another(record.name):
            return
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001  # a malformed call of ours must not reach the app
            self.handleError(record)
            return
        try:
            sys.stderr.write(f"{_LOGGER}: {text}\n")
        except (OSError, ValueError, AttributeError):
            # A closed stderr, or none at all, as under pythonw.
            return

    def _has_another(self, name: str) -> bool:
        """Return whether a logger on the way to the root has a handler of the app."""
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


def print_unhandled_warnings() -> None:
    """Print warnings of crewmeter's loggers where the app has no handler for them."""
    logger = logging.getLogger(_LOGGER)
    if not any(isinstance(handler, _LastResort) for handler in logger.handlers):
        logger.addHandler(_LastResort(logging.WARNING))
