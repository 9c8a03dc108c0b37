"""Notices reach their webhook signed and once, and never an address inside."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from crewmeter_cost.budgets.webhook import ALLOW_VARIABLE, SECRET_VARIABLE, check_target, post
from crewmeter_cost.errors import CrewMeterError


@pytest.fixture
def receiver():
    """A webhook on loopback that answers with the statuses it was given, then 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.got.append((self.headers, body))
            self.send_response(server.statuses.pop(0) if server.statuses else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.statuses = [], []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def address(server) -> str:
    return f"http://127.0.0.1:{server.server_port}/hook?x=1"


def test_a_notice_is_signed_and_retried_until_accepted(receiver, monkeypatch):
    """Two failures, then success: the third carries a signature the receiver can check."""
    monkeypatch.setenv(ALLOW_VARIABLE, "true")
    monkeypatch.setenv(SECRET_VARIABLE, "shh")
    receiver.statuses = [500, 429]
    assert post(address(receiver), {"percent": 80}, sleep=lambda _: None)
    assert len(receiver.got) == 3
    headers, body = receiver.got[-1]
    stamp, given = (part.partition("=")[2] for part in headers["X-Crewmeter-Signature"].split(","))
    assert given == hmac.new(b"shh", f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert json.loads(body) == {"percent": 80}


def test_an_internal_address_is_refused_unless_allowed(receiver, caplog):
    """Loopback, link-local metadata and private networks are no place for a webhook from a config file."""
    with caplog.at_level(logging.WARNING):
        assert not post(address(receiver), {})
    assert receiver.got == []
    assert "internal address" in caplog.text
    for url in (
        "http://169.254.169.254/latest",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://0.0.0.0/",
    ):
        with pytest.raises(CrewMeterError, match="internal"):
            check_target(url)


def test_a_refusal_is_not_repeated(receiver, monkeypatch, caplog):
    """A 4xx will be a 4xx again."""
    monkeypatch.setenv(ALLOW_VARIABLE, "true")
    receiver.statuses = [404, 404]
    with caplog.at_level(logging.WARNING):
        assert not post(address(receiver), {}, sleep=lambda _: None)
    assert len(receiver.got) == 1


def test_a_webhook_that_hangs_is_given_up(monkeypatch, caplog):
    """Nothing listens with intent to answer: the time is bounded and nothing is raised."""
    import socket

    monkeypatch.setenv(ALLOW_VARIABLE, "true")
    monkeypatch.setattr("crewmeter_cost.budgets.webhook.TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, caplog.at_level(logging.WARNING):
        assert not post(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, sleep=lambda _: None)
    assert "not delivered" in caplog.text


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "not a url", "http://", "http://no-such-host.invalid/"]
)
def test_nonsense_is_refused_by_name(url):
    """The message holds what was written."""
    with pytest.raises(CrewMeterError):
        check_target(url)
