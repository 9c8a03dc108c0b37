"""Run Python programs as `subprocess.run` does, in processes that need no time for imports."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

__all__ = ["run_python"]

SERVER = Path(__file__).with_name("warm_server.py")


class WarmPython:
    """The process that forks the programs; it is started with the first of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def close(self) -> None:
        """End the server."""
        for stream in (self._server.stdin, self._server.stdout):
            stream.close()
        self._server.wait(60)

    def run(
        self, argv: list[str], env: dict[str, str], cwd: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run one program to its end.

        Raises `subprocess.TimeoutExpired` after `timeout` seconds, and kills the program.
        """
        with tempfile.TemporaryDirectory(prefix="crewmeter-warm-") as folder, self._lock:
            outputs = {name: Path(folder, name) for name in ("stdout", "stderr")}
            for path in outputs.values():
                path.touch()
            files = {name: str(path) for name, path in outputs.items()}
            order = {"argv": argv, "env": env, "cwd": cwd, **files}
            self._server.stdin.write(json.dumps(order) + "\n")
            self._server.stdin.flush()
            pid = int(self._server.stdout.readline())
            expired = threading.Event()
            timer = threading.Timer(timeout, self._kill, (pid, expired))
            timer.start()
            code = int(self._server.stdout.readline())
            timer.cancel()
            out, err = (path.read_text("utf-8") for path in outputs.values())
        if expired.is_set():
            raise subprocess.TimeoutExpired(argv, timeout, out, err)
        return subprocess.CompletedProcess(argv, code, out, err)

    @staticmethod
    def _kill(pid: int, expired: threading.Event) -> None:
        expired.set()
        os.kill(pid, signal.SIGKILL)


warm_python = functools.cache(WarmPython)


def run_python(
    *argv: str,
    env: dict[str, str] | None = None,
    cwd: str | Path | None = None,
    python: str = sys.executable,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGV…`` (a script, or ``-c`` and source) and return what it printed.

    Another interpreter, and variables that an interpreter reads at its start, need a fresh process.
    """
    full = dict(os.environ if env is None else env)
    at_start = {name for name in full if name.startswith("PYTHON")}
    changed = {name for name in at_start if full[name] != os.environ.get(name)}
    if python != sys.executable or changed:
        return subprocess.run(
            [python, *argv],
            env=full,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    return warm_python().run(list(argv), full, cwd and str(cwd), timeout)
