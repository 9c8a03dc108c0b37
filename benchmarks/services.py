"""The ends of a benchmark, each in a process of its own: a fake provider, and a sink for telemetry.

``services.py provider`` and ``services.py sink`` print their address and run until stdin closes. A
second port of each answers with what it counted, so that a benchmark can compare the two.
"""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Service", "silent_endpoint", "started"]

# Names under which instrumentors report what a model call used, the first that is there counts.
INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
OUTPUT = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
)
COST = ("gen_ai.usage.cost", "operation.cost", "llm.cost.total")
# Spans that repeat what the model calls under them used, by what marks them.
ROLL_UPS = {"invoke_agent", "invoke_workflow", "create_agent", "execute_tool", "AGENT", "CHAIN"}
KINDS = ("gen_ai.operation.name", "openinference.span.kind")


@dataclass(frozen=True)
class Service:
    """A running end: where its clients go, and where its counts are read."""

    url: str
    control: str

    def counts(self) -> dict[str, float]:
        """Return what it counted since the last call."""
        with urllib.request.urlopen(self.control, timeout=60) as answer:
            return json.load(answer)


@contextmanager
def started(kind: str):
    """Start the `provider` or the `sink`; gives a `Service`."""
    process = subprocess.Popen(
        [sys.executable, __file__, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Service(*process.stdout.readline().split())
    finally:
        process.stdin.close()
        process.wait(timeout=60)


@contextmanager
def silent_endpoint():
    """Give the URL of a port that accepts no connection and answers nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for filler in fillers:
                filler.close()


def attribute(attributes: dict[str, object], names: tuple[str, ...]) -> object:
    """Return the first of several attributes that a span has, or None."""
    return next((attributes[name] for name in names if name in attributes), None)


def add_spans(counts: dict[str, float], body: bytes) -> None:
    """Add what the model calls in an OTLP request used."""
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                add_span(counts, span)


def add_span(counts: dict[str, float], span) -> None:
    """Add one span."""
    counts["spans"] += 1
    attributes = {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
        for pair in span.attributes
    }
    if attribute(attributes, KINDS) in ROLL_UPS:
        return
    used = attribute(attributes, INPUT)
    if used is None:
        return
    counts["calls"] += 1
    counts["input"] += float(used)
    counts["output"] += float(attribute(attributes, OUTPUT) or 0)
    counts["cost_usd"] += float(attribute(attributes, COST) or 0)


class Sink(BaseHTTPRequestHandler):
    """Accepts any telemetry and counts the spans of OTLP requests."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    counts: dict[str, float]

    def read_body(self) -> bytes:
        """Read a body with a length or in chunks."""
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def do_POST(self) -> None:
        body = self.read_body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        protobuf = "protobuf" in self.headers.get("Content-Type", "")
        if protobuf and self.path.endswith("/traces"):
            with self.lock:
                add_spans(type(self).counts, body)
        self.answer(b"" if protobuf else b"{}")

    do_PUT = do_PATCH = do_POST

    def do_GET(self) -> None:
        self.answer(b"{}")

    def answer(self, body: bytes) -> None:
        """Answer 200."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve_counts(take) -> str:
    """Serve what `take` returns as JSON, and return the address."""

    class Control(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(take()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Control)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def new_counts() -> dict[str, float]:
    """Return counts at zero."""
    return dict.fromkeys(("spans", "calls", "input", "output", "cost_usd"), 0.0)


def run_sink() -> None:
    """Run the sink until stdin closes."""
    Sink.counts = new_counts()

    def take() -> dict[str, float]:
        with Sink.lock:
            taken, Sink.counts = Sink.counts, new_counts()
        return taken

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", serve_counts(take), flush=True)
    sys.stdin.read()


def run_provider() -> None:
    """Run the fake provider until stdin closes; its prices are those the tests wrote by hand."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.invoice import expected_pusd  # rates written by hand

    from crewmeter_cost.demo.fake_provider import FakeProvider

    def take() -> dict[str, float]:
        counts = new_counts()
        for entry in server.billing_log.billed:
            counts["calls"] += 1
            counts["input"] += entry.usage.input or 0
            counts["output"] += entry.usage.output or 0
            counts["cost_usd"] += (expected_pusd(entry) or 0) / 1e12
        server.billing_log.clear()
        return counts

    with FakeProvider() as server:
        print(server.base_url("openai"), serve_counts(take), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    {"sink": run_sink, "provider": run_provider}[sys.argv[1]]()
