"""The sidecar's log: one JSON object a line on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
import time

__all__ = ["configure"]

LEVEL_VARIABLE = "CREWMETER_LOG_LEVEL"


class _JsonLines(logging.Formatter):
    """Formats a record as one line. A traceback, if any, is a field of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = time.strftime(
            "%Y-%m-%dT%H:%M:%S",
            time.gmtime(record.created),
        )
        line: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure() -> None:
    """Send crewmeter's log, and everybody else's warnings, to stderr as JSON lines.

    ``CREWMETER_LOG_LEVEL`` sets crewmeter's level: debug, info (default), warning, error.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    name = os.environ.get(LEVEL_VARIABLE, "").strip().upper()
    level = logging.getLevelNamesMapping().get(name)
    for logger_name, threshold in (
        ("crewmeter", level or logging.INFO),
        ("uvicorn", logging.WARNING),
    ):
        logger = logging.getLogger(logger_name)
        logger.handlers = []
        logger.setLevel(threshold)
        logger.propagate = True
    if name and level is None:
        logging.getLogger("crewmeter.sidecar").warning(
            "%s=%s is no level: choose debug, info, warning or error", LEVEL_VARIABLE, name.lower()
        )
