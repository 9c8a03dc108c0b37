"""A sidecar of one's own, and what its ledger exports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = str(Path(sys.executable).with_name("crewmeter"))
_START_SECONDS = 90


@contextmanager
def running_sidecar(ledger: str, home: Path) -> Iterator[str]:
    """Run ``crewmeter serve`` on free ports, and yield its URL."""
    http = free_port()
    grpc = free_port()
    options = ["--http-port", str(http), "--grpc-port", str(grpc), "--ledger", ledger]
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("CREWMETER_PRICES", None)
    log = (home / "serve.log").open("wb")
    process = subprocess.Popen(
        [COMMAND, "serve", *options], stdout=log, stderr=subprocess.STDOUT, env=environment
    )
    url = f"http://127.0.0.1:{http}"
    try:
        _wait(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=2)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the sidecar did not start")


def exported(ledger: str) -> list[dict[str, Any]]:
    """Return the rows of ``crewmeter export``."""
    done = subprocess.run(
        [COMMAND, "export", "--ledger", ledger, "--format", "jsonl"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
