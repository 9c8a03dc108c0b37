"""Helpers of the boards' tests: a seeded ledger, programs on loopback, a webhook.

A seeded ledger, programs on loopback, a webhook that keeps what it gets.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from urllib.request import urlopen

import pytest

from crewmeter_cost.demo.history.runs_by_day import history
from crewmeter_cost.ledger.store import Ledger
from crewmeter_cost.pipeline import Pipeline
from crewmeter_cost.pricing.price_book import PriceBook
from support.ports import free_port

HOSTILE = "<script>alert(1)</script>"


def seeded(url: str, *, days: int = 30, calls_per_day: int = 60) -> Ledger:
    """A ledger with the demo's history up to now.

    About 1,800 calls.
    """
    ledger = Ledger.open(url)
    pipeline = Pipeline(ledger, PriceBook.load())
    spans = iter(history(days, 1, datetime.now(UTC), calls_per_day=calls_per_day))
    while batch := list(islice(spans, 2000)):
        pipeline.ingest(batch)
    return ledger


def program(*names: str) -> str:
    """The first of these programs that is installed.

    Skips by name where none is.
    """
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.skip(f"{names[0]} is not installed")


def until(ask: Callable[[], object], *, seconds: float = 120, what: str = "it"):
    """What `ask` says once it says something true.

    Fails after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if answer := ask():
                return answer
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def get_json(url: str):
    with urlopen(url, timeout=60) as answer:
        return json.load(answer)


@contextmanager
def running(
    command: list[str], *, ready: str, log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program on loopback, from when `ready` answers until the block ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
        try:
            until(
                lambda: process.poll() is not None or urlopen(ready, timeout=30).status == 200,
                what=f"{command[0]} ready",
            )
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def sidecar(ledger: str, log: Path) -> Iterator[int]:
    """`crewmeter serve` over `ledger`.

    Gives its port.
    """
    port = free_port()
    script = str(Path(sys.executable).parent / "crewmeter")
    command = [script, "serve", "--ledger", ledger, "--http-port", str(port), "--no-grpc"]
    with running(command, ready=f"http://127.0.0.1:{port}/healthz", log=log):
        yield port


class Inbox(ThreadingHTTPServer):
    """Takes webhooks and keeps them: (path, document)."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict]] = []
        super().__init__(("127.0.0.1", 0), _Keep)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Keep(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, json.loads(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None: ...
