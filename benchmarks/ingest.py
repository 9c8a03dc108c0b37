"""Durable ingest: how many LLM spans a second a sidecar acknowledges after fsync, load generator
included.

    python benchmarks/ingest.py [--seconds 15] [--spans N] [--ledger URL] [--connections 8]

Starts a real `crewmeter serve` on loopback and sends it requests of 512 spans over keep-alive HTTP
from a process of its own, with full synchronisation to disk. Three measurements: as fast as it
goes; at half that load, the time to each acknowledgement; and raw ``sqlite3.executemany`` into
tables with the same indexes. `--spans 5000000` is the soak: it runs until so many spans are in,
and reports how memory moved.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import secrets
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from crewmeter import semconv

BATCH = 512
MODELS = [
    ("openai", "gpt-5"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gcp.gemini", "gemini-2.5-flash"),
]
CREWS = ["research", "support", "sales", "billing"]
MARKER = b"RESPONSE-ID-------------"  # 24 bytes, replaced per span
TRACE, SPAN = b"T" * 16, b"S" * 8


def template() -> list[bytes]:
    """Return a serialised request of 512 LLM spans as the tracer writes them, cut where the ids
    go.
    """
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    pair = group.resource.attributes.add()
    pair.key, pair.value.string_value = semconv.SERVICE_NAME, "benchmark"
    scoped = group.scope_spans.add()
    scoped.scope.name = semconv.SCOPE
    now = time.time_ns()
    for number in range(BATCH):
        provider, model = MODELS[number % len(MODELS)]
        span = scoped.spans.add(
            trace_id=TRACE, span_id=SPAN, parent_span_id=b"\1" * 8, name=f"chat {model}"
        )
        span.start_time_unix_nano = now - (number % 40 + 1) * 50_000_000
        span.end_time_unix_nano = now
        crew = CREWS[number % len(CREWS)]
        values = {
            semconv.OPERATION: "chat",
            semconv.PROVIDER: provider,
            semconv.REQUEST_MODEL: model,
            semconv.RESPONSE_MODEL: model,
            semconv.RESPONSE_ID: MARKER.decode(),
            semconv.INPUT_TOKENS: 500 + number % 97,
            semconv.OUTPUT_TOKENS: 100 + number % 31,
            semconv.CACHE_READ_TOKENS: 64 * (number % 3),
            semconv.USAGE_STATUS: "reported",
            semconv.USAGE_SOURCE: "wire",
            semconv.KIND: semconv.KIND_LLM,
            semconv.RUN_ID: f"{number % 16:016x}",
            semconv.RUN_KIND: "crew",
            semconv.RUN_NAME: crew,
            semconv.CREW: crew,
            semconv.TASK: f"task {number % 5}",
            semconv.AGENT_NAME: f"agent {number % 6}",
            semconv.USER: f"user {number % 50}",
            semconv.TEAM: f"team {number % 4}",
            semconv.TAG_PREFIX + "env": "prod",
            semconv.CALL_ORIGIN: "event",
        }
        for key, value in values.items():
            pair = span.attributes.add()
            pair.key = key
            if isinstance(value, int):
                pair.value.int_value = value
            else:
                pair.value.string_value = value
    return re.split(b"(" + TRACE + b"|" + SPAN + b"|" + MARKER + b")", request.SerializeToString())


def filled(parts: list[bytes], ids: dict[bytes, int]) -> bytes:
    """Return the template with fresh ids."""
    random = secrets.token_bytes(BATCH * 48)
    hexed = random[BATCH * 24 :].hex().encode()
    made, at, text_at = [], 0, 0
    for part in parts:
        if part == MARKER:
            made.append(hexed[text_at : text_at + 24])
            text_at += 24
        elif part in ids:
            made.append(random[at : at + ids[part]])
            at += ids[part]
        else:
            made.append(part)
    return b"".join(made)


def send(
    port: int, seconds: float, pause: float, offset: float, spans: int, out: dict[str, object]
) -> None:
    """One connection: request after request, each `pause` seconds after the last one began, until
    time or spans are used up.

    Independent senders do not send in step: the first request goes out `offset` seconds late.
    """
    parts, ids = template(), {TRACE: 16, SPAN: 8}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    latencies, sent, retried = [], 0, 0
    end = time.monotonic() + seconds
    due = time.monotonic() + offset
    time.sleep(offset)
    while time.monotonic() < end and sent < spans:
        body = filled(parts, ids)
        while True:
            began = time.monotonic()
            connection.request(
                "POST", "/v1/traces", body, {"content-type": "application/x-protobuf"}
            )
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                break
            retried += 1
            time.sleep(0.05)
        latencies.append(time.monotonic() - began)
        sent += BATCH
        if pause:
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))
    out.update(sent=sent, latencies=latencies, retried=retried)


def load(
    port: int, seconds: float, *, connections: int, rate: float = 0.0, spans: int = 10**12
) -> dict[str, object]:
    """Send from a process of its own.

    `rate` is spans a second, 0 for as fast as they are acknowledged.
    """
    arguments = [
        sys.executable,
        __file__,
        "--send",
        str(port),
        str(seconds),
        str(connections),
        str(rate),
        str(spans),
    ]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def run_senders(port: int, seconds: float, connections: int, rate: float, spans: int) -> None:
    """Run the load generator, in a process of its own."""
    outs: list[dict[str, object]] = [{} for _ in range(connections)]
    pause = connections * BATCH / rate if rate else 0.0
    threads = [
        threading.Thread(
            target=send,
            args=(port, seconds, pause, pause * number / connections, spans // connections, out),
        )
        for number, out in enumerate(outs)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    latencies = sorted(latency for out in outs for latency in out["latencies"])
    print(
        json.dumps(
            {
                "spans": sum(out["sent"] for out in outs),
                "seconds": took,
                "retried": sum(out["retried"] for out in outs),
                "p50_ms": statistics.median(latencies) * 1e3,
                "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
                "cpu_seconds": time.process_time(),
            }
        )
    )


class Sidecar:
    """A `crewmeter serve` process."""

    def __init__(self, ledger: str) -> None:
        command = [
            str(Path(sys.executable).with_name("crewmeter")),
            "serve",
            "--http-port",
            "0",
            "--no-grpc",
            "--ledger",
            ledger,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.search(r"http://127.0.0.1:(\d+)", line)[1])

    def memory_mb(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def cpu_seconds(self) -> float:
        """Processor time used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """SIGTERM and wait."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def raw_sqlite(path: Path, seconds: float) -> float:
    """Rows a second of plain ``executemany`` in transactions of 512, synchronous FULL, into our
    `call` table with its indexes.
    """
    from crewmeter_cost.ledger.store import Ledger

    Ledger.open(str(path), durable=True).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    columns = [row for row in connection.execute("PRAGMA table_info(call)") if row[1] != "id"]
    names = ", ".join(f'"{row[1]}"' for row in columns)
    statement = f"INSERT INTO call ({names}) VALUES ({', '.join('?' * len(columns))})"
    ids = {"trace_id": 16, "span_id": 8}

    def row(number: int) -> list[object]:
        values: list[object] = []
        for column in columns:
            name, kind = column[1], column[2]
            unique = name in ("response_key", "started_ns") or (
                name == "response_id" and kind != "TEXT"
            )
            values.append(
                secrets.token_bytes(ids[name])
                if name in ids
                else secrets.token_hex(12)
                if name == "response_id"
                else int.from_bytes(secrets.token_bytes(7))
                if unique
                else "x"
                if kind == "TEXT"
                else number % 16
            )
        return values

    rows, end, spent = 0, time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        batch = [row(number) for number in range(BATCH)]
        began = time.monotonic()
        connection.execute("BEGIN")
        connection.executemany(statement, batch)
        connection.execute("COMMIT")
        spent += time.monotonic() - began
        rows += BATCH
    connection.close()
    return rows / spent


def keep_alive(port: int, times: int = 200) -> dict[str, tuple[float, float]]:
    """Return path → (median, p95) in ms of requests on one connection, one after the other."""
    request = ExportTraceServiceRequest.FromString(filled(template(), {TRACE: 16, SPAN: 8}))
    spans = request.resource_spans[0].scope_spans[0].spans
    del spans[1:]
    requests = {
        "/healthz": ("GET", None),
        "/api/report": ("GET", None),
        "/v1/traces": ("POST", request.SerializeToString()),
    }
    head = {"content-type": "application/x-protobuf"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = {}
    for path, (method, content) in requests.items():
        took = []
        for _ in range(times):
            began = time.perf_counter()
            connection.request(method, path, content, head)
            connection.getresponse().read()
            took.append((time.perf_counter() - began) * 1e3)
        found[path] = (statistics.median(took), sorted(took)[int(times * 0.95)])
    connection.close()
    return found


def show(name: str, value: str, limit: str, *, met: bool) -> bool:
    """One line of the table."""
    print(f"{name:<58} {value:>16}   {limit:<22} {'ok' if met else 'MISSED'}")
    return met


def main() -> int:
    """Run and print; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--spans", type=int, default=0, help="soak until so many spans are in")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--ledger", help="default: a new SQLite file")
    parser.add_argument("--folder", default=None, help="where the SQLite file goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        sidecar = Sidecar(options.ledger or str(Path(folder) / "ledger.db"))
        try:
            load(sidecar.port, 2, connections=options.connections)
            memory, cpu = sidecar.memory_mb(), sidecar.cpu_seconds()
            seconds, spans = (86_400, options.spans) if options.spans else (options.seconds, 10**12)
            full = load(sidecar.port, seconds, connections=options.connections, spans=spans)
            cpu = sidecar.cpu_seconds() - cpu
            rate = full["spans"] / full["seconds"]
            grown = sidecar.memory_mb() - memory
            half = load(
                sidecar.port, options.seconds, connections=options.connections, rate=rate / 2
            )
            resident = sidecar.memory_mb()
            alone = keep_alive(sidecar.port)
        finally:
            sidecar.stop()
        raw = (
            raw_sqlite(Path(folder) / "raw.db", min(options.seconds, 5.0))
            if not options.ledger
            else 0.0
        )
    bound = (
        not options.ledger
    )  # the limits are for SQLite; for another database the numbers are what they are
    met = [
        show(
            "durable ingest, requests of 512",
            f"{rate:,.0f} spans/s",
            ">= 15,000 spans/s",
            met=rate >= 15_000 or not bound,
        )
    ]
    own, generators = cpu / full["spans"] * 1e6, full["cpu_seconds"] / full["spans"] * 1e6
    print(f"    µs/span of processor time: sidecar {own:.1f}, generator {generators:.1f}")
    print(
        f"{'':<4}p50 {full['p50_ms']:.0f} ms, p99 {full['p99_ms']:.0f} ms, {full['retried']} "
        "retries"
    )
    if raw:
        met.append(
            show(
                "share of raw sqlite3.executemany",
                f"{rate / raw:.0%} of {raw:,.0f}",
                ">= 25 %",
                met=rate / raw >= 0.25,
            )
        )
    met.append(
        show(
            "acknowledgement at half load, p99",
            f"{half['p99_ms']:.0f} ms",
            "< 250 ms",
            met=half["p99_ms"] < 250 or not bound,
        )
    )
    for path, (median, p95) in alone.items():
        # With Nagle's algorithm every one of them took at least 40 ms.
        met.append(
            show(
                f"keep-alive {path}, median",
                f"{median:.1f} ms (p95 {p95:.1f})",
                "< 40 ms",
                met=median < 40,
            )
        )
    met.append(
        show("resident memory", f"{resident:.0f} MB ({grown:+.0f})", "< 300 MB", met=resident < 300)
    )
    return 0 if all(met) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        port, seconds, connections, rate, spans = sys.argv[2:]
        run_senders(int(port), float(seconds), int(connections), float(rate), int(spans))
    else:
        sys.exit(main())
