"""A word that is in every prompt, answer, argument and error must not be in anything crewmeter
writes.
"""

from __future__ import annotations

import http.server
import logging
import threading

import pytest

pytest.importorskip("crewai")

from crewai.tools import tool

import crewmeter

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


def test_no_content_in_ledger_bytes_or_logs(sung, ledger_path, collector, caplog, monkeypatch):
    """Ledger and its WAL, OTLP bytes and log lines of a run with tool errors and a refusal do not
    hold the word.
    """
    endpoint, bodies = collector
    monkeypatch.setenv("CREWMETER_LOG", "json")
    with caplog.at_level(logging.DEBUG, logger="crewmeter"):
        handle = crewmeter.instrument(ledger=str(ledger_path), endpoint=endpoint, summary=False)
        sung()
        assert handle.flush(20)
    written = b"".join(path.read_bytes() for path in ledger_path.parent.glob("ledger.db*"))
    handle.uninstrument()
    sent = b"".join(bodies)
    lines = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("crewmeter")
    )
    assert b"birds" in written
    assert b"birds" in sent
    assert "birds" in lines
    for scope in (written, sent, lines.encode()):
        assert WORD.encode() not in scope
        assert b"sk-fake" not in scope


def test_content_is_there_when_asked_for(sung, collector):
    """With capture_content prompts, answers and tool arguments are on the spans, and keys are
    still not.
    """
    endpoint, bodies = collector
    handle = crewmeter.instrument(endpoint=endpoint, capture_content=True, summary=False)
    sung()
    assert handle.flush(20)
    handle.uninstrument()
    sent = b"".join(bodies)
    assert b"canaryword sings" in sent
    assert b"gen_ai.tool.call.arguments" in sent
    assert b"sk-fake" not in sent
