"""`crewmeter serve` as one more part.

A process on a port and a ledger of its own that can be stopped and started again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.collector_parts import answers, wait_until
from support.ports import free_ports

__all__ = ["KEY", "Sidecar"]

KEY = "a-key-for-tests"


class Sidecar:
    """One sidecar.

    `start` again after `stop` or `kill` uses the same ledger and port.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.ledger, self.log = folder / "ledger.db", folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Sidecar:
        command = [
            Path(sys.executable).with_name("crewmeter"),
            "serve",
            "--http-port",
            str(self.port),
            "--no-grpc",
        ]
        environment = os.environ | {"CREWMETER_LEDGER": str(self.ledger), "CREWMETER_TOKEN": KEY}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until(
            lambda: self.process.poll() is not None or answers(f"{self.url}/readyz"),
            what="sidecar ready; see its log",
        )
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)
            self.process = None

    def report(self, *by: str) -> dict:
        """What `crewmeter report` says of the ledger."""
        grouping = [word for key in by or ("model",) for word in ("--by", key)]
        command = [
            Path(sys.executable).with_name("crewmeter"),
            "report",
            *grouping,
            "--ledger",
            str(self.ledger),
            "--format",
            "json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def calls(self) -> int:
        """Billed calls in the ledger, by asking the report.

        0 while there is none.
        """
        return self.report()["total"]["calls"] if self.ledger.exists() else 0
