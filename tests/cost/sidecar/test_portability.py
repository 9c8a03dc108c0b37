"""The sidecar on systems that lack what POSIX has: signals, and an event loop's handlers."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request

import pytest

WITHOUT_POSIX = """
    import asyncio, os, signal, sys

    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            delattr(signal, name)
    for name in ("fork", "register_at_fork", "getuid", "geteuid", "getpgid"):
        if hasattr(os, name):
            delattr(os, name)
    for name in ("fcntl", "pwd", "grp", "resource", "termios"):
        sys.modules[name] = None

    def refuse(*_):
        raise NotImplementedError

    asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = refuse
    asyncio.SelectorEventLoop.add_signal_handler = refuse
    try:
        import uvloop
        sys.modules["uvloop"] = None
    except ImportError:
        pass

    from crewmeter_cost.cli import main
    sys.argv = ["crewmeter", "serve", "--http-port", "0", "--no-grpc", "--ledger", sys.argv[1]]
    main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_runs_and_stops_without_posix(tmp_path, number):
    """No SIGHUP, no fork, no `add_signal_handler`: it serves, and ends in order by a signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_POSIX), str(tmp_path / "ledger.db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert "ready" in line, process.stderr.read()
        address = next(word for word in line.split() if word.startswith("http://")).strip(",")
        with urllib.request.urlopen(f"{address}/readyz", timeout=60) as answer:
            assert answer.read() == b"ready\n"
        process.send_signal(number)
        deadline = time.monotonic() + 60
        while process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        errors = process.stderr.read()
        assert process.returncode == 0, errors
        assert "is at its location" in errors
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_a_signal_that_does_not_exist_is_left_out():
    """Windows has no SIGHUP."""
    from crewmeter_cost.sidecar.server import _on_signal

    loop = asyncio.new_event_loop()
    try:
        _on_signal(loop, "SIGNONE", lambda: None)
    finally:
        loop.close()
