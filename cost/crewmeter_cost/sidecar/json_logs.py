"""The sidecar's log: one JSON object a line on stderr, for whatever collects a container's logs."""

from __future__ import annotations

import json
import logging
import os
import sys
import time

__all__ = ["configure"]


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback, if any, is a field of it."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
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
    """Send what crewmeter logs, and everybody else's warnings, to stderr as JSON lines; ``CREWMETER_LOG`` sets crewmeter's level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    level = logging.getLevelNamesMapping().get(
        os.environ.get("CREWMETER_LOG", "").upper(), logging.INFO
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name, threshold in (("crewmeter", level), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.setLevel(threshold)
        logger.propagate = True
