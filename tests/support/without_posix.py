"""Run a crewmeter command as on a system without POSIX: `python without_posix.py report …`.

Takes away what Windows lacks, before anything is imported: fork, its hooks, file locks, the
password database, resource limits, some signals, and an event loop's signal handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

SIGNALS = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")
FUNCTIONS = (
    "fork",
    "register_at_fork",
    "getuid",
    "geteuid",
    "getpgid",
    "posix_fallocate",
    "fchmod",
    "chown",
)
MODULES = ("fcntl", "pwd", "grp", "resource", "termios", "uvloop", "readline")


def refuse(*_: object) -> None:
    """Stand where Windows has no such method."""
    raise NotImplementedError


def take_away() -> None:
    """Remove what is POSIX only."""
    # Python's own subprocess needs these two; it would not on Windows.
    import multiprocessing
    import multiprocessing.util
    import subprocess
    import tempfile

    # CrewAI's locks, which ask for the system's name before they choose how to lock.
    with contextlib.suppress(ImportError):
        import portalocker  # noqa: F401
    assert multiprocessing
    assert subprocess
    assert tempfile
    for name in SIGNALS:
        if hasattr(signal, name):
            delattr(signal, name)
    for name in FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = refuse
    asyncio.SelectorEventLoop.add_signal_handler = refuse


if __name__ == "__main__":
    take_away()
    from crewmeter_cost.cli import main

    sys.argv[0] = "crewmeter"
    main()
