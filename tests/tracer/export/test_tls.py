"""OTLP over TLS: the standard variables for certificates mean what they mean everywhere."""

from __future__ import annotations

import http.server
import ssl
import threading

import pytest
from support.app import run_app
from support.certificates import make_certificate

APP = """
import os
import crewmeter
handle = crewmeter.instrument(summary=False)
from crewai import LLM
LLM(model="openai/gpt-4o-mini", base_url=os.environ["PROVIDER_URL"] + "/v1", api_key="k").call("hi")
print(handle.flush(float(os.environ["FLUSH_SECONDS"])))
"""


@pytest.fixture
def collector(tmp_path):
    """An OTLP/HTTP endpoint that wants a client certificate: its URL, what came, both sides'
    certificates.
    """
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            return

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            """Refused handshakes are what is tested."""

    ours = make_certificate(tmp_path, "server")
    theirs = make_certificate(tmp_path, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.certificate, ours.key)
    context.load_verify_locations(theirs.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}", bodies, ours, theirs
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_client_certificate_is_presented(collector, fake_provider, tmp_path):
    """`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` and `…_CLIENT_KEY`. Without them nothing is sent, and
    the app runs all the same.
    """
    url, bodies, ours, theirs = collector
    standard = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(ours.certificate),
        "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
        "FLUSH_SECONDS": "1",
        # The library `requests` lets these win over a session's own certificate.
        "REQUESTS_CA_BUNDLE": "",
        "CURL_CA_BUNDLE": "",
    }
    ledger = tmp_path / "ledger.db"
    ran = run_app(APP, ledger=ledger, provider_url=fake_provider.url, env=standard)
    assert ran.returncode == 0
    assert bodies == []
    client = {
        "FLUSH_SECONDS": "100",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(theirs.certificate),
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(theirs.key),
    }
    ran = run_app(APP, ledger=ledger, provider_url=fake_provider.url, env=standard | client)
    assert ran.stdout.split() == ["True"]
    assert any(b"gpt-4o-mini" in body for body in bodies)
