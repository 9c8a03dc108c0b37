"""No prompt, answer or tool argument leaves the app unless requested; keys never do."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.app import run_app
from support.apps_python import APPS_PYTHON, has
from support.play_apps import APPS

from crewmeter_cost.demo.fake_provider import FakeProvider

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has("crewai"), reason="crewai is not installed"),
]

CANARY = b"CANARY"


@pytest.fixture
def collector():
    """An OTLP/HTTP receiver that keeps every body it is sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            bodies.append(
                gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            )
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def _play(tmp_path, **env):
    with FakeProvider() as fake_provider:
        log = tmp_path / "crewmeter.log"
        extra = {"CANARY_LOG": str(log), "CREWMETER_LOG": "json", **env}
        ran = run_app(
            APPS / "play.py",
            "canary",
            ledger=tmp_path / "ledger.db",
            provider_url=fake_provider.url,
            python=APPS_PYTHON,
            env=extra,
        )
        assert fake_provider.billing_log.calls >= 4
        assert len(fake_provider.billing_log.refused) == 1
    assert '"error": null' in ran.stdout
    return ran, log.read_bytes()


def test_the_ledger_and_the_log_keep_no_content(tmp_path):
    """Prompts, answers, tool arguments, results and errors, inputs and keys stand neither in the
    database, its WAL nor the log.
    """
    ran, log = _play(tmp_path)
    files = sorted(tmp_path.glob("ledger.db*"))
    assert len(ran.calls) >= 4
    assert log
    assert [path.name for path in files if CANARY in path.read_bytes()] == []
    assert CANARY not in log


def test_otlp_carries_no_content(tmp_path, collector):
    """The same holds for every byte sent to an OTLP endpoint."""
    url, bodies = collector
    _, log = _play(
        tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"
    )
    sent = b"".join(bodies)
    assert b"gpt-4o-mini" in sent
    assert CANARY not in sent
    assert CANARY not in log


def test_content_on_request_is_scrubbed_of_keys(tmp_path, collector):
    """With content capture on, prompts travel over OTLP.

    The API key still does not, and the ledger keeps no content at all.
    """
    url, bodies = collector
    _play(
        tmp_path,
        CREWMETER_CAPTURE_CONTENT="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )
    sent = b"".join(bodies)
    assert b"CANARY-prompt" in sent
    assert b"CANARY-key" not in sent


def _printed(ledger, *arguments: str) -> str:
    """Return what a command prints about the ledger."""
    script = str(Path(sys.executable).with_name("crewmeter"))
    command = [script, *arguments, "--ledger", str(ledger)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout + done.stderr


def test_stored_content_is_printed_by_one_option_only(tmp_path):
    """Captured and stored, prompts, answers and arguments are in a file of their own.

    `show --content` prints them. No other command does, and the API key is nowhere.
    """
    _, log = _play(tmp_path, CREWMETER_CAPTURE_CONTENT="true", CREWMETER_CONTENT="store")
    ledger = tmp_path / "ledger.db"
    printed = _printed(ledger, "show", "last", "--content")
    words = ("prompt", "answer", "argument", "tool-result", "tool-error", "backstory")
    assert [word for word in words if f"CANARY-{word}" not in printed] == []
    assert "CANARY-key" not in printed
    document = json.loads(_printed(ledger, "show", "last", "--content", "--format", "json"))
    assert (
        "CANARY-input"
        in document["tree"]["children"][0]["children"][0]["content"]["input_messages"]
    )
    elsewhere = (
        ("show", "last"),
        ("show", "last", "--format", "json"),
        ("runs", "--format", "json"),
        ("report", "--by", "task", "--format", "json"),
        ("export", "--format", "jsonl"),
        ("export", "--format", "csv"),
        ("export", "--format", "focus"),
    )
    for arguments in elsewhere:
        assert "CANARY" not in _printed(ledger, *arguments), arguments
    for path in tmp_path.glob("ledger.db*"):
        written = path.read_bytes()
        assert b"CANARY-key" not in written, path.name
        assert (CANARY in written) == (path.name == "ledger.db.content"), path.name
    assert CANARY not in log
