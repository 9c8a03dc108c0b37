"""A word that is in every prompt, answer, argument and error must not be in anything crewmeter
writes.
"""

from __future__ import annotations

import http.server
import logging
import threading
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("crewai")

from crewai.tools import tool

import crewmeter
from crewmeter.export.journal_format import journal_folder

if TYPE_CHECKING:
    from pathlib import Path

WORD = "canaryword"


@tool
def sing(q: str) -> str:
    """Sings."""
    if "fail" in q:
        raise ValueError(f"{WORD} stuck")
    return f"{WORD} sings {q}"


@pytest.fixture
def sung(worker, job, team):
    """A crew whose every text holds the word.

    Inputs, role, description, tool arguments, results, errors.
    """

    def run():
        agent = worker("{bird} keeper", tools=[sing], max_retry_limit=0)
        text = (
            f'{WORD} [[tool:sing {{"q": "{WORD}"}}]] [[tool:sing {{"q": "{WORD} fail"}}]] '
            f"[[say:{WORD} done]]"
        )
        team(job(agent, text), name="birds").kickoff(inputs={"bird": WORD})
        with pytest.raises(Exception, match="400"):
            team(job(agent, f"{WORD} [[fail:400 x9]]"), name="birds").kickoff(inputs={"bird": WORD})

    return run


@pytest.fixture
def collector():
    """An OTLP/HTTP endpoint that keeps the bytes."""
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


@pytest.fixture
def instrument():
    """`instrument`, undone after the test, also where that fails."""
    handles = []

    def make(**options):
        handles.append(crewmeter.instrument(summary=False, **options))
        return handles[-1]

    yield make
    for handle in handles:
        handle.uninstrument()


def journal_bytes(ledger: Path) -> bytes:
    """What the journals beside a ledger hold."""
    return b"".join(path.read_bytes() for path in journal_folder(ledger).iterdir())


def ledger_bytes(ledger: Path) -> bytes:
    """What the ledger, its WAL and its index of shared memory hold."""
    files = [path for path in ledger.parent.glob(f"{ledger.name}*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def test_no_content_in_ledger_bytes_or_logs(
    sung, instrument, ledger_path, collector, caplog, monkeypatch
):
    """Ledger and its WAL, journal, OTLP bytes and log lines of a run with tool errors and a
    refusal do not hold the word.
    """
    endpoint, bodies = collector
    monkeypatch.setenv("CREWMETER_LOG", "json")
    with caplog.at_level(logging.DEBUG, logger="crewmeter"):
        handle = instrument(ledger=str(ledger_path), endpoint=endpoint)
        sung()
        assert handle.flush(120)
    journaled = journal_bytes(ledger_path)
    written = ledger_bytes(ledger_path)
    handle.uninstrument()
    sent = b"".join(bodies)
    lines = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("crewmeter")
    )
    assert b"birds" in written
    assert b"birds" in journaled
    assert b"birds" in sent
    assert "birds" in lines
    for scope in (written, journaled, sent, lines.encode()):
        assert WORD.encode() not in scope
        assert b"sk-fake" not in scope


def test_captured_content_is_on_the_spans_only(sung, instrument, ledger_path, collector):
    """With capture_content prompts, answers and tool arguments are on the spans, and keys are
    still not. Neither ledger nor journal has any of it.
    """
    endpoint, bodies = collector
    handle = instrument(ledger=str(ledger_path), endpoint=endpoint, capture_content=True)
    sung()
    assert handle.flush(120)
    journaled = journal_bytes(ledger_path)
    written = ledger_bytes(ledger_path)
    handle.uninstrument()
    sent = b"".join(bodies)
    assert b"canaryword sings" in sent
    assert b"gen_ai.tool.call.arguments" in sent
    assert b"sk-fake" not in sent
    assert b"birds" in journaled
    assert WORD.encode() not in journaled
    assert b"birds" in written
    assert WORD.encode() not in written
