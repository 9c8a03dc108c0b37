"""`crewmeter alerts test` against a server that speaks Alertmanager's API v2."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crewmeter_cost.cli import main

CONFIG = """
route: {receiver: on-call}
receivers:
  - name: on-call
    slack_configs: [{channel: "#crews"}]
  - name: nobody
"""


class Alertmanager:
    """What was posted, and the receiver that alerts are routed to."""

    def __init__(self) -> None:
        self.posted: list[dict] = []
        self.receiver = "on-call"
        manager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                manager.posted += json.loads(self.rfile.read(length))
                self.answer(b"")

            def do_GET(self) -> None:
                if self.path.startswith("/api/v2/status"):
                    document: object = {"config": {"original": CONFIG}}
                else:
                    alerts = manager.posted
                    receivers = [{"name": manager.receiver}] if manager.receiver else []
                    document = [{**alert, "receivers": receivers} for alert in alerts]
                self.answer(json.dumps(document).encode())

            def answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def alertmanager():
    running = Alertmanager()
    yield running
    running.close()


def run(monkeypatch, capsys, *words: str):
    monkeypatch.setattr(sys, "argv", ["crewmeter", "alerts", "test", *words])
    code = 0
    try:
        main()
    except SystemExit as done:
        code = int(done.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_an_alert_is_sent_and_its_receiver_named(alertmanager, monkeypatch, capsys):
    """One alert with labels, texts and an end arrives; the output says who receives it."""
    code, out, _ = run(monkeypatch, capsys, "--url", alertmanager.url, "--crew", "research")
    assert code == 0
    [alert] = alertmanager.posted
    assert alert["labels"]["alertname"] == "CrewMeterTest"
    assert alert["labels"]["crew"] == "research"
    assert alert["endsAt"] > alert["startsAt"]
    assert "receiver on-call: notified" in out


@pytest.mark.parametrize("receiver", ["nobody", ""])
def test_an_alert_that_nobody_gets_is_a_failure(alertmanager, monkeypatch, capsys, receiver):
    """A receiver without an integration, or none at all: exit 1 with the way out."""
    alertmanager.receiver = receiver
    code, out, err = run(monkeypatch, capsys, "--url", alertmanager.url, "--format", "json")
    assert code == 1
    assert json.loads(out)["silent_receivers"] == ([receiver] if receiver else [])
    assert "no receiver notifies anybody" in err


def test_an_alertmanager_that_is_not_there_is_named(monkeypatch, capsys):
    """Exit 1 with the address; an address without a scheme is wrong usage."""
    code, _, err = run(monkeypatch, capsys, "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "no Alertmanager answers at http://127.0.0.1:9" in err
    code, _, err = run(monkeypatch, capsys, "--url", "localhost:9093")
    assert code == 2
    assert "has no scheme" in err
