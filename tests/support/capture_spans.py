"""Capture the golden fixtures: a real crew under every foreign instrumentor, its OTLP requests
stored as JSON.

    python tests/support/capture_spans.py NAME=PYTHON …

NAME is a function of `capture_crew.py`, PYTHON the interpreter of an environment that has crewai
and these packages:

    openinference      openinference-instrumentation-crewai openinference-instrumentation-openai
    openllmetry        opentelemetry-instrumentation-crewai opentelemetry-instrumentation-openai
    genai, genai_old   opentelemetry-instrumentation-openai-v2 opentelemetry-util-genai==0.4b0
    openlit            openlit
    logfire            logfire pydantic-ai-slim[openai]     (and pydantic_ai)
    litellm            crewai[litellm] opentelemetry-exporter-otlp-proto-http
    langfuse           langfuse
    crewai_native      crewai[google-genai,bedrock]

Each fixture holds what the fake provider billed (``billed``) beside the requests (``requests``).
Contents are cut short, counts are not.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from crewmeter_cost.demo.fake_provider import FakeProvider
from support.paths import SPAN_FIXTURES, TESTS

LONGEST = 160
STORED_RESPONSES = ("output.value", "mlflow.spanOutputs")


class Receiver(BaseHTTPRequestHandler):
    """Answers yes to everything and keeps what looks like OTLP traces."""

    bodies: list[bytes]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path.endswith("/v1/traces"):
            self.server.bodies.append(body)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def _body(self) -> bytes:
        """The request's body, which Node sends in chunks."""
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: object) -> None: ...


def shortened(node: object) -> object:
    """The JSON with long texts cut.

    Fixtures are about names and counts, so an attribute about usage stays whole. So does the
    answer, in which some instrumentors have its id.
    """
    if isinstance(node, dict):
        return (
            node
            if "usage" in str(node.get("key")) or node.get("key") in STORED_RESPONSES
            else {key: shortened(value) for key, value in node.items()}
        )
    if isinstance(node, list):
        return [shortened(item) for item in node]
    return node[:LONGEST] + "…" if isinstance(node, str) and len(node) > LONGEST else node


def as_json(body: bytes) -> dict[str, object]:
    """An OTLP/JSON request (hex ids) of a protobuf one, without events, links and process facts."""
    request = ExportTraceServiceRequest.FromString(body)
    document = MessageToDict(request, use_integers_for_enums=True)
    for group, made in zip(document["resourceSpans"], request.resource_spans, strict=True):
        keep = (
            "service.name",
            "deployment.environment",
            "deployment.environment.name",
            "telemetry.sdk.name",
            "telemetry.distro.name",
        )
        group["resource"]["attributes"] = [
            pair for pair in group["resource"].get("attributes", []) if pair["key"] in keep
        ]
        for scoped, made_scoped in zip(group["scopeSpans"], made.scope_spans, strict=True):
            for span, made_span in zip(scoped["spans"], made_scoped.spans, strict=True):
                span.pop("events", None)
                span.pop("links", None)
                span["attributes"] = [
                    pair
                    for pair in span.get("attributes", [])
                    if not pair["key"].endswith(".embedding.vector")
                ]
                for name, value in (
                    ("traceId", made_span.trace_id),
                    ("spanId", made_span.span_id),
                    ("parentSpanId", made_span.parent_span_id),
                ):
                    if value:
                        span[name] = value.hex()
    return shortened(document)


def capture(name: str, python: str) -> None:
    """Run the crew under one instrumentor and write ``fixtures/NAME.json``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.bodies = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with FakeProvider() as fake_provider, tempfile.TemporaryDirectory() as home:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "CREWAI_STORAGE_DIR": home,
            "CREWAI_DISABLE_TELEMETRY": "true",
            "CREWAI_TRACING_ENABLED": "false",
            "CREWAI_TESTING": "true",
            "OPENAI_BASE_URL": fake_provider.base_url("openai"),
            "OPENAI_API_KEY": "sk-fake",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": fake_provider.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        }
        done = subprocess.run(
            [python, str(TESTS / "support/capture_crew.py"), name],
            env=env,
            capture_output=True,
            text=True,
            timeout=900,
            cwd=home,
        )
        billed = [asdict(entry) for entry in fake_provider.billing_log.billed]
    server.shutdown()
    requests = [as_json(body) for body in server.bodies]
    spans = sum(
        len(scoped["spans"])
        for request in requests
        for group in request["resourceSpans"]
        for scoped in group["scopeSpans"]
    )
    print(f"{name}: exit {done.returncode}, {len(billed)} billed, {spans} spans")
    if done.returncode:
        print(done.stderr[-2000:])
    if spans:
        document = {"billed": billed, "requests": requests}
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
        for start in (
            '{"traceId"',
            '"requests":',
            '{"number"',
        ):  # one span, one billed exchange a line
            text = text.replace(start, "\n" + start)
        (SPAN_FIXTURES / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        capture(*argument.split("=", 1))
