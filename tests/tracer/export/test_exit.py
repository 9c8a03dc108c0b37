"""What happens to spans, and to the app, when the process ends.

Every app here is a process of its own.
"""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.app import run_app
from support.patience import patience

import crewmeter
import crewmeter_cost

pytest.importorskip("crewai")

OUR_FOLDERS = [str(Path(package.__file__).parent) for package in (crewmeter, crewmeter_cost)]
"""Where the files of our frames in a traceback are."""
HEAD = """
import os, sys, time
import crewmeter
handle = crewmeter.instrument(summary=False)
from crewai import LLM
base_url = os.environ["PROVIDER_URL"] + "/v1"
llm = LLM(model="openai/gpt-4o-mini", base_url=base_url, api_key="sk-fake")
def call(n=5):
    for _ in range(n):
        llm.call("hello")
"""
TIMED = (
    HEAD
    + """
call()
time.sleep({wait})
open({mark!r}, "w").write(repr(time.time()))
"""
)


@pytest.fixture
def black_hole():
    """A port that accepts connections and never says a word."""
    server = socket.create_server(("127.0.0.1", 0), backlog=100)
    taken: list[socket.socket] = []

    def accept():
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for connection in taken:
        connection.close()


def exit_seconds(script, mark, **more):
    """How long the app took from its last line to its end (s), and what it said on stderr."""
    ran = run_app(script, **more)
    return time.time() - float(mark.read_text()), ran.stderr


@pytest.fixture(scope="module")
def bare_exit(tmp_path_factory):
    """What the app's exit takes without us (s)."""
    from crewmeter_cost.demo.fake_provider import FakeProvider

    folder = tmp_path_factory.mktemp("bare")
    plain = TIMED.format(wait=0, mark=str(folder / "mark")).replace(
        "handle = crewmeter.instrument(summary=False)", ""
    )
    with FakeProvider() as fake_provider:
        return exit_seconds(
            plain, folder / "mark", ledger=folder / "ledger.db", provider_url=fake_provider.url
        )[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "protocol", ["http/protobuf", pytest.param("grpc", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", [pytest.param("refused", marks=pytest.mark.slow), "black hole"])
def test_a_dead_endpoint_costs_less_than_two_seconds_at_exit(
    fake_provider, tmp_path, black_hole, bare_exit, protocol, kind
):
    """Whether it refuses or swallows, right after the calls.

    One line says how many spans were lost, and the app ends.
    """
    mark, ledger = tmp_path / "mark", tmp_path / "ledger.db"
    script = TIMED.format(wait=0, mark=str(mark))
    port = black_hole if kind == "black hole" else 9
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
    }
    metered, said = exit_seconds(
        script, mark, ledger=ledger, provider_url=fake_provider.url, env=env
    )
    assert metered - bare_exit < patience(2)
    assert said.count("5 spans not delivered") == 1
    assert said.count("crewmeter") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "end", [pytest.param("os._exit(7)", marks=pytest.mark.slow), "os.kill(os.getpid(), 9)"]
)
def test_calls_half_a_second_old_survive_a_sudden_death(fake_provider, tmp_path, end):
    """Neither exit handler nor flush runs; what ended 0.5 s earlier is in the ledger."""
    ran = run_app(
        HEAD + f"call(1); time.sleep({patience(2)}); call(20); time.sleep({patience(0.5)}); {end}",
        ledger=tmp_path / "l.db",
        provider_url=fake_provider.url,
        check=False,
    )
    assert ran.returncode in (7, -9)
    assert len(ran.calls) == 21


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param("sys.exit(3)", 3, marks=pytest.mark.slow),
        ("raise RuntimeError('boom')", 1),
        pytest.param("os.kill(os.getpid(), 15); time.sleep(9)", -15, marks=pytest.mark.slow),
        pytest.param("", 0, marks=pytest.mark.slow),
    ],
)
def test_the_app_ends_as_it_would_without_us(fake_provider, tmp_path, end, code):
    """Exit codes, tracebacks and the default SIGTERM are the app's; orderly ends lose nothing."""
    ran = run_app(
        HEAD + f"call(3)\n{end}\n",
        ledger=tmp_path / "l.db",
        provider_url=fake_provider.url,
        check=False,
    )
    assert ran.returncode == code
    assert ("boom" in ran.stderr) == (code == 1)
    lines = ran.stderr.splitlines()
    # The app's own path may have our name in it, where the checkout or its home has.
    frames = [line for line in lines if line.lstrip().startswith('File "')]
    assert not [frame for frame in frames for folder in OUR_FOLDERS if folder in frame]
    assert not [line for line in lines if line not in frames and "crewmeter" in line]
    if code >= 0:
        assert len(ran.calls) == 3


SHORT = """
import os, crewmeter
crewmeter.instrument(summary=False)
import openai
client = openai.OpenAI(base_url=os.environ["PROVIDER_URL"] + "/v1", api_key="k", max_retries=0)
with crewmeter.attribute(user="ann"):
    client.chat.completions.create(model="gpt-4o-mini", messages=[dict(role="user", content="x")])
"""


@pytest.fixture
def busy_machine():
    """More processes that only compute than there are processors."""
    loop = [sys.executable, "-c", "while True: pass"]
    computing = [subprocess.Popen(loop) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for process in computing:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.usefixtures("busy_machine")
def test_a_short_script_on_a_busy_machine_delivers_its_only_span(fake_provider, tmp_path):
    """It never imports CrewAI, and ends before the exporter has been imported."""
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PROVIDER_URL": fake_provider.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_address[1]}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    # Not `run_app`, whose apps have everything imported already.
    done = subprocess.run(
        [sys.executable, "-c", SHORT], env=environment, capture_output=True, text=True, check=False
    )
    collector.shutdown()
    collector.server_close()
    assert done.returncode == 0, done.stderr
    assert "not delivered" not in done.stderr
    assert b"gpt-4o-mini" in b"".join(map(_plain, bodies))


def _plain(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


@pytest.mark.slow
def test_open_spans_are_closed_as_abandoned_at_exit(fake_provider, tmp_path):
    """A crew that never comes back is in the ledger, marked, with the calls it made."""
    ran = run_app(
        HEAD
        + """
from crewai import Agent, Crew, Task
from crewai.tools import tool
@tool
def leave(q: str) -> str:
    "Leaves the process."
    sys.exit(0)
agent = Agent(role="Quitter", goal="g", backstory="b", llm=llm, tools=[leave])
task = Task(description='[[tool:leave {"q": "x"}]]', expected_output="x", agent=agent)
Crew(agents=[agent], tasks=[task], name="q").kickoff()
""",
        ledger=tmp_path / "l.db",
        provider_url=fake_provider.url,
        check=False,
    )
    assert {step["kind"] for step in ran.steps} == {"crew", "task", "agent", "tool"}
    assert len(ran.calls) == 1


@pytest.mark.slow
def test_a_forked_child_sends_its_own_calls_only(fake_provider, tmp_path):
    """Parent and child share the ledger.

    Nothing of the parent's is sent twice, nothing of the child's is lost.
    """
    ran = run_app(
        HEAD
        + """
call(2)
pid = os.fork()
if pid == 0:
    call(3)
    print("child", handle.flush(5), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
call(1)
""",
        ledger=tmp_path / "l.db",
        provider_url=fake_provider.url,
    )
    assert "child True" in ran.stdout
    assert len(ran.calls) == len(fake_provider.billing_log.billed) == 6
    assert len({call["span_id"] for call in ran.calls}) == 6
