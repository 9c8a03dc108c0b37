"""An environment without CrewAI's telemetry, prompts, output and files."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["quiet_crewai"]

_QUIET = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_TESTING": "true",
}


@contextlib.contextmanager
def quiet_crewai(*, with_otel: bool = False) -> Iterator[None]:
    """Keep CrewAI from calling home, asking, printing and leaving files.

    Enter the block before CrewAI is imported.

    CrewAI reads these variables once. ``OTEL_*`` and ``CREWMETER_*`` settings meant for the user's
    own apps are put aside, so that sample data goes to the demo's ledger and nowhere else;
    `with_otel` keeps the ``OTEL_*`` ones, for a demo that is sent to an endpoint.
    """
    before = dict(os.environ)
    level = logging.getLogger("crewai").level
    removed = ("CREWMETER_",) if with_otel else ("OTEL_", "CREWMETER_")
    with tempfile.TemporaryDirectory(
        prefix="crewmeter-demo-", ignore_cleanup_errors=True
    ) as storage:
        for name in [name for name in os.environ if name.startswith(removed)]:
            del os.environ[name]
        os.environ.update(_QUIET, CREWAI_STORAGE_DIR=storage)
        logging.getLogger("crewai").setLevel(logging.CRITICAL)
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                yield
        finally:
            logging.getLogger("crewai").setLevel(level)
            os.environ.clear()
            os.environ.update(before)
