"""Notices reach their webhook signed and once, and never an address inside."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from support.patience import patience

from crewmeter_cost.budgets.webhook import (
    ALLOW_VARIABLE,
    SECRET_VARIABLE,
    check_target,
    is_public,
    post,
)
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
    """Loopback, link-local metadata and private networks are no target for a webhook from a config
    file.
    """
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


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.9",
        "192.88.99.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "::",
        "::1",
        "::7f00:1",
        "::a9fe:a9fe",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001::1",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_an_address_inside_is_not_public(address):
    """Loopback, private, metadata, multicast, and what a gateway turns into one of them."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_an_address_on_the_internet_is_public(address):
    """Ordinary hosts are reached."""
    assert is_public(ipaddress.ip_address(address))


# A busy machine reads the status line within four seconds.
@pytest.mark.parametrize(("first", "seconds"), [(b"", 0.5), (b"HTTP/1.1 200 OK\r\nx: ", 4)])
def test_a_receiver_that_sends_a_byte_at_a_time_is_given_up(monkeypatch, caplog, first, seconds):
    """The deadline is for the whole exchange, not for each byte of it."""
    monkeypatch.setenv(ALLOW_VARIABLE, "true")
    monkeypatch.setattr("crewmeter_cost.budgets.webhook.TIMEOUT_SECONDS", seconds)
    monkeypatch.setattr("crewmeter_cost.budgets.webhook.ATTEMPTS", 1)
    stopping = threading.Event()

    def drip(server):
        connection, _ = server.accept()
        with connection:
            try:
                connection.sendall(first)
                while not stopping.wait(0.05):
                    connection.sendall(b"H")
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        began = time.monotonic()
        with caplog.at_level(logging.WARNING):
            delivered = post(f"http://127.0.0.1:{server.getsockname()[1]}/", {})
        took = time.monotonic() - began
        stopping.set()
        thread.join(60)
    assert took < patience(10)
    assert delivered is bool(first)  # a status line of 200 is an answer, whatever follows it


def test_a_redirect_is_not_followed(receiver, monkeypatch, caplog):
    """A public host that redirects to an internal one gets nobody there."""
    monkeypatch.setenv(ALLOW_VARIABLE, "true")
    receiver.statuses = [307]
    assert not post(address(receiver), {}, sleep=lambda _: None)
    assert len(receiver.got) == 1
