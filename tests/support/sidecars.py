"""Real sidecars for tests.

Forked from a process that has imported everything, listening on loopback, killed by their pid.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PROTOBUF = {"content-type": "application/x-protobuf"}


def request(
    count: int = 1, *, spans: list[tuple[bytes, bytes]] | None = None, **attributes: object
) -> bytes:
    """An OTLP request with `count` billed spans (or those with the given ids) as crewmeter's
    tracer writes them.
    """
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    pair = group.resource.attributes.add()
    pair.key, pair.value.string_value = "service.name", "tests"
    scoped = group.scope_spans.add()
    scoped.scope.name = "crewmeter"
    values = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
        "crewmeter.kind": "llm",
        **attributes,
    }
    now = time.time_ns()
    for trace_id, span_id in spans or [
        (secrets.token_bytes(16), secrets.token_bytes(8)) for _ in range(count)
    ]:
        span = scoped.spans.add(
            trace_id=trace_id,
            span_id=span_id,
            name="chat",
            start_time_unix_nano=now - 10**9,
            end_time_unix_nano=now,
        )
        for key, value in values.items():
            pair = span.attributes.add()
            pair.key = key
            if isinstance(value, int):
                pair.value.int_value = value
            else:
                pair.value.string_value = str(value)
    return made.SerializeToString()


class Answer:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


class Running:
    """A sidecar that has said it is ready."""

    def __init__(self, pid: int, port: int, grpc_port: int | None, ledger: Path, log: Path) -> None:
        self.pid, self.port, self.grpc_port, self.ledger, self._log = (
            pid,
            port,
            grpc_port,
            ledger,
            log,
        )
        self.ended = False

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.ended:
            self.kill()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def post(self, body: bytes, **headers: str) -> Answer:
        """Send spans."""
        return self.ask(
            "POST",
            "/v1/traces",
            body,
            PROTOBUF | {name.replace("_", "-"): value for name, value in headers.items()},
        )

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def metric(self, line: str) -> float:
        """The value of one series, given as it stands on the page; 0 where it does not."""
        found = re.search(rf"^{re.escape(line)} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def stored(self) -> list[tuple[bytes, bytes]]:
        """(trace id, span id) of every call in the ledger."""
        connection = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)
        try:
            return connection.execute("SELECT trace_id, span_id FROM call").fetchall()
        finally:
            connection.close()

    @contextmanager
    def locked(self):
        """Hold the ledger's write lock."""
        holder = sqlite3.connect(self.ledger, isolation_level=None)
        try:
            holder.execute("BEGIN IMMEDIATE")
            yield
        finally:
            holder.close()

    def kill_thread(self, name: str) -> None:
        """Have the thread of that name end as if by SystemExit."""
        self.ledger.with_name("victim").write_text(name)
        os.kill(self.pid, signal.SIGUSR2)

    def memory_mb(self) -> float:
        """Most memory it has held so far."""
        return (
            int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())[1])
            / 1024
        )

    def log(self) -> list[dict[str, object]]:
        """What it logged."""
        return [json.loads(line) for line in self.raw_log().splitlines() if line.startswith("{")]

    def raw_log(self) -> str:
        """All that came on its standard error."""
        return self._log.read_text()

    def terminate(self, seconds: float = 60) -> None:
        """SIGTERM, and wait for the end."""
        os.kill(self.pid, signal.SIGTERM)
        end = time.monotonic() + seconds
        while Path(f"/proc/{self.pid}").exists():
            assert time.monotonic() < end, "the sidecar did not stop"
            time.sleep(0.01)
        self.ended = True

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        os.kill(self.pid, signal.SIGKILL)
        while Path(f"/proc/{self.pid}").exists():
            time.sleep(0.002)
        self.ended = True


class Nursery:
    """A process that has imported the sidecar and forks one on request."""

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("spawner.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def start(
        self,
        ledger: Path,
        *,
        url: str | None = None,
        port: int = 0,
        grpc: bool = False,
        env: dict[str, str] | None = None,
        clock: Path | None = None,
        intervals: dict[str, float] | None = None,
        **settings: object,
    ) -> Running:
        """A sidecar on the file `ledger` or the database at `url`; `settings` are fields of
        `Settings`, `limits` a dict of `Limits`.

        `clock` is a file with the seconds by which its clock is off; `intervals` says how often
        (seconds) it does a chore, by the name of the constant of the module `server`.
        """
        said = ledger.parent / f"said-{secrets.token_hex(4)}"
        log = ledger.parent / f"log-{secrets.token_hex(4)}"
        order = {
            "ledger": url or str(ledger),
            "port": port,
            "grpc": grpc,
            "env": env or {},
            "intervals": intervals or {},
            "settings": settings,
        }
        order |= {"clock": clock and str(clock), "victim": str(ledger.parent / "victim")}
        order |= {"said": str(said), "log": str(log)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        end = time.monotonic() + 120
        while not (said.exists() and said.read_text().endswith("\n")):
            if time.monotonic() > end or not Path(f"/proc/{pid}").exists():
                raise AssertionError(log.read_text())
            time.sleep(0.005)
        line = said.read_text()
        http_port = re.search(r"https?://[^ ]+:(\d+)", line)
        grpc_port = re.search(r"OTLP/gRPC [^ ]+:(\d+)", line)
        return Running(
            pid, int(http_port[1]), int(grpc_port[1]) if grpc_port else None, ledger, log
        )
