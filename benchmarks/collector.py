"""What the collector costs: spans a second through the gateway collector into the sidecar, beside
the sidecar on its own.

    python benchmarks/collector.py [--seconds 8] [--connections 4]

Both are measured with the same generator and the same durable ledger, one after the other. Through
the collector a span counts when it is in the ledger, not when the collector has acknowledged it.
"""

from __future__ import annotations

import argparse
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from ingest import Sidecar, load, show

ROOT = Path(__file__).parents[1]


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on right now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Gateway:
    """The slim collector with the gateway configuration, in front of a sidecar."""

    def __init__(self, folder: Path, sidecar_port: int) -> None:
        binary = subprocess.run(
            [ROOT / "scripts/build-collector.sh"], check=True, capture_output=True, text=True
        ).stdout.strip()
        self.port, grpc, health, own, apps = free_ports(5)
        environment = {
            "CREWMETER_OTLP_HTTP": f"127.0.0.1:{self.port}",
            "CREWMETER_OTLP_GRPC": f"127.0.0.1:{grpc}",
            "CREWMETER_COLLECTOR_HEALTH": f"127.0.0.1:{health}",
            "CREWMETER_COLLECTOR_METRICS_PORT": str(own),
            "CREWMETER_APP_METRICS": f"127.0.0.1:{apps}",
            "CREWMETER_QUEUE_DIR": str(folder / "queue"),
            "CREWMETER_LEDGER_ENDPOINT": f"http://127.0.0.1:{sidecar_port}",
            "CREWMETER_TRACES_ENDPOINT": "127.0.0.1:1",
            "CREWMETER_TRACE_PERCENT": "0.001",
            "CREWMETER_DECISION_WAIT": "5s",
            "CREWMETER_TOKEN": "benchmark-key",
        }
        configs = [
            f"--config={ROOT / 'collector-config' / name}" for name in ("base.yaml", "gateway.yaml")
        ]
        with (folder / "collector.log").open("wb") as log:
            self.process = subprocess.Popen(
                [binary, *configs], env=os.environ | environment, stdout=log, stderr=log
            )
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{health}/", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(
            "the collector doesn't start: " + (folder / "collector.log").read_text()[-1000:]
        )

    def memory_mb(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return (
            int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
            / 1024
        )

    def stop(self) -> None:
        """SIGTERM and wait."""
        self.process.terminate()
        self.process.wait(30)


def stored(ledger: Path) -> int:
    """Return how many calls are in the ledger."""
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM call").fetchone()[0])


def alone(seconds: float, connections: int) -> float:
    """Spans a second that the sidecar stores by itself."""
    with tempfile.TemporaryDirectory() as folder:
        sidecar = Sidecar(str(Path(folder) / "ledger.db"))
        try:
            load(sidecar.port, 1, connections=connections)
            full = load(sidecar.port, seconds, connections=connections)
        finally:
            sidecar.stop()
    return float(full["spans"]) / float(full["seconds"])


def through(seconds: float, connections: int) -> tuple[float, float, float, int]:
    """Spans a second from the first one sent to the last one stored, memory of collector and
    sidecar (MB), spans missing at the end.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = folder / "ledger.db"
        sidecar = Sidecar(str(ledger))
        gateway = Gateway(folder, sidecar.port)
        try:
            sent = int(load(gateway.port, 1, connections=connections)["spans"])
            while stored(ledger) < sent:
                time.sleep(0.1)
            before, began = stored(ledger), time.monotonic()
            sent += int(load(gateway.port, seconds, connections=connections)["spans"])
            memory = gateway.memory_mb()
            end = time.monotonic() + 120
            while (now := stored(ledger)) < sent and time.monotonic() < end:
                time.sleep(0.1)
            took = time.monotonic() - began
            return (now - before) / took, memory, sidecar.memory_mb(), sent - now
        finally:
            gateway.stop()
            sidecar.stop()


def main() -> int:
    """Run and print; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--connections", type=int, default=4)
    options = parser.parse_args()
    own = alone(options.seconds, options.connections)
    rate, collector_mb, sidecar_mb, missing = through(options.seconds, options.connections)
    print(f"{'sidecar alone':<58} {own:>10,.0f} spans/s")
    met = [
        show(
            "through the gateway collector, into the ledger",
            f"{rate:,.0f} spans/s",
            ">= 70 % of alone",
            met=rate >= 0.7 * own,
        ),
        show(
            "share of the sidecar's own rate", f"{rate / own:.0%}", ">= 70 %", met=rate >= 0.7 * own
        ),
        show("spans missing at the end", f"{missing}", "0", met=missing == 0),
    ]
    print(f"{'':<4}resident memory: collector {collector_mb:.0f} MB, sidecar {sidecar_mb:.0f} MB")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
