"""Forks sidecars on request (one JSON line each on stdin, the child's pid on stdout), so that a
test waits for no imports.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.sidecar import json_logs, server
from crewmeter_cost.sidecar.api_keys import keys_from
from crewmeter_cost.sidecar.settings import Limits, SidecarSettings


def clock_of(path: str | None):
    """The machine's clock, or one that is off by the seconds that a file names now."""
    return (
        time.time_ns
        if path is None
        else lambda: time.time_ns() + int(Path(path).read_text()) * 10**9
    )


def kill_thread(name: str) -> None:
    """Raise SystemExit in a thread, which ends it without a word."""
    for thread in threading.enumerate():
        if thread.name == name:
            number = ctypes.c_ulong(thread.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(SystemExit))


def obey(path: str | None) -> None:
    """On SIGUSR2, kill the thread whose name stands in a file."""
    if path is not None:
        signal.signal(signal.SIGUSR2, lambda *_: kill_thread(Path(path).read_text()))


def child(order: dict) -> None:
    """Become a sidecar."""
    said = os.open(order["said"], os.O_CREAT | os.O_WRONLY)
    log = os.open(order["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(log, 2)
    os.environ.update(order["env"])
    obey(order["victim"])
    json_logs.configure()
    fields = order["settings"]
    limits = Limits(**fields.pop("limits", {}))
    keys = keys_from(fields.pop("token", None), None)
    paths = {
        name: Path(fields.pop(name)) for name in ("certificate", "private_key") if name in fields
    }
    for name, seconds in order["intervals"].items():
        setattr(server, name, seconds)
    settings = SidecarSettings(
        http_port=order["port"],
        grpc_port=0 if order["grpc"] else None,
        ledger=order["ledger"],
        limits=limits,
        keys=keys,
        **paths,
        **fields,
    )
    try:
        server.serve(settings, clock=clock_of(order["clock"]))
    except CrewMeterError as error:
        sys.stderr.write(f"error: {error.message}\n")
        os._exit(error.exit_code)
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child(order)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
