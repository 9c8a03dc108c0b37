"""The parts of a real pipeline on loopback: the collector and the two ends it sends to."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import zstandard
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.paths import ROOT
from support.ports import free_ports

CONFIGS = ROOT / "collector-config"


def wait_until(fact, *, seconds: float = 120, what: str = "") -> None:
    """Wait for `fact()` to be true.

    Fail naming `what` when it stays false for `seconds`.
    """
    end = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what or fact}")
        time.sleep(0.05)


def post(
    url: str, body: bytes, *, content_type: str = "application/x-protobuf", token: str | None = None
) -> int:
    """POST `body`.

    The HTTP status, whatever it is.
    """
    request = urllib.request.Request(url, data=body, headers={"Content-Type": content_type})
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def answers(url: str) -> bool:
    """Whether `url` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status == 200
    except OSError:
        return False


class Collector:
    """One collector process on ports and a queue of its own.

    `kill` is ``kill -9``, and `start` starts it again on the same queue.
    """

    def __init__(self, binary: str, folder: Path, *overlays: str, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.binary, self.overlays = binary, overlays
        self.log = folder / "log"
        grpc_port, http_port, health, metrics, app_metrics = free_ports(5)
        self.http, self.grpc = f"http://127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}"
        self._health, self._metrics = (
            f"http://127.0.0.1:{health}/",
            f"http://127.0.0.1:{metrics}/metrics",
        )
        self.app_metrics = f"http://127.0.0.1:{app_metrics}/metrics"
        self.environment = {
            "CREWMETER_OTLP_GRPC": self.grpc,
            "CREWMETER_OTLP_HTTP": f"127.0.0.1:{http_port}",
            "CREWMETER_COLLECTOR_HEALTH": f"127.0.0.1:{health}",
            "CREWMETER_COLLECTOR_METRICS_PORT": str(metrics),
            "CREWMETER_APP_METRICS": f"127.0.0.1:{app_metrics}",
            "CREWMETER_QUEUE_DIR": str(folder / "queue"),
            "CREWMETER_TOKEN": "a-key-for-tests",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Collector:
        configs = [f"--config={CONFIGS / name}.yaml" for name in ("base", *self.overlays)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, *configs], env=os.environ | self.environment, stdout=log, stderr=log
            )
        wait_until(
            lambda: self._ended() or answers(self._health),
            what=f"collector {self.overlays} up; see its log",
        )
        assert not self._ended(), self.log.read_text()[-3000:]
        return self

    def _ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait.

        A second call does nothing.
        """
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the collector's own metric `name` over the series that carry `labels`."""
        with urllib.request.urlopen(self._metrics, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.split("{")[0].split(" ")[0] == name and all(label in line for label in wanted)
        )


class Sink:
    """An OTLP/HTTP end that keeps what it is sent: spans, and the raw bytes.

    `status` is what it answers.
    """

    def __init__(self, port: int = 0) -> None:
        self.status, self.bodies, self.keys, self.refused = 200, [], [], 0
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                match self.headers.get("Content-Encoding"):
                    case "gzip":
                        body = gzip.decompress(body)
                    case "zstd":
                        body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
                if sink.status == 200:
                    sink.bodies.append(body)
                    sink.keys.append(self.headers.get("Authorization"))
                else:
                    sink.refused += 1
                self.send_response(sink.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def spans(self) -> list[Span]:
        """Every span received, duplicates included."""
        return [span for body in list(self.bodies) for span in spans_in(body)]

    @property
    def calls(self) -> set[str]:
        """Span ids of the billed calls received."""
        return {
            span.span_id.hex()
            for span in self.spans
            if value_of(span, "gen_ai.operation.name") == "chat"
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class TraceBackend(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP/gRPC end such as Tempo's.

    Keeps what it is sent.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request, context):
        self.bodies.append(request.SerializeToString())
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        return [span for body in list(self.bodies) for span in spans_in(body)]

    def close(self) -> None:
        self._server.stop(0).wait()


def spans_in(body: bytes) -> list[Span]:
    """The spans of one OTLP request."""
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    return [
        span
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def value_of(span: Span, key: str) -> object:
    """The attribute `key` of a span as text, number or bool.

    None when absent.
    """
    for pair in span.attributes:
        if pair.key == key:
            return getattr(pair.value, pair.value.WhichOneof("value"))
    return None
